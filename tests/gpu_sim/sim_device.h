// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A GPU in software: kernels of backend/gpu compiled for the host and run as fibres (fibres.h), in
// host memory. It stands where CUDA and Metal stand, so that everything above them is tested
// without one.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/gpu/wave_encoder.h"

namespace metal_candle::gpu_sim {

/// How many grids have run in this process.
[[nodiscard]] std::uint64_t grids_run();

class SimDevice final : public backend::gpu::GpuDevice {
 public:
  [[nodiscard]] const backend::gpu::DeviceLimits& limits() const override { return limits_; }
  const backend::gpu::Function& function(std::string_view name) override;
  /// With the compiler of the host, as a library that is loaded: a fraction of a second each.
  const backend::gpu::Function& compile(std::string_view name, const std::string& source) override;
  /// Names and texts of many, in one go: compile() finds them then. For tests of many kernels.
  using Source = std::pair<std::string, std::string>;
  void compile_together(std::span<const Source> sources);
  std::shared_ptr<const backend::gpu::Matmul> make_matmul(
      const backend::gpu::MatmulDescription& description) override;

  void describe(const backend::gpu::BoxedMatrix& matrix, TileMap& out) const override;

  backend::gpu::DeviceLimits& mutable_limits() { return limits_; }
  /// None, until it stands for a device.
  [[nodiscard]] const backend::Tuning& tuning() const override {
    return device_ ? backend::tuning(*device_) : GpuDevice::tuning();
  }
  void stand_for(Device device) { device_ = device; }

 private:
  backend::gpu::DeviceLimits limits_{
      .multiprocessors = 4, .max_group_bytes = 99 << 10, .few_rows = 8};
  std::optional<Device> device_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<backend::gpu::Function>, std::less<>> functions_;
};

/// Runs what is encoded at once. Stateless.
class SimEncoder final : public backend::gpu::WaveSink {
 public:
  void begin_group() override {}
  void next_serves(std::span<const std::uint32_t>, std::size_t) override {}
  void zero(void* address, std::size_t bytes) override;
  void matmul(const backend::gpu::Matmul& product,
              const backend::gpu::MatmulOperands& operands) override;
  void dispatch_bytes(const backend::gpu::Function& function, backend::gpu::Grid grid,
                      std::uint32_t threads, std::uint32_t dynamic_group_bytes,
                      const void* arguments, std::size_t bytes) override;
};

}  // namespace metal_candle::gpu_sim
