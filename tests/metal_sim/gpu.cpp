// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The device at work: one thread runs committed buffers, one tells whoever handles completion.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "tests/metal_sim/internal.h"

namespace metal_sim {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::atomic<std::uint64_t> residency_changes{1};

class Gpu {
 public:
  Gpu() {
    worker_ = std::thread([this] { work(); });
    handler_ = std::thread([this] { handle(); });
    worker_.detach();
    handler_.detach();
  }

  void submit(MTL::CommandBuffer* buffer) {
    {
      const std::lock_guard lock(mutex_);
      queues_[buffer->queue.get()].push_back(NS::RetainPtr(buffer));
    }
    changed_.notify_all();
  }
  void wait_until_completed(const MTL::CommandBuffer* buffer) {
    std::unique_lock lock(mutex_);
    completed_.wait(lock,
                    [&] { return buffer->state.load() >= MTL::CommandBufferStatusCompleted; });
  }
  void notify() {
    { const std::lock_guard lock(mutex_); }
    changed_.notify_all();
  }
  void pause(bool paused) {
    {
      const std::lock_guard lock(mutex_);
      paused_ = paused;
    }
    changed_.notify_all();
  }
  void fail_next(long code, std::string text) {
    const std::lock_guard lock(mutex_);
    failure_ = {code, std::move(text)};
  }
  void set_seed(std::uint32_t seed) {
    const std::lock_guard lock(mutex_);
    random_.seed(seed);
  }
  void change_residency(const std::function<void()>& change) {
    const std::lock_guard lock(mutex_);
    change();
  }

 private:
  using Committed = NS::SharedPtr<MTL::CommandBuffer>;

  static bool is_ready(const MTL::CommandBuffer& buffer) {
    return std::all_of(buffer.waits.begin(), buffer.waits.end(),
                       [](const auto& wait) { return wait.first->value.load() >= wait.second; });
  }

  // Whether a fence keeps `later` behind `earlier`.
  static bool is_fenced(const MTL::CommandBuffer& earlier, const MTL::CommandBuffer& later) {
    for (const auto& second : later.encoders) {
      const bool fenced =
          std::any_of(earlier.encoders.begin(), earlier.encoders.end(), [&](const auto& first) {
            return std::any_of(second->waits.begin(), second->waits.end(),
                               [&](const auto* fence) { return first->updates.count(fence) > 0; });
          });
      if (!fenced) return false;
    }
    return true;
  }

  // The next to run, off its queue; with it one that nothing keeps behind it, to run first.
  bool take(Committed& next, Committed& overtaking) {
    if (paused_) return false;
    std::vector<std::deque<Committed>*> ready;
    for (auto& [queue, buffers] : queues_) {
      if (!buffers.empty() && is_ready(*buffers.front().get())) ready.push_back(&buffers);
    }
    if (ready.empty()) return false;
    std::deque<Committed>& from = *ready[random_() % ready.size()];
    next = from.front();
    from.pop_front();
    if (!from.empty() && is_ready(*from.front().get()) && random_() % 2 == 0 &&
        !is_fenced(*next.get(), *from.front().get())) {
      overtaking = from.front();
      from.pop_front();
    }
    return true;
  }

  void work() {
    for (;;) {
      Committed next, overtaking;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return take(next, overtaking); });
      }
      if (overtaking) {
        ++counters().reordered;
        run(*overtaking.get());
      }
      run(*next.get());
      complete(next);
      if (overtaking) complete(overtaking);
    }
  }

  void run(MTL::CommandBuffer& buffer) {
    buffer.start = seconds();
    try {
      for (const auto& encoder : buffer.encoders) run_encoder(buffer, *encoder.get());
      const std::lock_guard lock(mutex_);
      if (failure_.code != 0) {
        buffer.error_code = failure_.code;
        buffer.error_text = std::exchange(failure_, {}).text;
      }
    } catch (const std::exception& e) {
      buffer.error_code = MTL::CommandBufferErrorPageFault;
      buffer.error_text = e.what();
    }
    buffer.end = seconds();
  }

  void run_encoder(MTL::CommandBuffer& buffer, MTL::ComputeCommandEncoder& encoder) {
    make_accessible(buffer, encoder);
    for (MTL::Segment& segment : encoder.segments) {
      std::vector<std::shared_ptr<Dispatch>> order = segment.dispatches;
      {
        const std::lock_guard lock(mutex_);
        std::shuffle(order.begin(), order.end(), random_);
      }
      for (const auto& dispatch : order) {
        ++counters().dispatches;
        counters().indirect_dispatches += dispatch->indirect ? 1 : 0;
        run_dispatch(*dispatch);
      }
    }
    for (const auto& indirect : encoder.indirect) --indirect->in_flight;
    encoder.indirect.clear();
  }

  // What is resident for this encoder can be touched, and nothing else.
  void make_accessible(const MTL::CommandBuffer& buffer,
                       const MTL::ComputeCommandEncoder& encoder) {
    hide_used();
    const std::uint64_t change = residency_changes.load();
    if (change != change_ || buffer.queue.get() != queue_) {
      change_ = change;
      queue_ = buffer.queue.get();
      see_resident(*queue_);
    }
    for (const auto& mapping : encoder.used) {
      if (mapping->seen == number_) continue;
      mapping->set_accessible(true);
      used_.push_back(mapping);
    }
  }

  void hide_used() {
    for (const auto& mapping : used_) mapping->set_accessible(false);
    used_.clear();
  }

  void see_resident(const MTL::CommandQueue& queue) {
    ++number_;
    const auto before = std::exchange(resident_, {});
    const auto add = [&](std::shared_ptr<Mapping> mapping) {
      if (!mapping || std::exchange(mapping->seen, number_) == number_) return;
      mapping->set_accessible(true);
      resident_.push_back(std::move(mapping));
    };
    {
      const std::lock_guard lock(mutex_);
      for (const auto& set : queue.residency) {
        for (const auto& mapping : set->committed.buffers) add(mapping);
        for (const auto& heap : set->committed.heaps) {
          const std::lock_guard heap_lock(heap->mutex);
          for (const auto& [at, piece] : heap->pieces) add(piece.mapping.lock());
        }
      }
    }
    for (const auto& mapping : before) {
      if (mapping->seen != number_) mapping->set_accessible(false);
    }
  }

  void complete(const Committed& buffer) {
    const bool failed = buffer->error_code != 0;
    let_go_of_released();
    if (!failed) {
      for (const auto& [event, value] : buffer->signals) {
        if (event->value.load() < value) event->value = value;
      }
    }
    {
      const std::lock_guard lock(mutex_);
      buffer->state = failed ? MTL::CommandBufferStatusError : MTL::CommandBufferStatusCompleted;
      handled_.push_back(buffer);
    }
    completed_.notify_all();
    changed_.notify_all();
  }

  // Released buffers are not to be kept here.
  void let_go_of_released() {
    hide_used();
    const std::uint64_t change = residency_changes.load();
    if (std::exchange(change_at_release_, change) == change) return;
    std::erase_if(resident_, [](const auto& mapping) { return mapping.use_count() == 1; });
  }

  void handle() {
    for (;;) {
      Committed done;
      {
        std::unique_lock lock(mutex_);
        completed_.wait(lock, [&] { return !handled_.empty(); });
        done = handled_.front();
        handled_.pop_front();
      }
      for (const MTL::HandlerFunction& handler : std::exchange(done->handlers, {})) {
        handler(done.get());
      }
      // What it bound, in the order in which it was made, goes with its last owner.
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_, completed_;
  std::map<const MTL::CommandQueue*, std::deque<Committed>> queues_;
  std::deque<Committed> handled_;
  // Of the worker: what can be touched because it is resident, as of a change and for a queue, and
  // because an encoder said that it uses it.
  std::vector<std::shared_ptr<Mapping>> resident_, used_;
  std::uint64_t change_ = 0, change_at_release_ = 0, number_ = 0;
  const MTL::CommandQueue* queue_ = nullptr;
  std::mt19937 random_{1};
  bool paused_ = false;
  struct Failure {
    long code = 0;
    std::string text;
  } failure_;
  std::thread worker_, handler_;
};

Gpu& gpu() {
  static auto* instance = new Gpu;
  return *instance;
}

}  // namespace

void note_residency_change() { ++residency_changes; }
void submit(MTL::CommandBuffer* buffer) { gpu().submit(buffer); }
void wait_until_completed(const MTL::CommandBuffer* buffer) { gpu().wait_until_completed(buffer); }
void notify_event() { gpu().notify(); }
void pause() { gpu().pause(true); }
void resume() { gpu().pause(false); }
void fail_next(long code, std::string text) { gpu().fail_next(code, std::move(text)); }
void set_seed(std::uint32_t seed) { gpu().set_seed(seed); }

}  // namespace metal_sim

namespace MTL {

void SharedEvent::setSignaledValue(std::uint64_t signaled) {
  check();
  value = signaled;
  metal_sim::notify_event();
}
std::uint64_t SharedEvent::signaledValue() const {
  check();
  return value.load();
}

void ResidencySet::addAllocation(const Allocation* allocation) {
  check();
  allocation->check();
  if (allocation->mapping && allocation->heap) {
    metal_sim::violation("a buffer of a heap is made resident, rather than the heap");
  }
  if (allocation->mapping) wanted.buffers.insert(allocation->mapping);
  if (allocation->heap) wanted.heaps.insert(allocation->heap);
}
void ResidencySet::removeAllocation(const Allocation* allocation) {
  check();
  allocation->check();
  if (allocation->mapping) wanted.buffers.erase(allocation->mapping);
  if (allocation->heap) wanted.heaps.erase(allocation->heap);
}
void ResidencySet::commit() {
  check();
  metal_sim::gpu().change_residency([&] { committed = wanted; });
  metal_sim::note_residency_change();
}

}  // namespace MTL
