// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Counters of the engine, since the process began (or reset_counters()).
#pragma once

#include <cstdint>
#include <string>

namespace metal_candle {

struct Counters {
  std::uint64_t evaluations =
      0;                    // Traced and run; asking for what is evaluated already does not count.
  std::uint64_t nodes = 0;  // Traced by them.
  std::uint64_t plans_made = 0;
  std::uint64_t plan_hits = 0;
  std::uint64_t plans_evicted = 0;
  std::uint64_t steps = 0;      // Kernels run.
  std::uint64_t donations = 0;  // Inputs whose memory an output took over.
  std::uint64_t waits = 0;      // Times a thread waited for a queue.
  std::uint64_t command_buffers = 0;
  std::uint64_t inline_buffers = 0;   // Of those, run on the calling thread.
  std::uint64_t encoders_made = 0;    // Command buffers and their encoders allocated...
  std::uint64_t encoders_reused = 0;  // ...and taken from the pool.
  std::uint64_t full_waits = 0;       // Commits that waited because the queue was full.
  // Of GPU queues, where command buffers that come again are graphs:
  std::uint64_t graphs_made = 0;       // Captured.
  std::uint64_t graph_launches = 0;    // Replayed, as they were or re-pointed.
  std::uint64_t graphs_repointed = 0;  // Replayed after some addresses were changed...
  std::uint64_t nodes_repointed = 0;   // ...in so many kernels.
  std::uint64_t direct_launches = 0;   // Command buffers launched step by step.
  std::uint64_t allocations = 0;
  std::uint64_t pool_hits = 0;  // Of those, served from freed memory.
  std::uint64_t bytes_in_use = 0;
  std::uint64_t peak_bytes = 0;

  /// Mean number of steps in a command buffer.
  [[nodiscard]] double steps_per_buffer() const {
    return command_buffers == 0 ? 0
                                : static_cast<double>(steps) / static_cast<double>(command_buffers);
  }
  /// What was counted since `earlier` was taken; bytes_in_use and peak_bytes are those of now.
  [[nodiscard]] Counters since(const Counters& earlier) const;
  /// One line a counter.
  [[nodiscard]] std::string to_string() const;
};

/// A snapshot. Thread safe; counters of work in flight may be a moment apart.
[[nodiscard]] Counters counters();
/// Starts counting from zero (but for bytes_in_use, and peak_bytes, which reset_peak_memory()
/// resets).
void reset_counters();

}  // namespace metal_candle
