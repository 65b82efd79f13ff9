// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

/// `left operation right` for + - * / // % **, with Python's results. Integers have 64 bits; beyond
/// them, and for operands that do not fit, Failure is thrown.
[[nodiscard]] Value apply_binary(Runtime& runtime, std::string_view operation, const Value& left,
                                 const Value& right);

/// `+value` or `-value`.
[[nodiscard]] Value apply_sign(char sign, const Value& value);

}  // namespace metal_candle::jinja
