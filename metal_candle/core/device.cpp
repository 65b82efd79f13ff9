// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Device names as text.
#include "metal_candle/core/device.h"

#include <fmt/format.h>

#include <charconv>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

std::string_view type_name(DeviceType type) {
  switch (type) {
    case DeviceType::kCpu:
      return "cpu";
    case DeviceType::kCuda:
      return "cuda";
    case DeviceType::kMetal:
      return "metal";
  }
  return "unknown";
}

}  // namespace

std::string to_string(Device device) {
  if (device == Device::cpu()) return "cpu";
  return fmt::format("{}:{}", type_name(device.type), device.index);
}

Device parse_device(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view type_text = text.substr(0, colon);
  for (const DeviceType type : {DeviceType::kCpu, DeviceType::kCuda, DeviceType::kMetal}) {
    if (type_text != type_name(type)) continue;
    if (colon == std::string_view::npos) return {type, 0};
    const std::string_view digits = text.substr(colon + 1);
    std::uint8_t index = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error == std::errc() && end == digits.data() + digits.size()) return {type, index};
    break;
  }
  throw DeviceError(fmt::format(
      "'{}' is not a device: expected cpu, cuda or metal, with an optional index as in cuda:0",
      text));
}

}  // namespace metal_candle
