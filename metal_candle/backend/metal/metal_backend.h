// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The Metal backend: the kernels of backend/gpu, products by simdgroup matrices, and command
// buffers that are replayed from indirect ones.
#pragma once

#include <array>
#include <memory>
#include <mutex>

#include "metal_candle/backend/gpu/gpu_backend.h"
#include "metal_candle/backend/metal/metal_device.h"
#include "metal_candle/backend/metal/metal_queue.h"
#include "metal_candle/backend/pool_allocator.h"

namespace metal_candle::backend::metal {

class MetalBackend final : public gpu::GpuBackend {
 public:
  static constexpr int kNumQueues = 4;

  explicit MetalBackend(int index);

  [[nodiscard]] Device device() const override { return {DeviceType::kMetal, index_}; }
  [[nodiscard]] BackendDescription describe() const override;
  BufferPtr allocate(std::size_t bytes) override;
  /// The memory itself if it begins at a multiple of 16 bytes, else a copy.
  BufferPtr borrow(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) override;
  void write(Buffer& buffer, std::size_t offset, std::span<const std::byte> bytes) override;
  void read(const Buffer& buffer, std::size_t offset, std::span<std::byte> bytes) override;
  [[nodiscard]] MemoryStatistics memory() const override { return allocator_.statistics(); }
  void reset_peak_memory() override { allocator_.reset_peak(); }
  void set_memory_limit(std::size_t bytes) override { allocator_.set_limit(bytes); }
  void clear_memory_cache() override { allocator_.clear_cache(); }
  [[nodiscard]] std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) const override;

  CommandQueue& queue(int index) override { return metal_queue(index); }
  [[nodiscard]] int num_queues() const override { return kNumQueues; }
  [[nodiscard]] std::size_t alignment() const override { return kAlignment; }
  [[nodiscard]] bool wants_waves() const override { return true; }
  /// The device begins on a buffer when it is committed, so a plan is cut in some.
  [[nodiscard]] std::size_t steps_per_command_buffer() const override { return 64; }
  [[nodiscard]] QueueStatistics queue_statistics() const override;
  [[nodiscard]] gpu::GpuDevice& gpu() const override { return gpu_; }

  MetalQueue& metal_queue(int index);
  /// The queue that it is, or null.
  [[nodiscard]] MetalQueue* find_queue(const CompletionSource* source) const;
  /// Of all queues together.
  [[nodiscard]] ReplayStatistics replay_statistics() const;
  /// Called as the process exits.
  void stop();

 private:
  static constexpr std::size_t kAlignment = 256;  // As kernels want their scratch.

  const std::uint8_t index_;
  mutable MetalDevice gpu_;
  PoolAllocator allocator_;
  mutable std::mutex queues_mutex_;
  std::array<std::unique_ptr<MetalQueue>, kNumQueues> queues_;
};

}  // namespace metal_candle::backend::metal
