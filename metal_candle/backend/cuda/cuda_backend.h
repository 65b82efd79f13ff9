// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The CUDA backend: the kernels of backend/gpu, cuBLASLt's products, and command buffers that
// become CUDA graphs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "metal_candle/backend/cuda/cuda_device.h"
#include "metal_candle/backend/cuda/cuda_queue.h"
#include "metal_candle/backend/gpu/gpu_backend.h"
#include "metal_candle/backend/pool_allocator.h"
#include "metal_candle/backend/slab_source.h"

namespace metal_candle::backend::cuda {

class CudaBackend final : public gpu::GpuBackend {
 public:
  static constexpr int kNumQueues = 4;

  explicit CudaBackend(int index);

  [[nodiscard]] Device device() const override { return {DeviceType::kCuda, index_}; }
  [[nodiscard]] BackendDescription describe() const override;
  BufferPtr allocate(std::size_t bytes) override { return allocator_.allocate(bytes); }
  BufferPtr borrow(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) override;
  void write(Buffer& buffer, std::size_t offset, std::span<const std::byte> bytes) override;
  void read(const Buffer& buffer, std::size_t offset, std::span<std::byte> bytes) override;
  [[nodiscard]] MemoryStatistics memory() const override { return allocator_.statistics(); }
  void reset_peak_memory() override { allocator_.reset_peak(); }
  void set_memory_limit(std::size_t bytes) override { allocator_.set_limit(bytes); }
  void clear_memory_cache() override { allocator_.clear_cache(); }

  CommandQueue& queue(int index) override { return cuda_queue(index); }
  [[nodiscard]] int num_queues() const override { return kNumQueues; }
  /// What cuBLASLt asks of its workspace.
  [[nodiscard]] std::size_t alignment() const override { return 256; }
  [[nodiscard]] bool wants_waves() const override { return true; }
  /// All of a plan: a graph is launched as one, and the device starts on it at once.
  [[nodiscard]] std::size_t steps_per_command_buffer() const override { return 1u << 20; }
  [[nodiscard]] QueueStatistics queue_statistics() const override;
  [[nodiscard]] gpu::GpuDevice& gpu() const override { return gpu_; }

  /// The queue that it is, or null.
  [[nodiscard]] CudaQueue* find_queue(const CompletionSource* source) const;
  /// Makes `queue` wait for the uploads so far.
  void order_after_uploads(CudaQueue& queue);
  /// Begins to prepare first uses (warm_up.h), beside what the caller does.
  void warm_up();
  /// Called as the process exits.
  void stop();

 private:
  CudaQueue& cuda_queue(int index);

  const std::uint8_t index_;
  mutable CudaDevice gpu_;
  SlabSource slabs_;  // A block of the driver's takes 70 to 260 us.
  PoolAllocator allocator_;
  mutable std::mutex queues_mutex_;
  std::array<std::unique_ptr<CudaQueue>, kNumQueues> queues_;
  std::array<std::atomic<CudaQueue*>, kNumQueues> ready_queues_{};  // Those made, without a lock.
  // Uploads have a stream of their own, so that they neither wait for work nor hold it up.
  std::mutex upload_mutex_;
  CUstream upload_stream_ = nullptr;
  CUevent uploaded_ = nullptr;
  std::atomic<std::uint64_t> uploads_{0};  // Their number.
  // Up to which number queues, and reads, know them to be done.
  std::array<std::atomic<std::uint64_t>, kNumQueues> seen_uploads_{};
  std::atomic<std::uint64_t> finished_uploads_{0};
};

}  // namespace metal_candle::backend::cuda
