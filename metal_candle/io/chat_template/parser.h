// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "metal_candle/io/chat_template/ast.h"

namespace metal_candle::jinja {

/// Parses a template. Throws Failure with the line for bad syntax, for constructs outside the
/// subset, and for nesting so deep that rendering would need much stack.
[[nodiscard]] Body parse(std::string_view source);

}  // namespace metal_candle::jinja
