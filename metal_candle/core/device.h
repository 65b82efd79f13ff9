// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The name of a device. What a device can do is in backend/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace metal_candle {

enum class DeviceType : std::uint8_t { kCpu, kCuda, kMetal };

/// A device by type and index: `Device::cpu()`, `Device{DeviceType::kCuda, 0}`.
struct Device {
  DeviceType type = DeviceType::kCpu;
  std::uint8_t index = 0;

  static constexpr Device cpu() { return {}; }
  friend bool operator==(Device, Device) = default;
};

/// "cpu", "cuda:0", "metal:0".
[[nodiscard]] std::string to_string(Device device);

/// The inverse of to_string(); the index defaults to 0. Throws DeviceError.
[[nodiscard]] Device parse_device(std::string_view text);

/// Where tensors are made that are not told where: METAL_CANDLE_DEVICE, else the GPU of an Apple
/// silicon Mac, else the CPU. Throws DeviceError if there is no such device. Thread safe.
[[nodiscard]] Device default_device();
void set_default_device(Device device);

}  // namespace metal_candle
