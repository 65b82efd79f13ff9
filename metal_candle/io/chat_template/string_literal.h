// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace metal_candle::jinja {

/// What a string literal stands for, given what is between its quotes: Python's escapes, of which
/// unknown ones stay as they are. Throws Failure for malformed ones.
[[nodiscard]] std::string read_string_literal(std::string_view literal, int line);

}  // namespace metal_candle::jinja
