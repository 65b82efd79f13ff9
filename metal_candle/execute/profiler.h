// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Where time and memory go: a profile (a table by operation) and a trace (every step, for the
// Perfetto UI and chrome://tracing). Either, both or none can be recorded.
//
// While none is, a step costs nothing, a command buffer and a node one relaxed load, and a
// ProfileScope another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "metal_candle/core/host_observer.h"
#include "metal_candle/execute/profile.h"

namespace metal_candle {

/// Records every step that runs from now on: name, shapes, device, queue, start, end, bytes, flops;
/// what host threads do; ranges (ProfileScope); and memory. On a GPU the times are the device's
/// own, for which steps are launched one by one instead of as a graph. Throws Error if a trace is
/// being recorded already. METAL_CANDLE_TRACE=file in the environment does the same from the first
/// evaluation to the end of the process.
void start_trace(const std::string& path);

/// Stops, and writes the file (Chrome's JSON trace event format). Waits for work in flight. Throws
/// IoError naming the file; Error if no trace was started.
void stop_trace();

/// Starts the trace that METAL_CANDLE_TRACE asks for, once, unless one is being recorded. Called by
/// evaluation.
void start_trace_from_environment();

/// Adds up from now on what steps, host threads and ranges take. Throws Error if a profile is being
/// recorded already.
void start_profile();

/// Stops, and gives what was added up. Waits for work in flight. Throws Error if no profile was
/// started.
[[nodiscard]] Profile stop_profile();

/// A range of the caller's own, from here to the end of the scope: a row of the profile, a span of
/// the trace, and, where a tool of the device's vendor is attached (NVTX), one there. Ranges nest;
/// any number of threads may have some open.
///
///     { const ProfileScope scope("validation"); validate(); }
class [[nodiscard]] ProfileScope {
 public:
  explicit ProfileScope(std::string_view name) {
    if (detail::range_listeners.load(std::memory_order_relaxed) != 0) begin(name);
  }
  ~ProfileScope() {
    if (active_) end();
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  void begin(std::string_view name);
  void end();

  bool active_ = false;
  std::size_t markers_ = 0;
  std::int64_t start_ns_ = 0;
  std::string name_;
};

}  // namespace metal_candle
