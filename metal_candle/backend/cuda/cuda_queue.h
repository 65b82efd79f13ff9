// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Command queues of the CUDA backend: one stream each, and a thread that tells whoever waits.
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
#include "metal_candle/backend/cuda/command_list.h"
#include "metal_candle/backend/cuda/cuda_device.h"
#include "metal_candle/backend/cuda/graph_cache.h"
#include "metal_candle/backend/gpu/step_labels.h"

namespace metal_candle::backend::cuda {

class CudaCommandBuffer final : public CommandBuffer {
 public:
  void encode(const Kernel& kernel, std::span<const BufferRegion> inputs,
              std::span<const BufferRegion> outputs, BufferRegion scratch,
              const StepLabel& label) override;
  void begin_wave() override;
  [[nodiscard]] std::size_t size() const override { return steps_.size(); }
  void clear();

  /// To be called when all has been encoded.
  void finish() { waves_.end_wave(list_); }
  [[nodiscard]] const CommandList& list() const { return list_; }
  /// What a command does: one step, several as one, or a part of one.
  [[nodiscard]] StepLabel label_of(const Command& command) const {
    return steps_.of_command(list_.steps_of(command), command.begun);
  }
  /// "matmul [2, 3] ... to softmax [2]": for errors, which the device does not place closer.
  [[nodiscard]] std::string describe() const { return steps_.describe(); }

 private:
  gpu::WaveEncoder waves_;
  bool in_wave_ = false;
  CommandList list_;
  gpu::StepLabels steps_;
  std::vector<void*> addresses_;
};

class CudaBackend;

class CudaQueue final : public CommandQueue {
 public:
  /// Commits beyond this many unfinished buffers wait. More than on the CPU: the device may be done
  /// with many small ones before the thread that watches it has looked once.
  static constexpr std::size_t kMaxPending = 128;

  CudaQueue(int index, CudaDevice& device, CudaBackend& backend);
  ~CudaQueue() override;
  [[nodiscard]] int index() const override { return index_; }
  std::unique_ptr<CommandBuffer> make_command_buffer() override;
  void commit(std::unique_ptr<CommandBuffer> buffer, std::span<const CompletionPtr> dependencies,
              CompletionHandler on_complete) override;
  [[nodiscard]] bool idle() const override { return pending_.load(std::memory_order_acquire) == 0; }
  /// Launches it and waits, without the other thread.
  bool run_inline(std::unique_ptr<CommandBuffer>& buffer) override;
  void synchronize() override;
  void hasten(const Completion& completion) override;
  /// Waits for what is running and ends the thread. Called as the process exits.
  void stop();

  /// What is committed here from now on runs after what has been committed to `other`...
  void wait_for(CudaQueue& other);
  /// ...and after the event.
  void wait_for(CUevent event);
  [[nodiscard]] QueueStatistics statistics() const;

 private:
  struct Work {
    std::unique_ptr<CommandBuffer> buffer;
    CompletionHandler on_complete;
    std::vector<CUevent> times;  // Around each command, when steps are observed.
  };
  void open();
  void submit(Work& work);
  void launch_observed(Work& work);
  void report(Work& work, CUevent last, std::int64_t last_ns);
  bool add_pending(Work work);
  bool put_mark(std::uint64_t end);
  void wait_for_room();
  void give_back(std::vector<std::unique_ptr<CommandBuffer>> buffers);
  void watch();
  bool finish_some(CUevent event, bool spin);
  bool deliver_marked();
  [[nodiscard]] bool has_marks() const;
  void deliver(std::uint64_t end, const std::exception_ptr& error);

  const int index_;
  CudaDevice& device_;
  CudaBackend& backend_;
  std::once_flag opened_;
  CUstream stream_ = nullptr;
  CUstream capture_stream_ = nullptr;
  CUevent ordering_ = nullptr;  // Of wait_for().

  // Held while something is put on the stream, which takes microseconds: nobody else needs it.
  mutable std::mutex stream_mutex_;
  GraphCache graphs_;
  // Events on the stream: behind a work of some length, so that who waits for it does not wait for
  // the next one too; of small ones, behind one in so many. A thread that commits many sees by them
  // which are done, and tidies up after those itself. Another thread that did it would free what
  // this one allocates, and look at the device while it launches.
  static constexpr std::size_t kWorksAMark = 16;
  static constexpr std::size_t kStepsWorthAMark = 8;
  struct Mark {
    CUevent event;
    std::uint64_t end;  // The number of the work that it stands before.
  };
  std::deque<Mark> marks_;
  std::vector<CUevent> spare_marks_;

  mutable std::mutex mutex_;  // Guards what follows; taken after stream_mutex_.
  std::condition_variable work_arrived_;
  std::condition_variable work_finished_;
  std::deque<Work> work_;       // On the stream, in order.
  std::uint64_t first_ = 0;     // The number of the first in work_.
  std::exception_ptr failure_;  // Of the device, which then runs nothing any more.
  std::vector<std::unique_ptr<CommandBuffer>> free_;
  QueueStatistics statistics_;
  bool stopping_ = false;
  bool watcher_sleeps_ = false;
  std::atomic<std::size_t> pending_{0};  // Changed under mutex_.
  std::thread watcher_;                  // Started by the first commit.
};

}  // namespace metal_candle::backend::cuda
