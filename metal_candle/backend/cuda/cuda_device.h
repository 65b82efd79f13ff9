// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// One NVIDIA GPU: its context, its limits, and the kernels compiled for it.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metal_candle/backend/cuda/background_thread.h"
#include "metal_candle/backend/cuda/cuda_matmul.h"
#include "metal_candle/backend/cuda/kernel_compiler.h"
#include "metal_candle/backend/cuda/libraries.h"
#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/pool_allocator.h"

namespace metal_candle::backend::cuda {

class CudaDevice;

/// Loaded when it is first dispatched: the driver takes 16 us for it, and of the variants that a
/// kernel may dispatch few are.
class CudaFunction final : public gpu::Function {
 public:
  /// Null if the library has no kernel of that name.
  static std::unique_ptr<CudaFunction> find(const CudaDevice& device, CUlibrary library,
                                            std::string name);
  [[nodiscard]] CUfunction handle() const {
    const CUfunction handle = handle_.load(std::memory_order_acquire);
    return handle != nullptr ? handle : load();
  }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const gpu::Function* merged() const override;
  /// What is asked for that when it is first wanted, if it is not of this function's library.
  using MakeMerged = std::function<std::shared_ptr<const gpu::PendingFunction>()>;
  void set_merged(MakeMerged make) { make_merged_ = std::move(make); }
  /// Lets dispatches ask for more group memory than every device has.
  void allow_group_bytes(std::uint32_t bytes) const;

 private:
  CudaFunction(const CudaDevice& device, CUlibrary library, CUkernel kernel, std::string name)
      : device_(device), library_(library), kernel_(kernel), name_(std::move(name)) {}
  CUfunction load() const;

  const CudaDevice& device_;
  const CUlibrary library_;
  const CUkernel kernel_;
  const std::string name_;
  mutable std::atomic<CUfunction> handle_{nullptr};
  MakeMerged make_merged_;
  mutable std::once_flag merged_made_;
  mutable std::unique_ptr<CudaFunction> merged_;
  mutable std::shared_ptr<const gpu::PendingFunction> merged_later_;
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
  /// On a thread of this device's; at once if METAL_CANDLE_COMPILE says "now", or if NVRTC is not
  /// of the toolkit that this library was built with.
  std::shared_ptr<const gpu::PendingFunction> compile_later(std::string_view name,
                                                            const std::string& source) override;
  std::uint64_t finish_compiling() override;
  /// On the same thread. `task` throws nothing.
  void in_background(std::function<void()> task) { background_.add(std::move(task)); }
  /// Begins what warm_up.h says, there too.
  void warm_up();
  /// Waits for the task in the background, if there is one, and forgets others that were to come.
  void stop_compiling();
  std::shared_ptr<const gpu::Matmul> make_matmul(
      const gpu::MatmulDescription& description) override;
  void describe(const gpu::BoxedMatrix& matrix, TileMap& out) const override;

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
  // A kernel of a text, and who wants it.
  struct Generated {
    std::unique_ptr<CudaFunction> function;
    std::shared_ptr<gpu::PendingFunction> pending;
  };
  static std::string key_of(const KernelText& text);
  // Makes a function of what a text was compiled to, and delivers it; unless there is one.
  const CudaFunction& keep(const KernelText& text, const std::vector<char>& image);
  // At once where it was compiled before. What fails is told by what this returns.
  std::shared_ptr<const gpu::PendingFunction> request(const KernelText& text);

  const Device id_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  gpu::DeviceLimits limits_;
  std::size_t total_memory_ = 0;
  cublasLtHandle_t cublas_ = nullptr;
  std::atomic<bool> abandoned_{false};
  std::mutex mutex_;
  CUlibrary library_ = nullptr;  // The kernels compiled with ours.
  std::map<std::string, std::unique_ptr<CudaFunction>, std::less<>> functions_;  // By name.
  std::map<std::string, Generated> generated_;
  ProductCache products_;
  std::optional<KernelCompiler> compiler_;
  bool compiles_at_once_;
  BackgroundThread background_;  // Last, so that it ends before what it uses.
};

}  // namespace metal_candle::backend::cuda
