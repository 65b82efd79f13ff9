// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Waves against the definition: pairs of steps that touch the same bytes, one of them writing.
#include "metal_candle/execute/waves.h"

#include <gmock/gmock.h>

#include <random>

namespace metal_candle {
namespace {

using ::testing::ElementsAre;

bool overlap(const MemoryRange& a, const MemoryRange& b) {
  return a.space == b.space && a.begin < b.end && b.begin < a.end;
}

bool any_overlap(const std::vector<MemoryRange>& a, const std::vector<MemoryRange>& b) {
  for (const MemoryRange& x : a) {
    for (const MemoryRange& y : b) {
      if (overlap(x, y)) return true;
    }
  }
  return false;
}

bool depends(const MemoryAccess& later, const MemoryAccess& earlier) {
  return any_overlap(later.reads, earlier.writes) || any_overlap(later.writes, earlier.reads) ||
         any_overlap(later.writes, earlier.writes);
}

std::vector<std::int32_t> expected_waves(const std::vector<MemoryAccess>& steps) {
  std::vector<std::int32_t> waves;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::int32_t wave = 0;
    for (std::size_t j = 0; j < i; ++j) {
      if (depends(steps[i], steps[j])) wave = std::max(wave, waves[j] + 1);
    }
    waves.push_back(wave);
  }
  return waves;
}

TEST(Waves, ReadersOfOneValueAreTogether) {
  const std::vector<MemoryAccess> steps = {
      {{}, {{0, 0, 8}}},
      {{{0, 0, 8}}, {{0, 8, 16}}},
      {{{0, 0, 8}}, {{0, 16, 24}}},
      {{{0, 8, 16}, {0, 16, 24}}, {{0, 0, 8}}},  // Over what the others have read.
  };
  EXPECT_THAT(waves_of(steps), ElementsAre(0, 1, 1, 2));
}

TEST(Waves, AStepInPlaceComesAfterOtherReaders) {
  const std::vector<MemoryAccess> steps = {
      {{}, {{3, 0, 4}}},
      {{{3, 0, 4}}, {{1, 0, 4}}},
      {{{3, 0, 4}}, {{3, 0, 4}}},
      {{{3, 2, 3}}, {{2, 0, 4}}},
  };
  EXPECT_THAT(waves_of(steps), ElementsAre(0, 1, 2, 3));
}

TEST(Waves, OfNothing) { EXPECT_TRUE(waves_of({}).empty()); }

TEST(Waves, OfRandomAccesses) {
  std::mt19937 random(5);
  const auto upto = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  for (int round = 0; round < 300; ++round) {
    const std::uint32_t bytes = 4 + upto(60);
    std::vector<MemoryAccess> steps(1 + upto(40));
    for (MemoryAccess& step : steps) {
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
    ASSERT_EQ(waves_of(steps), expected_waves(steps)) << "round " << round;
  }
}

}  // namespace
}  // namespace metal_candle
