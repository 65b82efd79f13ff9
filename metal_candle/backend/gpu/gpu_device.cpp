// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See gpu_device.h.
#include "metal_candle/backend/gpu/gpu_device.h"

#include <fmt/format.h>

#include <utility>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::gpu {

const Tuning& GpuDevice::tuning() const {
  static const Tuning none;
  return none;
}

const Function* PendingFunction::get() const {
  const Function* function = function_.load(std::memory_order_acquire);
  if (function == nullptr && failed_.load(std::memory_order_acquire)) throw DeviceError(reason_);
  return function;
}

void PendingFunction::deliver(const Function& function) {
  function_.store(&function, std::memory_order_release);
}

void PendingFunction::fail(std::string reason) {
  reason_ = std::move(reason);
  failed_.store(true, std::memory_order_release);
}

std::shared_ptr<const PendingFunction> GpuDevice::compile_later(std::string_view name,
                                                                const std::string& source) {
  auto pending = std::make_shared<PendingFunction>();
  pending->deliver(compile(name, source));
  return pending;
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
