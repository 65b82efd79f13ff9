// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Device names as text.
#include "metal_candle/core/device.h"

#include <fmt/format.h>

#include <atomic>
#include <charconv>
#include <cstdlib>

#include "metal_candle/core/error.h"

namespace metal_candle {

#if METAL_CANDLE_HAS_METAL
namespace detail {
bool has_metal_device();  // backend/registry.cpp
}
#endif

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

// Two bytes of one atomic, so that type and index change together.
std::uint16_t packed(Device device) {
  return static_cast<std::uint16_t>(static_cast<unsigned>(device.type) << 8 | device.index);
}

Device first_default() {
  if (const char* text = std::getenv("METAL_CANDLE_DEVICE")) return parse_device(text);
#if METAL_CANDLE_HAS_METAL
  if (detail::has_metal_device()) return {DeviceType::kMetal, 0};
#endif
  return Device::cpu();
}

std::atomic<std::uint16_t>& default_slot() {
  static std::atomic<std::uint16_t> slot = packed(first_default());
  return slot;
}

}  // namespace

Device default_device() {
  const std::uint16_t value = default_slot().load(std::memory_order_relaxed);
  return {static_cast<DeviceType>(value >> 8), static_cast<std::uint8_t>(value)};
}

void set_default_device(Device device) {
  default_slot().store(packed(device), std::memory_order_relaxed);
}

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
