// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The CPU backend: kernels with Highway and oneDNN, run by worker threads or by the caller.
#pragma once

#include <array>
#include <memory>
#include <mutex>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/cpu/cpu_queue.h"
#include "metal_candle/backend/cpu/host_memory.h"
#include "metal_candle/backend/pool_allocator.h"

namespace metal_candle::backend::cpu {

class CpuBackend final : public Backend {
 public:
  static constexpr int kNumQueues = 4;
  /// A buffer costs a lock and a wake-up when committed, a few microseconds, so this many small
  /// kernels keep that under a tenth; yet the first of many buffers starts while the next are being
  /// encoded.
  static constexpr std::size_t kStepsPerBuffer = 32;

  [[nodiscard]] Device device() const override { return Device::cpu(); }
  [[nodiscard]] BackendDescription describe() const override;
  BufferPtr allocate(std::size_t bytes) override { return allocator_.allocate(bytes); }
  void write(Buffer& buffer, std::size_t offset, std::span<const std::byte> bytes) override;
  void read(const Buffer& buffer, std::size_t offset, std::span<std::byte> bytes) override;
  BufferPtr borrow(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) override;
  [[nodiscard]] MemoryStatistics memory() const override { return allocator_.statistics(); }
  void reset_peak_memory() override { allocator_.reset_peak(); }
  void set_memory_limit(std::size_t bytes) override { allocator_.set_limit(bytes); }
  void clear_memory_cache() override { allocator_.clear_cache(); }

  [[nodiscard]] bool supports(const Operation& operation,
                              std::span<const TensorSpec> inputs) const override;
  [[nodiscard]] InputLayout input_layout(const Operation& operation, int input) const override;
  [[nodiscard]] bool can_run_in_place(const Operation& operation, int input,
                                      int output) const override;
  [[nodiscard]] std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) const override;

  CommandQueue& queue(int index) override;
  [[nodiscard]] std::size_t steps_per_command_buffer() const override;
  [[nodiscard]] std::size_t bytes_worth_a_queue() const override { return 64 << 10; }
  [[nodiscard]] int num_queues() const override { return kNumQueues; }
  [[nodiscard]] QueueStatistics queue_statistics() const override { return pool_.statistics(); }

  [[nodiscard]] PoolAllocator& allocator() { return allocator_; }
  /// Ends the workers. Called as the process exits.
  void stop();

 private:
  HostMemory host_memory_;
  PoolAllocator allocator_{"cpu", host_memory_, true, HostMemory::physical(),
                           HostMemory::physical() / 8};
  CommandBufferPool pool_;
  std::mutex queues_mutex_;
  std::array<std::unique_ptr<CpuQueue>, kNumQueues> queues_;
};

/// The one instance. Never destroyed: work may be in flight while the process exits.
CpuBackend& cpu_backend_instance();

}  // namespace metal_candle::backend::cpu
