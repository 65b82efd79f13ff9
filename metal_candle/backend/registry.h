// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The backends of this process.
#pragma once

#include <vector>

#include "metal_candle/backend/backend.h"

namespace metal_candle::backend {

/// The backend of a device, made when first asked for. Throws DeviceError if there is none. Thread
/// safe.
[[nodiscard]] Backend& backend_for(Device device);

/// Those that this machine has and this build can use. Never throws.
[[nodiscard]] std::vector<Device> devices();

/// Those that have been asked for.
[[nodiscard]] std::vector<Backend*> backends_in_use();

/// Makes `backend`, which lives until the process ends, that of a device. For tests, before the
/// device is first used.
void set_backend(Device device, Backend* backend);

}  // namespace metal_candle::backend
