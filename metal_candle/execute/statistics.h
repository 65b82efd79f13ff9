// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The counters that the executor keeps itself; counters.h adds the backend's.
#pragma once

#include <atomic>
#include <cstdint>

namespace metal_candle {

struct ExecutorStatistics {
  std::atomic<std::uint64_t> evaluations{0};
  std::atomic<std::uint64_t> nodes{0};
  std::atomic<std::uint64_t> plans_made{0};
  std::atomic<std::uint64_t> plan_hits{0};
  std::atomic<std::uint64_t> plans_evicted{0};
  std::atomic<std::uint64_t> donations{0};
  std::atomic<std::uint64_t> waits{0};
};

/// The one instance.
ExecutorStatistics& statistics();

}  // namespace metal_candle
