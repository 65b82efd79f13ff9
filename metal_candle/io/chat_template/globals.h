// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The functions that templates find without being given them.
#pragma once

#include <optional>
#include <string_view>

#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

/// range, dict, namespace, raise_exception or strftime_now; nothing for other names. Those that
/// Jinja has beyond these are functions that throw Failure when called.
[[nodiscard]] std::optional<Value> find_global(Runtime& runtime, std::string_view name);

}  // namespace metal_candle::jinja
