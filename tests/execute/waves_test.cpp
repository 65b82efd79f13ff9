// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Waves against the definition: pairs of steps that touch the same bytes, one of them writing.
#include "metal_candle/execute/waves.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>

namespace metal_candle {
namespace {

using ::testing::ElementsAre;

bool overlap(const MemoryRange& a, const MemoryRange& b) {
  return a.space == b.space && std::max(a.begin, b.begin) < std::min(a.end, b.end);
}

bool any_overlap(const std::vector<MemoryRange>& a, const std::vector<MemoryRange>& b) {
  for (const MemoryRange& x : a) {
    for (const MemoryRange& y : b) {
      if (overlap(x, y)) return true;
    }
  }
  return false;
}

bool depends(const StepAccess& later, const StepAccess& earlier) {
  return any_overlap(later.reads, earlier.writes) || any_overlap(later.writes, earlier.reads) ||
         any_overlap(later.writes, earlier.writes);
}

// The length of the longest chain of steps that depend on each other.
std::int32_t longest_chain(const std::vector<StepAccess>& steps) {
  std::vector<std::int32_t> depth;
  std::int32_t longest = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::int32_t mine = 1;
    for (std::size_t j = 0; j < i; ++j) {
      if (depends(steps[i], steps[j])) mine = std::max(mine, depth[j] + 1);
    }
    depth.push_back(mine);
    longest = std::max(longest, mine);
  }
  return longest;
}

TEST(Waves, ReadersOfOneValueAreTogether) {
  const std::vector<StepAccess> steps = {
      {{}, {{0, 0, 8}}},
      {{{0, 0, 8}}, {{0, 8, 16}}},
      {{{0, 0, 8}}, {{0, 16, 24}}},
      {{{0, 8, 16}, {0, 16, 24}}, {{0, 0, 8}}},  // Over what the others have read.
  };
  EXPECT_THAT(waves_of(steps), ElementsAre(0, 1, 1, 2));
}

TEST(Waves, AStepInPlaceComesAfterOtherReaders) {
  const std::vector<StepAccess> steps = {
      {{}, {{3, 0, 4}}},
      {{{3, 0, 4}}, {{1, 0, 4}}},
      {{{3, 0, 4}}, {{3, 0, 4}}},
      {{{3, 2, 3}}, {{2, 0, 4}}},
  };
  EXPECT_THAT(waves_of(steps), ElementsAre(0, 1, 2, 3));
}

// The queries, keys and values of a layer: what could run early waits for its like.
TEST(Waves, StepsOfAKindMeet) {
  constexpr std::uint64_t kProduct = 1, kRotate = 2, kStore = 3, kAttend = 4;
  const std::vector<StepAccess> steps = {
      {{}, {{0, 0, 1}}, kProduct},          // q
      {{{0, 0, 1}}, {{0, 3, 4}}, kRotate},  // rotated
      {{}, {{0, 1, 2}}, kProduct},          // k
      {{{0, 1, 2}}, {{0, 4, 5}}, kRotate},  // rotated
      {{{0, 4, 5}}, {{1, 0, 1}}, kStore},   // kept
      {{}, {{0, 2, 3}}, kProduct},          // v
      {{{0, 2, 3}}, {{1, 1, 2}}, kStore},   // kept
      {{{0, 3, 4}, {1, 0, 2}}, {{0, 5, 6}}, kAttend},
  };
  EXPECT_THAT(waves_of(steps), ElementsAre(0, 1, 0, 1, 2, 0, 2, 3));
}

TEST(Waves, UpdatesWaitForEachOther) {
  // A chain, each link of which gives something to update.
  std::vector<StepAccess> steps;
  for (std::size_t i = 0; i < 10; ++i) {
    steps.push_back({{{0, i, i + 1}}, {{0, i + 1, i + 2}}, 1});
    steps.push_back({{{0, i + 1, i + 2}}, {{1, i, i + 1}}, 2});
  }
  const std::vector<std::int32_t> waves = waves_of(steps);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(waves[2 * i], static_cast<std::int32_t>(i));
    EXPECT_EQ(waves[2 * i + 1], 10);
  }
}

TEST(Waves, OfNothing) { EXPECT_TRUE(waves_of({}).empty()); }

TEST(Waves, OfRandomAccesses) {
  std::mt19937 random(5);
  const auto upto = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  for (int round = 0; round < 300; ++round) {
    const std::uint32_t bytes = 4 + upto(60);
    std::vector<StepAccess> steps(1 + upto(40));
    for (StepAccess& step : steps) {
      const auto some = [&](std::uint32_t most) {
        std::vector<MemoryRange> ranges(upto(most + 1));
        for (MemoryRange& range : ranges) {
          range.space = static_cast<std::int32_t>(upto(3));
          range.begin = upto(bytes);
          range.end = range.begin + upto(bytes / 2);
        }
        return ranges;
      };
      step.reads = some(3);
      step.writes = some(2);
    }
    for (StepAccess& step : steps) step.kind = upto(3);
    const std::vector<std::int32_t> waves = waves_of(steps);
    ASSERT_EQ(waves.size(), steps.size());
    for (std::size_t i = 0; i < steps.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (depends(steps[i], steps[j])) {
          ASSERT_GT(waves[i], waves[j]) << "round " << round;
        }
      }
    }
    const auto [least, most] = std::minmax_element(waves.begin(), waves.end());
    EXPECT_EQ(*least, 0);
    EXPECT_EQ(*most + 1, longest_chain(steps)) << "round " << round;
  }
}

}  // namespace
}  // namespace metal_candle
