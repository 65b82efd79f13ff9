// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cpu_queue.h.
#include "metal_candle/backend/cpu/cpu_queue.h"

#include <fmt/format.h>

#include <cstdlib>
#include <utility>

#include "metal_candle/backend/cpu/cpu_backend.h"
#include "metal_candle/core/error.h"
#include "metal_candle/core/host_observer.h"

namespace metal_candle::backend::cpu {
namespace {

void* address(const BufferRegion& region) {
  return region.buffer == nullptr
             ? nullptr
             : static_cast<std::byte*>(region.buffer->contents()) + region.offset;
}

// The error of a kernel, with the step it came from; its type is kept.
std::exception_ptr describe_error(const StepLabel& label) {
  const auto text = [&](const std::exception& e) {
    return fmt::format("{} {}: {}", label.name, label.detail, e.what());
  };
  try {
    throw;
  } catch (const OutOfMemoryError& e) {
    return std::make_exception_ptr(OutOfMemoryError(text(e)));
  } catch (const std::bad_alloc& e) {
    return std::make_exception_ptr(OutOfMemoryError(text(e)));
  } catch (const std::exception& e) {
    return std::make_exception_ptr(DeviceError(text(e)));
  }
}

// Work may be in flight when the process exits.
void stop_workers_at_exit() {
  static std::once_flag once;
  std::call_once(once, [] { std::atexit([] { cpu_backend_instance().stop(); }); });
}

}  // namespace

void CpuCommandBuffer::encode(const Kernel& kernel, std::span<const BufferRegion> inputs,
                              std::span<const BufferRegion> outputs, BufferRegion scratch,
                              const StepLabel& label) {
  commands_.push_back({static_cast<const CpuKernel*>(&kernel), &label, address(scratch),
                       static_cast<std::uint32_t>(addresses_.size()),
                       static_cast<std::uint32_t>(inputs.size()),
                       static_cast<std::uint32_t>(outputs.size())});
  for (const BufferRegion& region : inputs) addresses_.push_back(address(region));
  for (const BufferRegion& region : outputs) addresses_.push_back(address(region));
}

void CpuCommandBuffer::run(int queue) const {
  StepObserver* observer = step_observer();
  for (const Command& command : commands_) {
    void* const* first = addresses_.data() + command.first_address;
    KernelArguments arguments;
    arguments.inputs = {const_cast<const void* const*>(first), command.num_inputs};
    arguments.outputs = {first + command.num_inputs, command.num_outputs};
    arguments.scratch = command.scratch;
    const std::int64_t start = observer ? now_ns() : 0;
    try {
      command.kernel->run(arguments);
    } catch (...) {
      std::rethrow_exception(describe_error(*command.label));
    }
    if (observer) observer->on_step(*command.label, queue, start, now_ns());
  }
}

void CpuCommandBuffer::clear() {
  commands_.clear();
  addresses_.clear();
}

std::unique_ptr<CpuCommandBuffer> CommandBufferPool::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    ++statistics_.buffers_made;
    return std::make_unique<CpuCommandBuffer>();
  }
  ++statistics_.buffers_reused;
  std::unique_ptr<CommandBuffer> buffer = std::move(free_.back());
  free_.pop_back();
  return std::unique_ptr<CpuCommandBuffer>(static_cast<CpuCommandBuffer*>(buffer.release()));
}

void CommandBufferPool::give_back(std::unique_ptr<CommandBuffer> buffer) {
  static_cast<CpuCommandBuffer&>(*buffer).clear();
  const std::lock_guard lock(mutex_);
  if (free_.size() < 2 * CpuQueue::kMaxPending) free_.push_back(std::move(buffer));
}

void CommandBufferPool::count(const CpuCommandBuffer& buffer, bool inline_run, bool waited) {
  const std::lock_guard lock(mutex_);
  ++statistics_.command_buffers;
  statistics_.kernels += buffer.size();
  if (inline_run) ++statistics_.inline_buffers;
  if (waited) ++statistics_.full_waits;
}

QueueStatistics CommandBufferPool::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

CpuQueue::CpuQueue(int index, CommandBufferPool& pool) : index_(index), pool_(pool) {}
CpuQueue::~CpuQueue() { stop(); }

std::unique_ptr<CommandBuffer> CpuQueue::make_command_buffer() { return pool_.take(); }

void CpuQueue::commit(std::unique_ptr<CommandBuffer> buffer,
                      std::span<const CompletionPtr> dependencies, CompletionHandler on_complete) {
  const auto& encoded = static_cast<const CpuCommandBuffer&>(*buffer);
  Work work{nullptr, {dependencies.begin(), dependencies.end()}, std::move(on_complete)};
  bool waited = false;
  {
    std::unique_lock lock(mutex_);
    while (pending_.load(std::memory_order_relaxed) >= kMaxPending && !stopping_) {
      const ScopedPhase waiting(HostPhase::kWait);
      waited = true;
      work_finished_.wait(lock);
    }
    if (stopping_) throw DeviceError("cpu: work was committed while the process was exiting");
    pool_.count(encoded, false, waited);
    work.buffer = std::move(buffer);
    pending_.fetch_add(1, std::memory_order_release);
    work_.push_back(std::move(work));
    if (!worker_.joinable()) {
      stop_workers_at_exit();
      worker_ = std::thread([this] { run_worker(); });
    }
  }
  work_arrived_.notify_one();
}

bool CpuQueue::run_inline(std::unique_ptr<CommandBuffer>& buffer) {
  auto& encoded = static_cast<CpuCommandBuffer&>(*buffer);
  pool_.count(encoded, true, false);
  try {
    const ScopedPhase computing(HostPhase::kCompute);
    encoded.run(index_);
  } catch (...) {
    pool_.give_back(std::move(buffer));
    throw;
  }
  pool_.give_back(std::move(buffer));
  return true;
}

void CpuQueue::run(Work& work) {
  std::exception_ptr error;
  for (const CompletionPtr& dependency : work.dependencies) {
    error = dependency->wait_for_error();
    if (error) break;
  }
  if (!error) {
    try {
      static_cast<const CpuCommandBuffer&>(*work.buffer).run(index_);
    } catch (...) {
      error = std::current_exception();
    }
  }
  pool_.give_back(std::move(work.buffer));
  work.on_complete(error);
}

void CpuQueue::run_worker() {
  ignore_phases_of_this_thread();
  std::unique_lock lock(mutex_);
  for (;;) {
    work_arrived_.wait(lock, [&] { return stopping_ || !work_.empty(); });
    if (stopping_) return;
    Work work = std::move(work_.front());
    work_.pop_front();
    lock.unlock();
    run(work);
    // What the handler holds (buffers, the plan) is freed before anyone is told that the queue is
    // idle.
    work = Work{};
    lock.lock();
    pending_.fetch_sub(1, std::memory_order_release);
    work_finished_.notify_all();
  }
}

void CpuQueue::synchronize() {
  std::unique_lock lock(mutex_);
  work_finished_.wait(lock, [&] { return idle() || stopping_; });
}

void CpuQueue::stop() {
  std::deque<Work> unfinished;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    unfinished.swap(work_);
  }
  work_arrived_.notify_all();
  work_finished_.notify_all();
  // Before joining: another queue's worker may be waiting for these, and ours for that queue.
  const auto error = std::make_exception_ptr(DeviceError("cpu: the process exited first"));
  for (Work& work : unfinished) work.on_complete(error);
  if (worker_.joinable()) worker_.join();
}

}  // namespace metal_candle::backend::cpu
