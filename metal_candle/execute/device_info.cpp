// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Devices, described by their backends.
#include "metal_candle/execute/device_info.h"

#include <utility>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/registry.h"

namespace metal_candle {

DeviceInfo device_info(Device device) {
  backend::Backend& backend = backend::backend_for(device);
  backend::BackendDescription description = backend.describe();
  return {device,
          std::move(description.device),
          std::move(description.instructions),
          description.threads,
          backend.memory().limit,
          backend.num_queues(),
          std::move(description.libraries)};
}

std::vector<Device> available_devices() { return backend::devices(); }

}  // namespace metal_candle
