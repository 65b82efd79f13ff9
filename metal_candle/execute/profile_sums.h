// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a profile adds up while it is recorded: bounded by the number of different steps, ranges and
// queues, however long it takes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "metal_candle/backend/backend.h"
#include "metal_candle/execute/profile.h"

namespace metal_candle {

/// Thread safe.
class PhaseSums {
 public:
  void add(HostPhase phase, std::int64_t own_ns) {
    Sum& sum = sums_[static_cast<std::size_t>(phase)];
    sum.count.fetch_add(1, std::memory_order_relaxed);
    sum.ns.fetch_add(own_ns, std::memory_order_relaxed);
  }
  void reset();
  [[nodiscard]] std::array<Profile::Phase, kNumHostPhases> totals() const;

 private:
  struct alignas(64) Sum {
    std::atomic<std::uint64_t> count{0};
    std::atomic<std::int64_t> ns{0};
  };
  std::array<Sum, kNumHostPhases> sums_;
};

/// The most that was in use, in at most 60 equal spans of time.
class MemoryTimeline {
 public:
  /// Times must not go back by much.
  void add(std::int64_t ns, std::size_t bytes);
  [[nodiscard]] std::int64_t bucket_ns() const { return bucket_ns_; }
  /// Up to `end_ns`. A span without a sample has the value that the one before it ended with.
  [[nodiscard]] std::vector<std::size_t> peaks(std::int64_t end_ns) const;
  [[nodiscard]] std::size_t peak() const { return peak_; }

 private:
  struct Bucket {
    bool seen = false;
    std::size_t most = 0, last = 0;
  };
  static constexpr std::size_t kBuckets = 60;
  void halve();

  std::vector<Bucket> buckets_;
  std::int64_t bucket_ns_ = 1'000'000;
  std::size_t peak_ = 0;
};

/// Not thread safe.
class ProfileSums {
 public:
  explicit ProfileSums(std::int64_t origin_ns) : origin_ns_(origin_ns), before_(counters()) {}
  void add_step(const backend::StepLabel& label, int queue, std::int64_t start_ns,
                std::int64_t end_ns);
  void add_range(const std::string& name, std::int64_t ns);
  void add_memory(Device device, std::size_t bytes, std::int64_t time_ns);
  [[nodiscard]] Profile finish(std::int64_t end_ns,
                               const std::array<Profile::Phase, kNumHostPhases>& phases) const;

 private:
  using DeviceKey = std::pair<int, int>;  // Type and index.
  static DeviceKey key_of(Device device) { return {static_cast<int>(device.type), device.index}; }
  struct QueueSum {
    std::uint64_t steps = 0;
    std::int64_t busy_ns = 0, busy_until_ns = 0;
  };

  std::int64_t origin_ns_;
  Counters before_;
  // By device, name and shapes. Bytes and flops are of all calls here.
  std::unordered_map<std::string, Profile::Step> steps_;
  std::string key_;  // Of the step at hand.
  std::map<std::pair<DeviceKey, int>, QueueSum> queues_;
  std::map<std::string, Profile::Range> ranges_;
  std::map<DeviceKey, MemoryTimeline> memory_;
};

}  // namespace metal_candle
