// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Profiles, ranges and what host threads do: against counts and sums made by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "metal_candle/backend/backend.h"
#include "metal_candle/core/error.h"
#include "metal_candle/core/host_observer.h"
#include "metal_candle/execute/cost.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/plan_traffic.h"
#include "metal_candle/execute/profile_sums.h"
#include "metal_candle/execute/profiler.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;

const Profile::Step* find_step(const Profile& profile, const std::string& name) {
  const auto found = std::ranges::find(profile.steps, name, &Profile::Step::name);
  return found == profile.steps.end() ? nullptr : &*found;
}

const Profile::Phase& phase_of(const Profile& profile, HostPhase phase) {
  return profile.phases[static_cast<std::size_t>(phase)];
}

TEST(Profile, CountsStepsWithWhatTheyCost) {
  const Tensor x = ones({64, 32}).eval();
  const Tensor w = ones({32, 16}).eval();
  synchronize();
  start_profile();
  EXPECT_THROW(start_profile(), Error);
  for (int i = 0; i < 5; ++i) cumsum(matmul(x, w), 1).eval();
  const Profile profile = stop_profile();
  EXPECT_THROW((void)stop_profile(), Error);

  const Profile::Step* product = find_step(profile, "matmul");
  ASSERT_NE(product, nullptr);
  EXPECT_EQ(product->calls, 5u);
  EXPECT_EQ(product->flops, 2.0 * 64 * 32 * 16);
  EXPECT_EQ(product->bytes, 4.0 * (64 * 32 + 32 * 16 + 64 * 16));
  EXPECT_EQ(product->shapes, "f32[64, 32], f32[32, 16] -> f32[64, 16]");
  EXPECT_EQ(product->device, default_device());
  EXPECT_GT(product->seconds, 0);
  EXPECT_LT(product->seconds, profile.seconds);
  std::uint64_t steps = 0;
  double step_seconds = 0;
  for (const Profile::Step& step : profile.steps) {
    steps += step.calls;
    step_seconds += step.seconds;
  }
  EXPECT_EQ(steps, profile.counters.steps);
  ASSERT_EQ(profile.queues.size(), 1u);
  EXPECT_EQ(profile.queues[0].steps, steps);
  EXPECT_NEAR(profile.queues[0].busy_seconds, step_seconds, 1e-9);

  EXPECT_EQ(phase_of(profile, HostPhase::kBuild).count, 10u);
  EXPECT_EQ(phase_of(profile, HostPhase::kFindPlan).count, 5u);
  EXPECT_EQ(phase_of(profile, HostPhase::kOptimize).count,
            phase_of(profile, HostPhase::kPlan).count);
  EXPECT_LE(phase_of(profile, HostPhase::kPlan).count, 1u);
  EXPECT_GE(phase_of(profile, HostPhase::kEncode).count, 5u);
  EXPECT_EQ(profile.counters.evaluations, 5u);
  EXPECT_GT(profile.overhead_seconds, 0);
  ASSERT_EQ(profile.memory.size(), 1u);
  EXPECT_GE(profile.memory[0].peak, x.spec().bytes() + w.spec().bytes() + 64 * 16 * 4);
  EXPECT_LE(profile.memory[0].peaks.size(), 60u);
  EXPECT_EQ(*std::ranges::max_element(profile.memory[0].peaks), profile.memory[0].peak);
}

TEST(Profile, NothingIsAddedUpBeforeOrAfter) {
  const Tensor x = ones({8}).eval();
  cumsum(x, 0).eval();
  const int listeners = detail::range_listeners.load();  // Markers stay for the process.
  start_profile();
  const Profile empty = stop_profile();
  EXPECT_TRUE(empty.steps.empty());
  EXPECT_EQ(phase_of(empty, HostPhase::kBuild).count, 0u);
  EXPECT_EQ(host_observer(), nullptr);
  EXPECT_EQ(backend::step_observer(), nullptr);
  EXPECT_EQ(detail::range_listeners.load(), listeners);
  { const ProfileScope unseen("unseen"); }
  start_profile();
  EXPECT_TRUE(stop_profile().ranges.empty());
}

TEST(Profile, TableHasFractionsOfTheLimitsGiven) {
  Profile profile;
  profile.seconds = 2;
  // 8 GB moved in 1 s of a machine that moves 16 GB/s; 3 TFLOP in 0.5 s of one that does 10 in f32.
  profile.steps.push_back({"softmax", "f32[1]", Device::cpu(), DType::kF32, 4, 1.0, 2e9, 1e6});
  profile.steps.push_back({"matmul", "f32[2]", Device::cpu(), DType::kF32, 3, 0.5, 1e6, 1e12});
  MachineLimits limits{16e9, 10e12, 100e12};
  const std::string text = profile.to_string([&](Device) { return &limits; });
  EXPECT_THAT(text,
              ::testing::ContainsRegex("softmax +4 +1000.00 +250000.00 +66.7 % +8.0 +0.0 +0.50"));
  EXPECT_THAT(text,
              ::testing::ContainsRegex("matmul +3 +500.00 +166666.67 +33.3 % +0.0 +6000.0 +0.60"));
  EXPECT_THAT(text, HasSubstr("idle"));
  const std::string unknown = profile.to_string([](Device) { return nullptr; });
  EXPECT_THAT(unknown, ::testing::ContainsRegex("softmax .* -\n"));
}

TEST(Profile, LimitsArePositiveAndOfTheDtype) {
  const MachineLimits limits{100e9, 1e12, 2e12};
  EXPECT_DOUBLE_EQ(limits.least_seconds(1e9, 1e6, DType::kF32), 0.01);
  EXPECT_DOUBLE_EQ(limits.least_seconds(1e3, 1e12, DType::kF32), 1.0);
  EXPECT_DOUBLE_EQ(limits.least_seconds(1e3, 1e12, DType::kBF16), 0.5);
  EXPECT_DOUBLE_EQ(limits.least_seconds(1e3, 1e12, DType::kF16), 0.5);
}

TEST(Profile, RangesNestAndComeFromManyThreads) {
  start_profile();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 25; ++i) {
        const ProfileScope outer("outer");
        const ProfileScope inner("inner");
        (ones({4}) + static_cast<double>(i)).eval();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Profile profile = stop_profile();
  std::map<std::string, Profile::Range> ranges;
  for (const Profile::Range& range : profile.ranges) ranges[range.name] = range;
  ASSERT_EQ(ranges.size(), 2u);
  EXPECT_EQ(ranges["outer"].count, 100u);
  EXPECT_EQ(ranges["inner"].count, 100u);
  EXPECT_GE(ranges["outer"].seconds, ranges["inner"].seconds);
}

TEST(Trace, HasRangesHostThreadsAndMemory) {
  const std::string path =
      (std::filesystem::path(::testing::TempDir()) / "metal_candle_ranges.json").string();
  start_trace(path);
  {
    const ProfileScope outer("say \"outer\"");
    const ProfileScope inner("inner");
    softmax(ones({16, 16}) * 2.0).eval();
  }
  stop_trace();
  std::ifstream file(path);
  const auto events = nlohmann::json::parse(file).at("traceEvents");
  std::filesystem::remove(path);
  const auto find = [&](const std::string& name) {
    return *std::ranges::find_if(events, [&](const auto& event) { return event["name"] == name; });
  };
  const auto outer = find("say \"outer\""), inner = find("inner"), wait = find("find plan");
  const auto end_of = [](const auto& event) {
    return event["ts"].template get<double>() + event["dur"].template get<double>();
  };
  EXPECT_EQ(outer["tid"], inner["tid"]);
  EXPECT_EQ(outer["cat"], "range");
  EXPECT_LE(outer["ts"].get<double>(), inner["ts"].get<double>());
  EXPECT_GE(end_of(outer), end_of(inner));
  EXPECT_EQ(wait["tid"], outer["tid"]);
  EXPECT_GE(wait["ts"].get<double>(), inner["ts"].get<double>());
  const auto memory = find("bytes in use");
  EXPECT_EQ(memory["ph"], "C");
  EXPECT_GT(memory["args"]["bytes"].get<double>(), 0);
  std::vector<std::string> names;
  for (const auto& event : events) {
    if (event["ph"] == "M") names.push_back(event["args"]["name"].get<std::string>());
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({std::string("host"), to_string(default_device()),
                                              std::string("queue 0")}));
}

TEST(HostPhases, TimeWithinIsCountedOnce) {
  struct Seen final : HostObserver {
    void on_phase(HostPhase phase, std::int64_t start, std::int64_t end,
                  std::int64_t own) override {
      all[phase] = {end - start, own};
    }
    void on_memory(Device, std::size_t) override {}
    std::map<HostPhase, std::pair<std::int64_t, std::int64_t>> all;
  };
  static Seen seen;
  const auto rest = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  { const ScopedPhase unseen(HostPhase::kBuild); }
  set_host_observer(&seen);
  {
    const ScopedPhase outer(HostPhase::kEncode);
    rest();
    {
      const ScopedPhase middle(HostPhase::kPlan);
      rest();
      const ScopedPhase inner(HostPhase::kWait);
      rest();
    }
    rest();
  }
  set_host_observer(nullptr);
  ASSERT_EQ(seen.all.size(), 3u);
  const auto [outer, outer_own] = seen.all[HostPhase::kEncode];
  const auto [middle, middle_own] = seen.all[HostPhase::kPlan];
  const auto [inner, inner_own] = seen.all[HostPhase::kWait];
  EXPECT_EQ(inner, inner_own);
  EXPECT_EQ(middle_own, middle - inner);
  EXPECT_EQ(outer_own, outer - middle);
  EXPECT_GE(inner_own, 2'000'000);
}

TEST(HostPhases, MarkersAreToldOfRangesInOrder) {
  struct Marker final : RangeMarker {
    void push(const char* name) override { told += std::string("(") + name; }
    void pop() override { told += ")"; }
    std::string told;
  };
  static Marker marker;  // For the life of the process.
  static const bool is_added = (add_range_marker(&marker), true);
  ASSERT_TRUE(is_added);
  marker.told.clear();
  {
    const ProfileScope outer("a");
    { const ProfileScope first("b"); }
    const ProfileScope second("c");
  }
  EXPECT_EQ(marker.told, "(a(b)(c))");
}

// Against a list of all samples.
TEST(MemoryTimeline, KeepsThePeaksOfEachSpan) {
  std::mt19937 random(7);
  for (const std::int64_t span : {900'000LL, 40'000'000LL, 3'000'000'000LL}) {
    MemoryTimeline timeline;
    std::vector<std::pair<std::int64_t, std::size_t>> samples;
    std::int64_t now = 0;
    while (now < span) {
      samples.emplace_back(now, random() % 1000);
      timeline.add(now, samples.back().second);
      now += static_cast<std::int64_t>(random() % static_cast<unsigned>(span / 50));
    }
    const std::vector<std::size_t> peaks = timeline.peaks(now);
    ASSERT_LE(peaks.size(), 60u);
    ASSERT_GE(peaks.size() * static_cast<std::size_t>(timeline.bucket_ns()),
              static_cast<std::size_t>(samples.back().first));
    std::size_t before = 0;
    for (std::size_t i = 0; i < peaks.size(); ++i) {
      std::size_t most = before;
      for (const auto& [time, bytes] : samples) {
        if (time / timeline.bucket_ns() != static_cast<std::int64_t>(i)) continue;
        most = std::max(most, bytes);
        before = bytes;
      }
      EXPECT_EQ(peaks[i], most) << span << " at " << i;
    }
  }
}

TEST(Cost, TrafficOfAPlanIsThatOfItsSteps) {
  const Tensor x = ones({64, 32}).eval();
  const auto traffic = [&](PassSet passes) {
    const ScopedPasses scope(passes);
    const Tensor y = cumsum(tanh(exp(x)), 1);
    return plan_traffic({&y, 1});
  };
  const double once = 4.0 * 64 * 32;
  const PlanTraffic fused = traffic(PassSet::all()), unfused = traffic(PassSet::none());
  EXPECT_EQ(fused.steps, 2u);
  EXPECT_EQ(fused.bytes, 4 * once);
  EXPECT_EQ(unfused.steps, 3u);
  EXPECT_EQ(unfused.bytes, 6 * once);
  EXPECT_EQ(plan_traffic({&x, 1}).steps, 0u);
}

TEST(Cost, CountsOnlyTheRowsThatAreTouched) {
  const auto layout = [](const Shape& shape, DType dtype) {
    return TensorLayout::contiguous({shape, dtype});
  };
  const TensorLayout table = layout({1000, 8}, DType::kF32), ids = layout({3}, DType::kI32),
                     rows = layout({3, 8}, DType::kF32), start = layout({1}, DType::kI32);
  const auto bytes = [](const Operation& operation, std::vector<TensorLayout> inputs,
                        const TensorLayout& output) {
    return make_label(Device::cpu(), operation, inputs, {&output, 1}).bytes;
  };
  EXPECT_EQ(bytes(op::Take{0}, {table, ids}, rows), 4.0 * (3 + 2 * 24));
  EXPECT_EQ(bytes(op::DynamicSliceUpdate{{0}}, {table, rows, start}, table), 4.0 * (2 * 24 + 1));
  EXPECT_EQ(bytes(op::Softmax{1}, {table}, table), 4.0 * 16000);
}

}  // namespace
}  // namespace metal_candle
