// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Two texts in one input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace metal_candle {

/// What is before the first NUL, and after it; without one, `otherwise` is the second.
inline std::pair<std::string_view, std::string_view> split_input(const std::uint8_t* data,
                                                                 std::size_t size,
                                                                 std::string_view otherwise) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\0');
  if (end == std::string_view::npos) return {input, otherwise};
  return {input.substr(0, end), input.substr(end + 1)};
}

}  // namespace metal_candle
