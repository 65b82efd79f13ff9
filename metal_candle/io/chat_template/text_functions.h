// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "metal_candle/io/chat_template/runtime.h"

namespace metal_candle::jinja {

/// text.replace(from, to, limit); a negative limit replaces all.
[[nodiscard]] Value replace_text(Runtime& runtime, const Text& text, std::string_view from,
                                 std::string_view to, std::int64_t limit);

}  // namespace metal_candle::jinja
