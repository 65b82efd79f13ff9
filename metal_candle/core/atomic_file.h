// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Writing files so that a reader, or a crash, sees the old contents or the new, never half of them.
#pragma once

#include <string>
#include <string_view>

namespace metal_candle {

/// Writes a temporary file beside `path`, syncs it, renames it over `path` and syncs the folder.
/// Throws IoError naming the file and the system's reason; `path` is then as it was.
void write_file_atomically(const std::string& path, std::string_view contents);

}  // namespace metal_candle
