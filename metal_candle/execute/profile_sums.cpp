// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See profile_sums.h.
#include "metal_candle/execute/profile_sums.h"

#include <algorithm>

#include "metal_candle/backend/registry.h"

namespace metal_candle {
namespace {

double seconds_of(std::int64_t ns) { return static_cast<double>(ns) * 1e-9; }

Device device_of(std::pair<int, int> key) {
  return {static_cast<DeviceType>(key.first), static_cast<std::uint8_t>(key.second)};
}

// Nanoseconds of one call of fn.
template <typename Fn>
double cost_of(Fn fn) {
  constexpr int kCalls = 2000;
  const std::int64_t start = backend::now_ns();
  for (int i = 0; i < kCalls; ++i) fn();
  return static_cast<double>(backend::now_ns() - start) / kCalls;
}

// What recording one step, and one phase, costs: the record itself and two looks at the clock.
struct Costs {
  double step_ns = 0, phase_ns = 0;

  Costs() {
    backend::StepLabel label;
    label.name = "matmul";
    label.detail = "f32[1024, 1024], f32[1024, 1024] -> f32[1024, 1024]";
    ProfileSums sums(0);
    step_ns = cost_of([&] {
      const std::int64_t now = backend::now_ns();
      sums.add_step(label, 0, now, backend::now_ns());
    });
    PhaseSums phases;
    phase_ns = cost_of([&] {
      const std::int64_t now = backend::now_ns();
      phases.add(HostPhase::kBuild, backend::now_ns() - now);
    });
  }
};

}  // namespace

void PhaseSums::reset() {
  for (Sum& sum : sums_) {
    sum.count = 0;
    sum.ns = 0;
  }
}

std::array<Profile::Phase, kNumHostPhases> PhaseSums::totals() const {
  std::array<Profile::Phase, kNumHostPhases> totals;
  for (std::size_t i = 0; i < totals.size(); ++i) {
    totals[i] = {sums_[i].count.load(), seconds_of(sums_[i].ns.load())};
  }
  return totals;
}

void MemoryTimeline::add(std::int64_t ns, std::size_t bytes) {
  while (ns / bucket_ns_ >= static_cast<std::int64_t>(kBuckets)) halve();
  const auto index = static_cast<std::size_t>(std::max<std::int64_t>(ns, 0) / bucket_ns_);
  if (index >= buckets_.size()) buckets_.resize(index + 1);
  Bucket& bucket = buckets_[index];
  bucket.most = bucket.seen ? std::max(bucket.most, bytes) : bytes;
  bucket.last = bytes;
  bucket.seen = true;
  peak_ = std::max(peak_, bytes);
}

void MemoryTimeline::halve() {
  std::vector<Bucket> halved((buckets_.size() + 1) / 2);
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    if (!buckets_[i].seen) continue;
    Bucket& to = halved[i / 2];
    to = {true, std::max(to.most, buckets_[i].most), buckets_[i].last};
  }
  buckets_ = std::move(halved);
  bucket_ns_ *= 2;
}

std::vector<std::size_t> MemoryTimeline::peaks(std::int64_t end_ns) const {
  const auto count = static_cast<std::size_t>(std::clamp<std::int64_t>(
      (end_ns + bucket_ns_ - 1) / bucket_ns_, static_cast<std::int64_t>(buckets_.size()),
      static_cast<std::int64_t>(kBuckets)));
  std::vector<std::size_t> peaks;
  std::size_t last = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool seen = i < buckets_.size() && buckets_[i].seen;
    peaks.push_back(seen ? std::max(buckets_[i].most, last) : last);
    if (seen) last = buckets_[i].last;
  }
  return peaks;
}

void ProfileSums::add_step(const backend::StepLabel& label, int queue, std::int64_t start_ns,
                           std::int64_t end_ns) {
  key_.assign(1, static_cast<char>('0' + static_cast<int>(label.device.type)));
  key_ += static_cast<char>('0' + label.device.index);
  key_ += label.name;
  key_ += ' ';
  key_ += label.detail;
  const auto [found, added] = steps_.try_emplace(key_);
  Profile::Step& step = found->second;
  if (added) {
    step.name = label.name;
    step.shapes = label.detail;
    step.device = label.device;
    step.dtype = label.dtype;
  }
  ++step.calls;
  step.bytes += label.bytes;
  step.flops += label.flops;
  step.seconds += seconds_of(end_ns - start_ns);
  QueueSum& sum = queues_[{key_of(label.device), queue}];
  ++sum.steps;
  // Of threads that evaluate at once, the later part.
  sum.busy_ns += std::max<std::int64_t>(0, end_ns - std::max(start_ns, sum.busy_until_ns));
  sum.busy_until_ns = std::max(sum.busy_until_ns, end_ns);
}

void ProfileSums::add_range(const std::string& name, std::int64_t ns) {
  Profile::Range& range = ranges_[name];
  range.name = name;
  ++range.count;
  range.seconds += seconds_of(ns);
}

void ProfileSums::add_memory(Device device, std::size_t bytes, std::int64_t time_ns) {
  memory_[key_of(device)].add(time_ns - origin_ns_, bytes);
}

Profile ProfileSums::finish(std::int64_t end_ns,
                            const std::array<Profile::Phase, kNumHostPhases>& phases) const {
  Profile profile;
  profile.seconds = seconds_of(end_ns - origin_ns_);
  profile.phases = phases;
  profile.counters = counters().since(before_);
  std::uint64_t steps = 0;
  for (const auto& [key, step] : steps_) {
    profile.steps.push_back(step);
    profile.steps.back().bytes /= static_cast<double>(step.calls);
    profile.steps.back().flops /= static_cast<double>(step.calls);
    steps += step.calls;
  }
  for (const auto& [key, sum] : queues_) {
    profile.queues.push_back(
        {device_of(key.first), key.second, sum.steps, seconds_of(sum.busy_ns)});
  }
  for (const auto& [name, range] : ranges_) profile.ranges.push_back(range);
  const auto longer = [](const auto& a, const auto& b) { return a.seconds > b.seconds; };
  std::ranges::sort(profile.steps, longer);
  std::ranges::sort(profile.ranges, longer);
  for (const auto& [key, timeline] : memory_) {
    const std::size_t now = backend::backend_for(device_of(key)).memory().in_use;
    profile.memory.push_back({device_of(key), seconds_of(timeline.bucket_ns()),
                              timeline.peaks(end_ns - origin_ns_), now, timeline.peak()});
  }
  if (steps_.empty() && queues_.empty() && phases[0].count == 0) return profile;
  std::uint64_t phase_count = 0;
  for (const Profile::Phase& phase : phases) phase_count += phase.count;
  static const Costs costs;
  profile.overhead_seconds = 1e-9 * (costs.step_ns * static_cast<double>(steps) +
                                     costs.phase_ns * static_cast<double>(phase_count));
  return profile;
}

}  // namespace metal_candle
