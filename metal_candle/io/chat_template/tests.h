// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What `value is name(arguments)` asks.
#pragma once

#include <string_view>

#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

using TestFunction = bool (*)(Runtime&, const Value& input, CallArguments&&);

/// Null when there is no such test, or it is not supported.
[[nodiscard]] TestFunction find_test(std::string_view name);

/// Calls the test. Throws Failure when there is none.
[[nodiscard]] bool apply_test(Runtime& runtime, std::string_view name, const Value& input,
                              CallArguments&& arguments);

/// `left operation right` for ==, !=, <, <=, > and >=.
[[nodiscard]] bool apply_comparison(Runtime& runtime, std::string_view operation, const Value& left,
                                    const Value& right);

}  // namespace metal_candle::jinja
