// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a profile says: sums, and the table that is made of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "metal_candle/core/device.h"
#include "metal_candle/core/dtype.h"
#include "metal_candle/core/host_observer.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/machine_limits.h"

namespace metal_candle {

struct Profile {
  /// Steps of one operation with the same shapes. On a GPU, what is launched at once: a part of a
  /// step, or several steps of a kind, which the shapes then say.
  struct Step {
    std::string name;    // "matmul".
    std::string shapes;  // "f32[2, 3], f32[3, 4] -> f32[2, 4]".
    Device device;
    DType dtype = DType::kF32;
    std::uint64_t calls = 0;
    double seconds = 0;  // Of all calls, on the device.
    double bytes = 0;    // Of one call on average, read and written.
    double flops = 0;    // Of one call on average.
  };
  struct Phase {
    std::uint64_t count = 0;
    double seconds = 0;  // Of all threads, without the phases within.
  };
  struct Queue {
    Device device;
    int index = 0;
    std::uint64_t steps = 0;
    double busy_seconds = 0;  // During which some step of it ran.
  };
  struct Range {
    std::string name;
    std::uint64_t count = 0;
    double seconds = 0;
  };
  struct Memory {
    Device device;
    double seconds_a_bucket = 0;
    std::vector<std::size_t> peaks;  // The most in use in each bucket of time.
    std::size_t now = 0;             // When the profile ended.
    std::size_t peak = 0;            // Within it, as far as evaluations saw it.
  };

  double seconds = 0;       // From start to stop.
  std::vector<Step> steps;  // The longest first.
  std::array<Phase, kNumHostPhases> phases;
  std::vector<Queue> queues;
  std::vector<Range> ranges;  // The longest first.
  std::vector<Memory> memory;
  Counters counters;            // Of that time.
  double overhead_seconds = 0;  // What recording took, estimated from the cost of one record.

  /// Tables for people. Fractions of the limit are left out where `limits` gives none for a device.
  [[nodiscard]] std::string to_string(
      const std::function<const MachineLimits*(Device)>& limits) const;
};

}  // namespace metal_candle
