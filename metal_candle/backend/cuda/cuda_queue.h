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
#include <span>
#include <thread>
#include <utility>
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
  // Works of one thread or several that could not be launched, to be told so.
  struct Failures {
    std::vector<std::pair<Work, std::exception_ptr>> all;
    std::size_t announced = 0;  // Of them, those that were pending.

    void add(Work work, const std::exception_ptr& error);
  };
  void open();
  void check_accepts() const;
  void launch(Work& work);
  [[nodiscard]] bool may_hold(const Work& work) const;
  bool hold(Work work, Failures& failures);
  bool launch_held(Failures& failures);
  void launch_held();
  void tell(Failures& failures);
  void launch_observed(Work& work);
  void report(Work& work, CUevent last, std::int64_t last_ns);
  bool add_pending(std::size_t count);
  bool add_launched(std::span<Work> works, std::size_t announced);
  bool put_mark(std::uint64_t end);
  void wait_for_room();
  void give_back(std::vector<std::unique_ptr<CommandBuffer>> buffers);
  void watch();
  bool finish_some(CUevent event, bool spin);
  bool deliver_marked();
  [[nodiscard]] bool has_marks() const;
  void deliver(std::uint64_t end, const std::exception_ptr& error);
  void fail(const std::exception_ptr& error);

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
  // While the device has enough to do, works of a few commands wait for each other, to be launched
  // as one graph: launching takes the host longer than such a work takes the device. They are
  // launched when there are enough of them, before anything else is, and when anyone waits.
  static constexpr std::size_t kWorksTogether = 8;
  static constexpr std::size_t kCommandsOfHeld = 4;     // At most.
  static constexpr std::size_t kPendingBeforeHold = 6;  // At least.
  std::vector<Work> held_;
  CommandList held_list_;
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

  QueueStatistics launches_;  // Of what was launched.

  mutable std::mutex mutex_;  // Guards what follows; taken after stream_mutex_.
  std::condition_variable work_arrived_;
  std::condition_variable work_finished_;
  std::deque<Work> work_;       // On the stream, in order; those that are held come after.
  std::uint64_t first_ = 0;     // The number of the first in work_.
  std::exception_ptr failure_;  // Of the device, which then runs nothing any more.
  std::vector<std::unique_ptr<CommandBuffer>> free_;
  QueueStatistics statistics_;
  bool stopping_ = false;
  bool watcher_sleeps_ = false;
  std::thread watcher_;               // Started by the first commit.
  std::atomic<bool> refuses_{false};  // There is a failure_, or it is stopping_.
  // Changed under mutex_. The watcher looks at this all the time: alone in its cache line, it does
  // not take what committing needs away.
  alignas(64) std::atomic<std::size_t> pending_{0};
};

}  // namespace metal_candle::backend::cuda
