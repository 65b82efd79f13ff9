// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Where the threads of the host spend their time, for whoever observes it (execute/profiler.h).
// While nobody does, a ScopedPhase is one relaxed load.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "metal_candle/core/device.h"

namespace metal_candle {

/// What a host thread is doing for the engine.
enum class HostPhase : std::uint8_t {
  kBuild,     // Making nodes: checking operands, inferring shapes, allocating.
  kFindPlan,  // Tracing, hashing, and looking the plan up.
  kOptimize,  // Rewriting a graph.
  kPlan,      // Placing memory, choosing and compiling kernels.
  kEncode,    // Encoding and committing command buffers.
  kCompute,   // Running kernels itself.
  kWait,      // Blocked until a queue has finished something.
};
inline constexpr int kNumHostPhases = 7;
/// "build", "find plan" ...
[[nodiscard]] std::string_view name(HostPhase phase);

/// Called from any thread. Times are nanoseconds of a monotonic clock.
class HostObserver {
 public:
  virtual ~HostObserver() = default;
  /// `own_ns` is the part of the time that was not spent in phases within this one.
  virtual void on_phase(HostPhase phase, std::int64_t start_ns, std::int64_t end_ns,
                        std::int64_t own_ns) = 0;
  /// What is allocated on a device, right after an evaluation's memory was.
  virtual void on_memory(Device device, std::size_t bytes_in_use) = 0;
};
/// Null switches observation off. The observer must live until the process ends: a phase may be
/// under way.
void set_host_observer(HostObserver* observer);
[[nodiscard]] HostObserver* host_observer();

namespace detail {
inline std::atomic<HostObserver*> current_host_observer{nullptr};
}

/// A small number of this thread, for traces.
[[nodiscard]] int host_thread_number();

/// Leaves the calling thread out: it works for a queue, and its waiting is the queue's.
void ignore_phases_of_this_thread();

/// A phase of this thread, until the end of the scope. Nests.
class ScopedPhase {
 public:
  explicit ScopedPhase(HostPhase phase) {
    if (detail::current_host_observer.load(std::memory_order_relaxed) != nullptr) begin(phase);
  }
  ~ScopedPhase() {
    if (observer_ != nullptr) end();
  }
  ScopedPhase(const ScopedPhase&) = delete;
  ScopedPhase& operator=(const ScopedPhase&) = delete;

 private:
  void begin(HostPhase phase);
  void end();

  HostObserver* observer_ = nullptr;
  HostPhase phase_ = HostPhase::kBuild;
  ScopedPhase* outer_ = nullptr;
  std::int64_t start_ns_ = 0;
  std::int64_t inner_ns_ = 0;  // Spent in phases within.
};

/// Is told of the user's ranges (ProfileScope) as they begin and end on a thread: a vendor's
/// profiler, in whose view of the process they then appear.
class RangeMarker {
 public:
  virtual ~RangeMarker() = default;
  virtual void push(const char* name) = 0;
  virtual void pop() = 0;
};
/// For the life of the process. At most one a device type.
void add_range_marker(RangeMarker* marker);

namespace detail {
/// Markers, and 1 more while a profile or a trace is recorded: without any, a range costs a load.
inline std::atomic<int> range_listeners{0};
/// Tells every marker; returns how many there are.
std::size_t push_range(const char* name);
/// Tells the first `count` of them.
void pop_range(std::size_t count);
}  // namespace detail

}  // namespace metal_candle
