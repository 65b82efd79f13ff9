// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// One NVIDIA GPU: its context, its limits, and the kernels compiled for it.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "metal_candle/backend/cuda/cuda_matmul.h"
#include "metal_candle/backend/cuda/libraries.h"
#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/pool_allocator.h"

namespace metal_candle::backend::cuda {

class CudaFunction final : public gpu::Function {
 public:
  CudaFunction(CUfunction handle, std::string name) : handle_(handle), name_(std::move(name)) {}
  [[nodiscard]] CUfunction handle() const { return handle_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const gpu::Function* merged() const override { return merged_.get(); }
  void set_merged(std::unique_ptr<CudaFunction> merged) { merged_ = std::move(merged); }
  /// Lets dispatches ask for more group memory than every device has.
  void allow_group_bytes(std::uint32_t bytes) const;

 private:
  CUfunction handle_;
  std::string name_;
  std::unique_ptr<CudaFunction> merged_;
  mutable std::mutex mutex_;
  mutable std::uint32_t allowed_group_bytes_ = 48 << 10;
};

class CudaDevice final : public gpu::GpuDevice, public BlockSource {
 public:
  /// Throws DeviceError if the machine has no such GPU, naming those it has.
  explicit CudaDevice(int index);

  [[nodiscard]] const Tuning& tuning() const override { return backend::tuning(id_); }
  [[nodiscard]] const gpu::DeviceLimits& limits() const override { return limits_; }
  const gpu::Function& function(std::string_view name) override;
  const gpu::Function& compile(std::string_view name, const std::string& source) override;
  std::shared_ptr<const gpu::Matmul> make_matmul(
      const gpu::MatmulDescription& description) override;

  void* obtain(std::size_t size) override;
  void give_back(void* block) override;

  /// From now on memory is not given back: the driver may be gone when static objects let go.
  void abandon_memory() { abandoned_.store(true, std::memory_order_relaxed); }

  /// Makes the context current on this thread, as every call of the driver needs.
  void enter() const;
  [[nodiscard]] std::string name() const;
  [[nodiscard]] std::size_t total_memory() const { return total_memory_; }
  [[nodiscard]] cublasLtHandle_t cublas() const { return cublas_; }

 private:
  const Device id_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  gpu::DeviceLimits limits_;
  std::size_t total_memory_ = 0;
  cublasLtHandle_t cublas_ = nullptr;
  std::atomic<bool> abandoned_{false};
  std::mutex mutex_;
  CUlibrary library_ = nullptr;  // The kernels compiled with ours.
  // By name, or by source.
  std::map<std::string, std::unique_ptr<CudaFunction>, std::less<>> functions_;
  ProductCache products_;
};

}  // namespace metal_candle::backend::cuda
