// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Which backends there are, and the observer that they all report steps to.
#include "metal_candle/backend/registry.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>

#include "metal_candle/core/error.h"

namespace metal_candle::backend {

namespace cpu {
Backend& cpu_backend();  // cpu/cpu_backend.cpp
}

namespace {
std::atomic<StepObserver*> current_observer{nullptr};
}

Backend& backend_for(Device device) {
  if (device.type == DeviceType::kCpu) return cpu::cpu_backend();
  throw DeviceError(fmt::format("{}: this build of metal-candle has no backend for it; use cpu",
                                to_string(device)));
}

void set_step_observer(StepObserver* observer) {
  current_observer.store(observer, std::memory_order_release);
}
StepObserver* step_observer() { return current_observer.load(std::memory_order_acquire); }

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace metal_candle::backend
