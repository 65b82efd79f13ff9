// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See gpu_device.h.
#include "metal_candle/backend/gpu/gpu_device.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::gpu {

const Tuning& GpuDevice::tuning() const {
  static const Tuning none;
  return none;
}

void GpuDevice::describe(const BoxedMatrix&, TileMap&) const {
  throw DeviceError("this device does not copy by descriptions");
}

std::shared_ptr<const Matmul> require_matmul(GpuDevice& device, const MatmulDescription& d,
                                             std::string_view operation) {
  std::shared_ptr<const Matmul> product = device.make_matmul(d);
  if (product) return product;
  throw DeviceError(fmt::format("{}: the library has no product of [{}, {}] and [{}, {}] of {}",
                                operation, d.m, d.k, d.k, d.n, name(d.operands)));
}

}  // namespace metal_candle::backend::gpu
