// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What this machine can compute on.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "metal_candle/core/device.h"

namespace metal_candle {

struct DeviceInfo {
  Device device;
  std::string name;              // "AMD EPYC".
  std::string instructions;      // The instruction set that kernels use.
  int threads = 1;               // That one operation may use.
  std::size_t memory_limit = 0;  // Bytes; see set_memory_limit().
  int queues = 1;
  std::vector<std::string> libraries;  // With versions.
};

/// Throws DeviceError if this build or this machine does not have the device.
[[nodiscard]] DeviceInfo device_info(Device device);
/// The devices that can be used.
[[nodiscard]] std::vector<Device> available_devices();

}  // namespace metal_candle
