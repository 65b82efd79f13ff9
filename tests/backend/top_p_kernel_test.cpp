// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The threshold of top-p against sorting in double precision.
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "kernel_harness.h"
#include "tests/backend/nucleus.h"

namespace metal_candle::backend::cpu::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double run(const std::vector<double>& row, double p, DType dtype = DType::kF32) {
  const auto n = static_cast<std::int64_t>(row.size());
  const Operand x = Operand::of(Shape{1, n}, dtype, row);
  return run_kernel(make_top_p, op::TopPThreshold{static_cast<float>(p)}, {x},
                    {TensorSpec{Shape{1, 1}, dtype}})[0]
      .get(0);
}

void check(const std::vector<double>& row, double p, DType dtype = DType::kF32) {
  metal_candle::testing::expect_threshold(run(row, p, dtype), row, static_cast<float>(p), dtype);
}

TEST(TopPKernel, EveryDtypeAndSize) {
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  for (const DType dtype : kFloatingDTypes) {
    for (const int n : {1, 2, 3, 15, 16, 17, 255, 256, 257, 1000, 5000, 40000}) {
      for (const double width : {0.01, 1.0, 5.0, 30.0}) {
        std::vector<double> row;
        for (int i = 0; i < n; ++i) row.push_back(width * normal(random));
        for (const double p : {0.001, 0.1, 0.5, 0.9, 0.95, 0.999}) check(row, p, dtype);
      }
    }
  }
}

TEST(TopPKernel, ManyThatAreEqualOrNearlySo) {
  // More in one bucket than are sorted, again and again.
  std::vector<double> row;
  for (int i = 0; i < 3000; ++i) row.push_back(1 + 1e-6 * (i % 1000));
  for (int i = 0; i < 1000; ++i) row.push_back(-2 + 1e-3 * i);
  for (const double p : {0.01, 0.3, 0.7, 0.95, 0.99}) check(row, p);
  check(std::vector<double>(10000, 3.0), 0.5);
  EXPECT_EQ(run(std::vector<double>(10000, 3.0), 0.5), 3.0);
  std::vector<double> tiny;
  for (int i = 0; i < 2000; ++i) tiny.push_back(1e-38 * i);
  for (const double p : {0.1, 0.5}) check(tiny, p);
}

TEST(TopPKernel, TiesWithTheLastSurvive) {
  EXPECT_EQ(run({1, 0, 0, 0, -5}, 0.6), 0.0);
  EXPECT_EQ(run({1, 0, 0, 0, -5}, 0.1), 1.0);
}

TEST(TopPKernel, InfinitiesAndNan) {
  EXPECT_EQ(run({-kInf, 2, 1, -kInf}, 0.999), 1.0);
  EXPECT_EQ(run({-kInf, -kInf, 1}, 0.999), 1.0);
  EXPECT_EQ(run({-kInf, -kInf}, 0.5), kInf);
  EXPECT_EQ(run({1, kInf}, 0.5), kInf);
  for (const std::size_t at : {0, 7, 16, 40}) {
    std::vector<double> row(41, 1.0);
    row[at] = kNan;
    EXPECT_EQ(run(row, 0.5), kInf) << at;
  }
  EXPECT_EQ(run({500, -500}, 0.9), 500.0);
}

TEST(TopPKernel, ManyRows) {
  const Operand x = Operand::random(Shape{37, 5, 300}, DType::kF32, 3);
  const auto out = run_kernel(make_top_p, op::TopPThreshold{0.8f}, {x},
                              {TensorSpec{Shape{37, 5, 1}, DType::kF32}})[0];
  for (std::int64_t row = 0; row < 37 * 5; ++row) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < 300; ++i) values.push_back(x.get(row * 300 + i));
    EXPECT_EQ(out.get(row), run(values, 0.8)) << row;
  }
  run_kernel(make_top_p, op::TopPThreshold{0.8f}, {Operand(Shape{0, 3}, DType::kF32)},
             {TensorSpec{Shape{0, 1}, DType::kF32}});
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
