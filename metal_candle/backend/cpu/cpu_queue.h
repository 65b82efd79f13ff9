// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Command queues of the CPU backend: one worker thread each, which runs command buffers in order.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "metal_candle/backend/backend.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"

namespace metal_candle::backend::cpu {

class CpuCommandBuffer final : public CommandBuffer {
 public:
  void encode(const Kernel& kernel, std::span<const BufferRegion> inputs,
              std::span<const BufferRegion> outputs, BufferRegion scratch,
              const StepLabel& label) override;
  [[nodiscard]] std::size_t size() const override { return commands_.size(); }
  /// Runs every kernel, in order, on this thread. An error says which operation it came from.
  void run(int queue) const;
  /// Forgets what was encoded; keeps the memory.
  void clear();

 private:
  struct Command {
    const CpuKernel* kernel;
    const StepLabel* label;
    void* scratch;
    std::uint32_t first_address;  // Into addresses_: inputs, then outputs.
    std::uint32_t num_inputs;
    std::uint32_t num_outputs;
  };
  std::vector<Command> commands_;
  std::vector<void*> addresses_;
};

/// Command buffers that wait to be used again, and counters: shared by all queues.
class CommandBufferPool {
 public:
  std::unique_ptr<CpuCommandBuffer> take();
  void give_back(std::unique_ptr<CommandBuffer> buffer);
  [[nodiscard]] QueueStatistics statistics() const;
  void count(const CpuCommandBuffer& buffer, bool inline_run, bool waited);

 private:
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<CommandBuffer>> free_;
  QueueStatistics statistics_;
};

class CpuQueue final : public CommandQueue {
 public:
  /// Commits beyond this many unfinished buffers wait.
  static constexpr std::size_t kMaxPending = 16;

  CpuQueue(int index, CommandBufferPool& pool);
  ~CpuQueue() override;
  [[nodiscard]] int index() const override { return index_; }
  std::unique_ptr<CommandBuffer> make_command_buffer() override;
  void commit(std::unique_ptr<CommandBuffer> buffer, std::span<const CompletionPtr> dependencies,
              CompletionHandler on_complete) override;
  [[nodiscard]] bool idle() const override { return pending_.load(std::memory_order_acquire) == 0; }
  bool run_inline(std::unique_ptr<CommandBuffer>& buffer) override;
  void synchronize() override;
  /// Finishes the buffer that is running, fails the others and ends the worker. Called as the
  /// process exits.
  void stop();

 private:
  struct Work {
    std::unique_ptr<CommandBuffer> buffer;
    std::vector<CompletionPtr> dependencies;
    CompletionHandler on_complete;
  };
  void run_worker();
  void run(Work& work);

  const int index_;
  CommandBufferPool& pool_;
  std::atomic<std::size_t> pending_{0};  // Committed and unfinished. Changed under mutex_.
  std::mutex mutex_;
  std::condition_variable work_arrived_;
  std::condition_variable work_finished_;
  std::deque<Work> work_;
  bool stopping_ = false;
  std::thread worker_;  // Started by the first commit.
};

}  // namespace metal_candle::backend::cpu
