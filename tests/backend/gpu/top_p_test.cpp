// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// TopPThreshold on the GPU in software, against sorting.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/backend/gpu/gpu_runner.h"
#include "tests/backend/nucleus.h"

namespace metal_candle::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr float kProbabilities[] = {1e-6f, 0.05f, 0.5f, 0.95f, 0.9999f, 1.0f};

using Rows = std::vector<std::vector<double>>;

// Rows of one length.
std::vector<double> thresholds(const Rows& rows, float p, DType dtype) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const auto n = static_cast<std::int64_t>(rows[0].size());
  HostTensor x(TensorSpec{Shape{count, n}, dtype});
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.r(i) =
        round_to(rows[static_cast<std::size_t>(i / n)][static_cast<std::size_t>(i % n)], dtype);
  }
  const HostTensor* const inputs[] = {&x};
  const TensorSpec spec{Shape{count, 1}, dtype};
  return run_gpu_kernel(op::TopPThreshold{p}, inputs, {&spec, 1})[0].real;
}

void check(const Rows& rows, float p, DType dtype = DType::kF32) {
  const std::vector<double> actual = thresholds(rows, p, dtype);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    SCOPED_TRACE(row);
    expect_threshold(actual[row], rows[row], p, dtype);
  }
}

std::vector<double> normal_row(std::size_t n, double mean, double deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(mean, deviation);
  std::vector<double> row(n);
  for (double& value : row) value = normal(random);
  return row;
}

class GpuTopPTest : public ::testing::TestWithParam<DType> {};

TEST_P(GpuTopPTest, RowsOfAnyLength) {
  for (const std::size_t n : {1, 2, 31, 255, 256, 257, 2048, 2049, 5000}) {
    for (const float p : kProbabilities) {
      check({normal_row(n, 0, 0.01, 1), normal_row(n, -3, 1, 2), normal_row(n, 9, 5, 3),
             normal_row(n, 0, 40, 4)},
            p, GetParam());
    }
  }
}

TEST_P(GpuTopPTest, AVocabulary) {
  for (const float p : {0.1f, 0.9f}) check({normal_row(151936, 2, 2.5, 5)}, p, GetParam());
}

TEST_P(GpuTopPTest, TiesWithTheLastSurvive) {
  EXPECT_EQ(thresholds({{1, 0, 0, 0, -5}}, 0.6f, GetParam()), std::vector<double>{0});
  EXPECT_EQ(thresholds({{1, 0, 0, 0, -5}}, 0.1f, GetParam()), std::vector<double>{1});
  EXPECT_EQ(thresholds({std::vector<double>(9000, -7.5)}, 0.5f, GetParam()),
            std::vector<double>{-7.5});
  Rows rows(2, std::vector<double>(5000));
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    rows[0][i] = static_cast<double>(i * i % 7);
    rows[1][i] = static_cast<double>(i % 3) * -0.0;
  }
  for (const float p : kProbabilities) check(rows, p, GetParam());
}

TEST_P(GpuTopPTest, RowsWithoutProbabilitiesGiveInfinity) {
  for (const std::size_t n : {4, 3000, 9000}) {
    Rows rows(6, normal_row(n, 0, 1, 5));
    rows[0][1] = kNan;
    rows[1][n - 1] = kInf;
    rows[2].assign(n, -kInf);
    rows[3].assign(n, -kInf);
    rows[3][2] = 5;
    rows[4][0] = -kInf;
    rows[5].assign(n, kNan);
    check(rows, 0.5f, GetParam());
    EXPECT_EQ(thresholds(rows, 0.5f, GetParam())[3], 5);
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, GpuTopPTest,
                         ::testing::Values(DType::kF16, DType::kBF16, DType::kF32),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(GpuTopP, ManyRowsTakeOneGroupEach) {
  Rows rows;
  for (unsigned row = 0; row < 33; ++row) rows.push_back(normal_row(2500, 0, 3, row));
  check(rows, 0.9f);
  EXPECT_TRUE(thresholds(Rows(1, normal_row(2500, 0, 3, 7)), 0.9f, DType::kF32)[0] ==
              thresholds(rows, 0.9f, DType::kF32)[7]);
  const HostTensor none(TensorSpec{Shape{0, 5}, DType::kF32});
  const HostTensor* const inputs[] = {&none};
  const TensorSpec spec{Shape{0, 1}, DType::kF32};
  EXPECT_EQ(run_gpu_kernel(op::TopPThreshold{0.5f}, inputs, {&spec, 1})[0].size(), 0);
}

// Next to the largest number that a float holds, and where cells of an eighth hold a number or
// none.
TEST(GpuTopP, NumbersOfAnySize) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  for (const double far : {0x1p17, 0x1p20, 0x1p21, 0x1p24, 0x1p100, kLargest}) {
    for (const double sign : {1.0, -1.0}) {
      std::vector<double> row(3000);
      for (std::size_t i = 0; i < row.size(); ++i) {
        row[i] = sign * far * (1 - static_cast<double>(i % 30) * 0x1p-24);
      }
      Rows rows = {row, row, std::vector<double>(3000, sign * far)};
      rows[1][7] = -kInf;
      rows[1][8] = -kLargest;
      rows[1][9] = 0;
      for (const float p : kProbabilities) check(rows, p);
    }
  }
}

// The cell of the threshold has a great many elements, of very different keys around 0.
TEST(GpuTopP, CrowdedCells) {
  Rows rows(3, std::vector<double>(6000));
  for (std::size_t i = 0; i < rows[0].size(); ++i) {
    const auto k = static_cast<double>(i);
    rows[0][i] = 1e-38 * k;
    rows[1][i] = std::ldexp(1.0, -4 - static_cast<int>(i % 120));
    rows[2][i] = 1 + 1e-7 * (k - 3000);
  }
  for (const float p : kProbabilities) check(rows, p);
}

// The threshold has many elements above it, each of little weight beside the largest.
TEST(GpuTopP, FewThatAreLikelyAndManyThatAreNot) {
  Rows rows(2, std::vector<double>(100000, 0.0));
  rows[0][5] = 12;
  rows[1][5] = 30;
  for (std::size_t i = 10; i < rows[0].size(); ++i) {
    rows[0][i] = 1e-5 * static_cast<double>(i);
    rows[1][i] = -static_cast<double>(i % 1000);
  }
  for (const float p : {0.6f, 0.7f, 0.9f, 0.99f}) check(rows, p);
}

}  // namespace
}  // namespace metal_candle::testing
