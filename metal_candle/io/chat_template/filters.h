// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What `value | name(arguments)` calls.
#pragma once

#include <string_view>

#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

using FilterFunction = Value (*)(Runtime&, const Value& input, CallArguments&&);

/// Null when there is no such filter, or it is not supported.
[[nodiscard]] FilterFunction find_filter(std::string_view name);

/// Calls the filter. Throws Failure when there is none.
[[nodiscard]] Value apply_filter(Runtime& runtime, std::string_view name, const Value& input,
                                 CallArguments&& arguments);

// By subject; each is null for other names.
[[nodiscard]] FilterFunction find_text_filter(std::string_view name);
[[nodiscard]] FilterFunction find_sequence_filter(std::string_view name);

}  // namespace metal_candle::jinja
