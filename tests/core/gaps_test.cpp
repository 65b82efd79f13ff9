// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Gaps, and many of them against bytes that are marked one by one.
#include "metal_candle/core/gaps.h"

#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

namespace metal_candle {
namespace {

TEST(Gaps, TakeTheSmallestThatIsLargeEnough) {
  Gaps gaps;
  EXPECT_EQ(gaps.fit(1), 0u);
  EXPECT_FALSE(gaps.take(1));
  gaps.add(0, 100);
  gaps.add(200, 30);
  gaps.add(300, 50);
  EXPECT_EQ(gaps.fit(31), 50u);
  EXPECT_EQ(gaps.take(20), 200u);
  EXPECT_EQ(gaps.fit(10), 10u);
  EXPECT_EQ(gaps.take(10), 220u);
  EXPECT_EQ(gaps.take(60), 0u);
  EXPECT_EQ(gaps.take(60), std::nullopt);
}

TEST(Gaps, NeighboursAreJoined) {
  Gaps gaps;
  gaps.add(10, 10);
  gaps.add(30, 10);
  gaps.add(20, 10);
  EXPECT_EQ(gaps.fit(1), 30u);
  EXPECT_FALSE(gaps.take_before(30));
  EXPECT_EQ(gaps.take_before(40), 10u);
  EXPECT_EQ(gaps.fit(1), 0u);
}

TEST(Gaps, AgreeWithBytesThatAreMarked) {
  constexpr std::size_t kBytes = 512;
  std::mt19937 random(1);
  std::vector<bool> free(kBytes, true);
  Gaps gaps;
  gaps.add(0, kBytes);
  std::vector<std::pair<std::size_t, std::size_t>> taken;
  for (int round = 0; round < 5000; ++round) {
    if (random() % 2 == 0 || taken.empty()) {
      const std::size_t length = 1 + random() % 60;
      std::size_t smallest = 0;  // Of the runs of free bytes that are long enough.
      for (std::size_t begin = 0, end = 0; begin < kBytes; begin = end + 1) {
        for (end = begin; end < kBytes && free[end]; ++end) continue;
        const std::size_t run = end - begin;
        if (run >= length && (smallest == 0 || run < smallest)) smallest = run;
      }
      ASSERT_EQ(gaps.fit(length), smallest);
      const auto offset = gaps.take(length);
      ASSERT_EQ(offset.has_value(), smallest != 0);
      if (!offset) continue;
      for (std::size_t i = *offset; i < *offset + length; ++i) {
        ASSERT_TRUE(free[i]);
        free[i] = false;
      }
      taken.emplace_back(*offset, length);
    } else {
      std::swap(taken[random() % taken.size()], taken.back());
      const auto [offset, length] = taken.back();
      taken.pop_back();
      for (std::size_t i = offset; i < offset + length; ++i) free[i] = true;
      gaps.add(offset, length);
    }
  }
}

}  // namespace
}  // namespace metal_candle
