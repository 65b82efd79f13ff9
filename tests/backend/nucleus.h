// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What TopPThreshold may give for a row, by sorting it in double precision.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tests/support/host_tensor.h"

namespace metal_candle::testing {

/// Expects `threshold` to be the element of the row that sorting finds, unless rounding could
/// decide: then any between the elements that it finds for p a little less and a little more.
inline void expect_threshold(double threshold, std::vector<double> row, float p, DType dtype) {
  SCOPED_TRACE(::testing::Message() << row.size() << " of " << name(dtype) << ", p " << p);
  double total = 0;
  for (double& value : row) value = round_to(value, dtype);
  const bool numbers = std::none_of(row.begin(), row.end(), [](double x) { return std::isnan(x); });
  if (numbers) std::sort(row.begin(), row.end(), std::greater<>());
  for (const double value : row) total += std::exp(value - row[0]);
  if (std::isnan(total)) {
    EXPECT_EQ(threshold, std::numeric_limits<double>::infinity());
    return;
  }
  constexpr double kSlack = 1e-6;
  double before = 0, least = row[0], most = row[0];
  for (const double value : row) {
    if (before < (static_cast<double>(p) - kSlack) * total) most = value;
    if (before < (static_cast<double>(p) + kSlack) * total) least = value;
    before += std::exp(value - row[0]);
  }
  EXPECT_GE(threshold, least);
  EXPECT_LE(threshold, most);
  EXPECT_TRUE(std::find(row.begin(), row.end(), threshold) != row.end()) << threshold;
}

}  // namespace metal_candle::testing
