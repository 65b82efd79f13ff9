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
#if METAL_CANDLE_HAS_CUDA
namespace cuda {
Backend& cuda_backend(int index);  // cuda/cuda_backend.cpp
int count_devices();
}  // namespace cuda
#endif
#if METAL_CANDLE_HAS_METAL
namespace metal {
Backend& metal_backend(int index);  // metal/metal_backend.cpp
int count_devices();                // metal/metal_device.cpp
}  // namespace metal
#endif

namespace {
std::atomic<StepObserver*> current_observer{nullptr};

constexpr std::size_t kMaxDevices = 16;  // Of a type.
std::atomic<Backend*> backends[3][kMaxDevices];

std::atomic<Backend*>& backend_slot(Device device) {
  if (device.index >= kMaxDevices) {
    throw DeviceError(fmt::format("{}: there is no such device", to_string(device)));
  }
  return backends[static_cast<std::size_t>(device.type)][device.index];
}

Backend& make_backend(Device device) {
  if (device == Device::cpu()) return cpu::cpu_backend();
#if METAL_CANDLE_HAS_CUDA
  if (device.type == DeviceType::kCuda) return cuda::cuda_backend(device.index);
#else
  if (device.type == DeviceType::kCuda) {
    throw DeviceError(fmt::format(
        "{}: this metal-candle was built without CUDA; build it where nvcc is, or use cpu",
        to_string(device)));
  }
#endif
#if METAL_CANDLE_HAS_METAL
  if (device.type == DeviceType::kMetal) return metal::metal_backend(device.index);
#else
  if (device.type == DeviceType::kMetal) {
    throw DeviceError(
        fmt::format("{}: this metal-candle was built without Metal; build it on macOS, or use cpu",
                    to_string(device)));
  }
#endif
  throw DeviceError(fmt::format("{}: there is no such device", to_string(device)));
}

}  // namespace

Backend& backend_for(Device device) {
  std::atomic<Backend*>& slot = backend_slot(device);
  if (Backend* backend = slot.load(std::memory_order_acquire)) return *backend;
  Backend& backend = make_backend(device);
  slot.store(&backend, std::memory_order_release);
  return backend;
}

void set_backend(Device device, Backend* backend) {
  backend_slot(device).store(backend, std::memory_order_release);
}

std::vector<Backend*> backends_in_use() {
  std::vector<Backend*> all;
  for (auto& of_type : backends) {
    for (const std::atomic<Backend*>& slot : of_type) {
      if (Backend* backend = slot.load(std::memory_order_acquire)) all.push_back(backend);
    }
  }
  return all;
}

std::vector<Device> devices() {
  std::vector<Device> all{Device::cpu()};
#if METAL_CANDLE_HAS_CUDA
  for (int i = 0; i < cuda::count_devices(); ++i) {
    all.push_back({DeviceType::kCuda, static_cast<std::uint8_t>(i)});
  }
#endif
#if METAL_CANDLE_HAS_METAL
  for (int i = 0; i < metal::count_devices(); ++i) {
    all.push_back({DeviceType::kMetal, static_cast<std::uint8_t>(i)});
  }
#endif
  return all;
}

void set_step_observer(StepObserver* value) {
  current_observer.store(value, std::memory_order_release);
}
StepObserver* step_observer() { return current_observer.load(std::memory_order_acquire); }

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace metal_candle::backend

#if METAL_CANDLE_HAS_METAL
namespace metal_candle::detail {
bool has_metal_device();
bool has_metal_device() { return backend::metal::count_devices() > 0; }
}  // namespace metal_candle::detail
#endif
