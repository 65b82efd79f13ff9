// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The rules of who may include whom, as ARCHITECTURE.md draws them, and a checker that reads source
// files for breaches.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle::testing {

/// The breaches in one file, each as "path:line: what is wrong". `path` is relative to the
/// repository's root and says which layer the file is in; `text` is its contents.
std::vector<std::string> check_includes(std::string_view path, std::string_view text);

/// Those of every .h and .cpp file below `root`/metal_candle and `root`/cli. `files_read`, where
/// given, is set to how many those are.
std::vector<std::string> check_tree(const std::filesystem::path& root, int* files_read = nullptr);

}  // namespace metal_candle::testing
