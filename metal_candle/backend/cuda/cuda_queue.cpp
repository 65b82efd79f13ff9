// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See cuda_queue.h.
#include "metal_candle/backend/cuda/cuda_queue.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "metal_candle/backend/cuda/cuda_backend.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/pool_allocator.h"
#include "metal_candle/core/error.h"
#include "metal_candle/core/host_observer.h"

namespace metal_candle::backend::cuda {
namespace {

void* address(const BufferRegion& region) {
  if (region.buffer == nullptr) return nullptr;
  const auto& buffer = static_cast<const PoolAllocator::PooledBuffer&>(*region.buffer);
  return static_cast<std::byte*>(buffer.block()) + region.offset;
}

CUevent make_event(unsigned flags) {
  CUevent event = nullptr;
  check(driver().cuEventCreate(&event, flags), "cuEventCreate");
  return event;
}

void wait_for_event(CUevent event, bool spin) {
  if (!spin) {
    check(driver().cuEventSynchronize(event), "cuEventSynchronize");
    return;
  }
  for (;;) {
    const CUresult result = driver().cuEventQuery(event);
    if (result == CUDA_SUCCESS) return;
    if (result != CUDA_ERROR_NOT_READY) check(result, "cuEventQuery");
  }
}

// What went wrong, and where as far as is known.
std::exception_ptr placed(const std::exception_ptr& error, const CudaCommandBuffer& buffer) {
  try {
    std::rethrow_exception(error);
  } catch (const OutOfMemoryError& e) {
    return std::make_exception_ptr(
        OutOfMemoryError(fmt::format("{}: {}", buffer.describe(), e.what())));
  } catch (const std::exception& e) {
    return std::make_exception_ptr(DeviceError(fmt::format("{}: {}", buffer.describe(), e.what())));
  }
}

}  // namespace

void CudaCommandBuffer::encode(const Kernel& kernel, std::span<const BufferRegion> inputs,
                               std::span<const BufferRegion> outputs, BufferRegion scratch,
                               const StepLabel& label) {
  waves_.begin_step(static_cast<std::uint32_t>(steps_.size()));
  steps_.add(label);
  addresses_.clear();
  for (const BufferRegion& region : inputs) addresses_.push_back(address(region));
  for (const BufferRegion& region : outputs) addresses_.push_back(address(region));
  const std::span<void* const> all(addresses_);
  static_cast<const gpu::GpuKernel&>(kernel).encode(
      {all.first(inputs.size()), all.subspan(inputs.size()), address(scratch)}, waves_);
  if (!in_wave_) waves_.end_wave(list_);
}

void CudaCommandBuffer::begin_wave() {
  waves_.end_wave(list_);
  in_wave_ = true;
}

void CudaCommandBuffer::clear() {
  waves_.clear();
  in_wave_ = false;
  list_.clear();
  steps_.clear();
}

CudaQueue::CudaQueue(int index, CudaDevice& device, CudaBackend& backend)
    : index_(index), device_(device), backend_(backend) {}

// When it is first given work: whoever only waits for all queues makes no streams.
void CudaQueue::open() {
  device_.enter();
  std::call_once(opened_, [&] {
    check(driver().cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    check(driver().cuStreamCreate(&capture_stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    ordering_ = make_event(CU_EVENT_DISABLE_TIMING);
  });
}

CudaQueue::~CudaQueue() { stop(); }

std::unique_ptr<CommandBuffer> CudaQueue::make_command_buffer() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    ++statistics_.buffers_made;
    return std::make_unique<CudaCommandBuffer>();
  }
  ++statistics_.buffers_reused;
  std::unique_ptr<CommandBuffer> buffer = std::move(free_.back());
  free_.pop_back();
  return buffer;
}

void CudaQueue::give_back(std::vector<std::unique_ptr<CommandBuffer>> buffers) {
  for (const auto& buffer : buffers) static_cast<CudaCommandBuffer&>(*buffer).clear();
  const std::lock_guard lock(mutex_);
  for (auto& buffer : buffers) {
    if (free_.size() < 2 * kMaxPending) free_.push_back(std::move(buffer));
  }
}

// Holding stream_mutex_. Whatever the device says once, it says for ever: a failed launch spoils
// the context.
void CudaQueue::check_accepts() const {
  if (!refuses_.load(std::memory_order_acquire)) return;
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  throw DeviceError("cuda: work was committed while the process was exiting");
}

// Holding stream_mutex_.
void CudaQueue::launch(Work& work) {
  const auto& buffer = static_cast<const CudaCommandBuffer&>(*work.buffer);
  ++launches_.command_buffers;
  launches_.kernels += buffer.size();
  check_accepts();
  if (step_observer() != nullptr) {
    launch_observed(work);
  } else {
    graphs_.run(buffer.list(), stream_, capture_stream_);
  }
}

void CudaQueue::launch_observed(Work& work) {
  const auto& buffer = static_cast<const CudaCommandBuffer&>(*work.buffer);
  const auto mark = [&] {
    work.times.push_back(make_event(CU_EVENT_DEFAULT));
    check(driver().cuEventRecord(work.times.back(), stream_), "cuEventRecord");
  };
  mark();
  for (const Command& command : buffer.list().commands()) {
    const std::size_t markers =
        metal_candle::detail::push_range(buffer.label_of(command).name.c_str());
    buffer.list().launch(command, stream_);
    metal_candle::detail::pop_range(markers);
    mark();
  }
}

// Times of the device, placed so that `last`, of this work or of a later one, was at `last_ns`.
void CudaQueue::report(Work& work, CUevent last, std::int64_t last_ns) {
  if (work.times.empty()) return;
  const auto& buffer = static_cast<const CudaCommandBuffer&>(*work.buffer);
  const auto time_of = [&](std::size_t i) {
    float milliseconds = 0;
    driver().cuEventElapsedTime(&milliseconds, work.times[i], last);
    return last_ns - static_cast<std::int64_t>(static_cast<double>(milliseconds) * 1e6);
  };
  if (StepObserver* observer = step_observer()) {
    const std::vector<Command>& commands = buffer.list().commands();
    for (std::size_t c = 0; c < commands.size(); ++c) {
      observer->on_step(buffer.label_of(commands[c]), index_, time_of(c), time_of(c + 1));
    }
  }
  for (CUevent event : work.times) driver().cuEventDestroy(event);
  work.times.clear();
}

void CudaQueue::commit(std::unique_ptr<CommandBuffer> buffer,
                       std::span<const CompletionPtr> dependencies, CompletionHandler on_complete) {
  open();
  static_cast<CudaCommandBuffer&>(*buffer).finish();
  backend_.order_after_uploads(*this);
  std::exception_ptr error;
  for (const CompletionPtr& dependency : dependencies) {
    // What runs on this stream is in order, another stream can be waited for by this one; for
    // anything else this thread waits.
    if (!dependency->ready()) {
      if (dependency->source() == this) continue;
      if (CudaQueue* other = backend_.find_queue(dependency->source())) {
        wait_for(*other);
        continue;
      }
    }
    if ((error = dependency->wait_for_error())) break;
  }
  Work work{std::move(buffer), std::move(on_complete), {}};
  if (error) return work.on_complete(error);
  wait_for_room();
  Failures failures;
  bool marked = false;
  {
    const std::lock_guard lock(stream_mutex_);
    if (may_hold(work)) {
      marked = hold(std::move(work), failures);
    } else {
      marked = launch_held(failures);
      try {
        launch(work);
        marked = add_launched({&work, 1}, /*announced=*/0) || marked;
      } catch (...) {
        failures.add(std::move(work), std::current_exception());
      }
    }
  }
  tell(failures);
  if (marked) deliver_marked();
}

// Of a launch that failed; to be told without a lock.
void CudaQueue::Failures::add(Work work, const std::exception_ptr& error) {
  std::exception_ptr own = placed(error, static_cast<const CudaCommandBuffer&>(*work.buffer));
  all.emplace_back(std::move(work), std::move(own));
}

void CudaQueue::tell(Failures& failures) {
  for (auto& [work, error] : failures.all) {
    work.on_complete(error);
    work.on_complete = nullptr;
  }
  if (failures.announced == 0) return;
  {
    const std::lock_guard lock(mutex_);
    pending_.fetch_sub(failures.announced, std::memory_order_release);
  }
  work_finished_.notify_all();
}

// Holding stream_mutex_.
bool CudaQueue::may_hold(const Work& work) const {
  const auto& buffer = static_cast<const CudaCommandBuffer&>(*work.buffer);
  return buffer.list().commands().size() <= kCommandsOfHeld &&
         pending_.load(std::memory_order_acquire) >= kPendingBeforeHold &&
         step_observer() == nullptr;
}

// Holding stream_mutex_. Whether a mark was put on the stream.
bool CudaQueue::hold(Work work, Failures& failures) {
  held_list_.append(static_cast<const CudaCommandBuffer&>(*work.buffer).list());
  held_.push_back(std::move(work));
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    wake = add_pending(1);
  }
  if (wake) work_arrived_.notify_one();
  return held_.size() == kWorksTogether && launch_held(failures);
}

// Holding stream_mutex_. Whether a mark was put on the stream.
bool CudaQueue::launch_held(Failures& failures) {
  if (held_.empty()) return false;
  std::size_t launched = 0;
  std::exception_ptr error;
  try {
    check_accepts();
    if (held_.size() > 1 && graphs_.run_together(held_list_, stream_, capture_stream_)) {
      launched = held_.size();
      launches_.command_buffers += launched;
      for (const Work& work : held_) launches_.kernels += work.buffer->size();
    }
    for (; launched < held_.size(); ++launched) launch(held_[launched]);
  } catch (...) {
    // Those after it may need what it was to give.
    error = std::current_exception();
  }
  const bool marked = add_launched(std::span(held_).first(launched), launched);
  for (std::size_t i = launched; i < held_.size(); ++i) {
    failures.add(std::move(held_[i]), error);
    ++failures.announced;
  }
  held_.clear();
  held_list_.clear();
  return marked;
}

void CudaQueue::launch_held() {
  Failures failures;
  {
    const std::lock_guard lock(stream_mutex_);
    launch_held(failures);
  }
  tell(failures);
}

// Holding mutex_. Whether the watcher is to be woken.
bool CudaQueue::add_pending(std::size_t count) {
  if (count == 0) return false;
  pending_.fetch_add(count, std::memory_order_release);
  if (!watcher_.joinable()) watcher_ = std::thread([this] { watch(); });
  return watcher_sleeps_;
}

// Holding stream_mutex_, after the works, of which so many had been announced as pending, were put
// on the stream. Whether a mark was put behind them.
bool CudaQueue::add_launched(std::span<Work> works, std::size_t announced) {
  if (works.empty()) return false;
  const bool long_one = works.back().buffer->size() >= kStepsWorthAMark;
  std::uint64_t end = 0;
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    for (Work& work : works) work_.push_back(std::move(work));
    end = first_ + work_.size();
    wake = add_pending(works.size() - announced);
  }
  if (wake) work_arrived_.notify_one();
  const bool passes_a_mark = end / kWorksAMark != (end - works.size()) / kWorksAMark;
  return (long_one || passes_a_mark) && put_mark(end);
}

// Holding stream_mutex_, when works before `end` are on the stream. They are delivered without a
// mark, too, so that nothing is said where none can be made.
bool CudaQueue::put_mark(std::uint64_t end) {
  CUevent event = nullptr;
  if (!spare_marks_.empty()) {
    event = spare_marks_.back();
    spare_marks_.pop_back();
  } else if (driver().cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) != CUDA_SUCCESS) {
    return false;
  }
  marks_.push_back({event, end});
  // Where this fails the stream has failed, which whoever looks at the event is told.
  driver().cuEventRecord(event, stream_);
  return true;
}

// What the device has passed a mark behind. Whether there was any.
bool CudaQueue::deliver_marked() {
  std::uint64_t end = 0;
  {
    const std::lock_guard stream_lock(stream_mutex_);
    while (!marks_.empty() && driver().cuEventQuery(marks_.front().event) == CUDA_SUCCESS) {
      end = marks_.front().end;
      spare_marks_.push_back(marks_.front().event);
      marks_.pop_front();
    }
  }
  if (end > 0) deliver(end, nullptr);
  return end > 0;
}

bool CudaQueue::has_marks() const {
  const std::lock_guard lock(stream_mutex_);
  return !marks_.empty();
}

void CudaQueue::wait_for_room() {
  const auto full = [&] { return pending_.load(std::memory_order_acquire) >= kMaxPending; };
  if (!full()) return;
  {
    const std::lock_guard lock(mutex_);
    ++statistics_.full_waits;
  }
  const ScopedPhase waiting(HostPhase::kWait);
  while (full()) {
    if (!deliver_marked()) std::this_thread::yield();
    const std::lock_guard lock(mutex_);
    if (stopping_ || failure_) return;  // check_accepts() tells.
  }
}

bool CudaQueue::run_inline(std::unique_ptr<CommandBuffer>& buffer) {
  open();
  static_cast<CudaCommandBuffer&>(*buffer).finish();
  backend_.order_after_uploads(*this);
  Work work{std::move(buffer), {}, {}};
  const auto& encoded = static_cast<const CudaCommandBuffer&>(*work.buffer);
  try {
    {
      const std::lock_guard stream_lock(stream_mutex_);
      launch(work);
    }
    const ScopedPhase waiting(HostPhase::kWait);
    check(driver().cuStreamSynchronize(stream_), "cuStreamSynchronize");
  } catch (...) {
    const std::exception_ptr error = placed(std::current_exception(), encoded);
    const std::lock_guard lock(mutex_);
    if (driver().cuStreamSynchronize(stream_) != CUDA_SUCCESS) fail(error);
    std::rethrow_exception(error);
  }
  if (!work.times.empty()) report(work, work.times.back(), now_ns());
  static_cast<CudaCommandBuffer&>(*work.buffer).clear();
  const std::lock_guard lock(mutex_);
  ++statistics_.inline_buffers;
  if (free_.size() < 2 * kMaxPending) free_.push_back(std::move(work.buffer));
  return true;
}

// Waits for all that is on the stream now, with one event, and tells whoever waits. Any number of
// threads may do this at once. Returns false when there is nothing.
bool CudaQueue::finish_some(CUevent event, bool spin) {
  std::uint64_t end = 0;
  std::exception_ptr error;
  Failures failures;
  {
    const std::lock_guard stream_lock(stream_mutex_);
    launch_held(failures);
    {
      const std::lock_guard lock(mutex_);
      if (!work_.empty()) end = first_ + work_.size();
      error = failure_;
    }
    // What is in work_ was put on the stream before.
    if (end > 0 && !error && driver().cuEventRecord(event, stream_) != CUDA_SUCCESS) {
      error = std::make_exception_ptr(DeviceError("cuda: the stream has failed"));
    }
  }
  const bool any = end > 0 || !failures.all.empty();
  tell(failures);
  if (end == 0) return any;
  if (!error) {
    try {
      wait_for_event(event, spin);
    } catch (...) {
      error = std::current_exception();
    }
  }
  deliver(end, error);
  return true;
}

// Holding mutex_.
void CudaQueue::fail(const std::exception_ptr& error) {
  failure_ = error;
  refuses_.store(true, std::memory_order_release);
}

// Tells those who wait for works before `end`. The device is done with them, or has failed.
void CudaQueue::deliver(std::uint64_t end, const std::exception_ptr& error) {
  std::vector<Work> done;
  {
    const std::lock_guard lock(mutex_);
    if (error && !failure_) fail(error);
    // Another thread may have been quicker.
    if (first_ < end) done.reserve(static_cast<std::size_t>(end - first_));
    for (; first_ < end && !work_.empty(); ++first_) {
      done.push_back(std::move(work_.front()));
      work_.pop_front();
    }
  }
  if (done.empty()) return;
  const std::int64_t now = now_ns();
  CUevent last = nullptr;
  for (const Work& work : done) {
    if (!work.times.empty()) last = work.times.back();
  }
  std::vector<std::unique_ptr<CommandBuffer>> buffers;
  buffers.reserve(done.size());
  for (Work& work : done) {
    if (!error) report(work, last, now);
    const std::exception_ptr own =
        error ? placed(error, static_cast<const CudaCommandBuffer&>(*work.buffer)) : nullptr;
    buffers.push_back(std::move(work.buffer));
    work.on_complete(own);
    work.on_complete = nullptr;  // What it holds goes before anyone hears that the queue is idle.
  }
  give_back(std::move(buffers));
  {
    const std::lock_guard lock(mutex_);
    pending_.fetch_sub(done.size(), std::memory_order_release);
  }
  work_finished_.notify_all();
}

namespace {

// Until `done` says so, for so long at most.
template <typename Fn>
void spin_for(std::int64_t nanoseconds, Fn done) {
  const std::int64_t start = now_ns();
  while (!done() && now_ns() - start < nanoseconds) {
    std::this_thread::yield();
  }
}

}  // namespace

// Whoever gives the device work should not be held up by this thread: to be woken costs the waker
// microseconds, so it stays awake between works; and each look at the device gets in the way of
// launches, as what it frees gets in the way of allocations. So it leaves works to the thread that
// commits them for as long as that goes on committing, and to who waits for one of them.
void CudaQueue::watch() {
  constexpr std::int64_t kAwake = 200'000;
  constexpr std::int64_t kQuiet = 20'000;
  ignore_phases_of_this_thread();
  device_.enter();
  const CUevent event = make_event(CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC);
  const auto pending = [&] { return pending_.load(std::memory_order_acquire); };
  for (;;) {
    spin_for(kAwake, [&] { return pending() > 0; });
    {
      std::unique_lock lock(mutex_);
      watcher_sleeps_ = true;
      work_arrived_.wait(lock, [&] { return stopping_ || pending() > 0; });
      watcher_sleeps_ = false;
      if (pending() == 0) return;
    }
    for (std::size_t before = 0; before != pending();) {
      before = pending();
      spin_for(kQuiet, [&] { return pending() != before; });
    }
    if (pending() > 0) finish_some(event, /*spin=*/false);
  }
}

void CudaQueue::hasten(const Completion& completion) {
  device_.enter();
  thread_local std::map<const CudaDevice*, CUevent> events;
  CUevent& event = events[&device_];
  if (event == nullptr) event = make_event(CU_EVENT_DISABLE_TIMING);
  launch_held();
  while (!completion.ready()) {
    if (deliver_marked() || has_marks()) continue;
    if (!finish_some(event, /*spin=*/true)) return;
  }
}

void CudaQueue::synchronize() {
  launch_held();
  std::unique_lock lock(mutex_);
  work_finished_.wait(lock, [&] { return idle() || stopping_; });
}

void CudaQueue::stop() {
  launch_held();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    refuses_.store(true, std::memory_order_release);
  }
  work_arrived_.notify_all();
  work_finished_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

void CudaQueue::wait_for(CUevent event) {
  device_.enter();
  launch_held();
  const std::lock_guard lock(stream_mutex_);
  check(driver().cuStreamWaitEvent(stream_, event, 0), "cuStreamWaitEvent");
}

void CudaQueue::wait_for(CudaQueue& other) {
  device_.enter();
  launch_held();
  other.launch_held();
  const std::scoped_lock lock(stream_mutex_, other.stream_mutex_);
  check(driver().cuEventRecord(ordering_, other.stream_), "cuEventRecord");
  check(driver().cuStreamWaitEvent(stream_, ordering_, 0), "cuStreamWaitEvent");
}

QueueStatistics CudaQueue::statistics() const {
  const std::scoped_lock lock(stream_mutex_, mutex_);
  QueueStatistics result = statistics_;
  result.command_buffers = launches_.command_buffers;
  result.kernels = launches_.kernels;
  const GraphStatistics& graphs = graphs_.statistics();
  result.graphs_made = graphs.made;
  result.graph_launches = graphs.launched;
  result.graphs_repointed = graphs.repointed;
  result.nodes_repointed = graphs.nodes_repointed;
  result.direct_launches = graphs.direct;
  return result;
}

}  // namespace metal_candle::backend::cuda
