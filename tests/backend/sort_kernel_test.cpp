// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sorting against std::stable_sort of doubles.
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "kernel_harness.h"

namespace metal_candle::backend::cpu::testing {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The permutation of each line, as positions along the axis.
std::vector<std::int64_t> stable_order(const std::vector<double>& line, bool descending) {
  std::vector<std::int64_t> order(line.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) {
    const double a = line[static_cast<std::size_t>(i)], b = line[static_cast<std::size_t>(j)];
    if (std::isnan(a) || std::isnan(b)) return !std::isnan(a) && std::isnan(b);
    return descending ? a > b : a < b;
  });
  return order;
}

// x is [outer, n, inner]; sorts along axis 1.
void check(const Operand& x, bool descending, std::int64_t k) {
  const Shape& shape = x.shape();
  const DType dtype = x.layout().dtype;
  const std::int64_t n = shape[1], inner = shape[2];
  const Shape top{shape[0], k, inner};
  const TensorSpec spec{shape, dtype}, positions{shape, DType::kI32}, top_spec{top, DType::kI32};
  const auto order = run_kernel(make_sort, op::ArgSort{1, descending}, {x}, {positions})[0];
  const auto best = run_kernel(make_sort, op::ArgTopK{1}, {x}, {top_spec})[0];
  const auto sorted = run_kernel(make_sort, op::Sort{1, descending}, {x}, {spec})[0];
  const std::string what = to_string(shape) + ' ' + std::string(name(dtype));
  for (std::int64_t o = 0; o < shape[0]; ++o) {
    for (std::int64_t c = 0; c < inner; ++c) {
      std::vector<double> line;
      for (std::int64_t i = 0; i < n; ++i) line.push_back(x.get((o * n + i) * inner + c));
      const auto expected = stable_order(line, descending), largest = stable_order(line, true);
      for (std::int64_t i = 0; i < n; ++i) {
        const auto at = (o * n + i) * inner + c;
        const std::int64_t e = expected[static_cast<std::size_t>(i)];
        ASSERT_EQ(order.get(at), static_cast<double>(e)) << what << " at " << i;
        const double value = line[static_cast<std::size_t>(e)];
        ASSERT_TRUE(sorted.get(at) == value || (std::isnan(value) && std::isnan(sorted.get(at))))
            << what;
        ASSERT_EQ(std::signbit(sorted.get(at)), std::signbit(value)) << what;
      }
      for (std::int64_t i = 0; i < k; ++i) {
        ASSERT_EQ(best.get((o * k + i) * inner + c),
                  static_cast<double>(largest[static_cast<std::size_t>(i)]))
            << what << " k " << k;
      }
    }
  }
  if (!x.layout().is_contiguous()) return;
  const auto expected = sorted.values();
  const auto over = run_kernel(make_sort, op::Sort{1, descending}, {x}, {spec}, {.in_place = 0})[0];
  for (std::int64_t i = 0; i < over.size(); ++i) {
    const double e = expected[static_cast<std::size_t>(i)];
    ASSERT_TRUE(over.get(i) == e || (std::isnan(e) && std::isnan(over.get(i)))) << what;
  }
}

TEST(SortKernel, EveryDtypeAndSize) {
  for (const DType dtype : {DType::kBool, DType::kU8, DType::kI8, DType::kI32, DType::kU32,
                            DType::kI64, DType::kF16, DType::kBF16, DType::kF32}) {
    for (const bool descending : {false, true}) {
      for (const std::int64_t n : {1, 3, 7, 8, 17, 1000, 4097}) {
        check(Operand::random(Shape{2, n, 1}, dtype, 1), descending, (n + 1) / 2);
        check(Operand::random(Shape{2, n, 3}, dtype, 1), descending,
              std::max<std::int64_t>(1, n / 40));
      }
      check(Operand::random(padded_rows(Shape{3, 9, 4}, dtype), 1), descending, 9);
    }
  }
}

TEST(SortKernel, NanInfinityAndZeros) {
  for (const DType dtype : kFloatingDTypes) {
    for (const std::int64_t n : {12, 3000}) {
      Operand x = Operand::random(Shape{1, n, 1}, dtype, 5);
      const double special[] = {kNan, kInf, -0.0, 0.0, -kInf, kNan, 0.0, -0.0, kInf};
      for (std::int64_t i = 0; i < 9; ++i) x.set(i + 1, special[i]);
      x.set(n - 1, -kNan);
      for (const bool descending : {false, true})
        check(Operand::of(x.shape(), dtype, x.values()), descending, n);
      check(Operand::of(x.shape(), dtype, x.values()), true, 3);
    }
  }
}

TEST(SortKernel, WideIntegers) {
  Operand x(Shape{1, 5, 1}, DType::kI64);
  auto* values = static_cast<std::int64_t*>(x.address());
  // Differences that a double, or the lower half, cannot see.
  const std::int64_t given[] = {INT64_MAX, INT64_MIN, INT64_MAX - 1, 1LL << 32, 0};
  std::copy(std::begin(given), std::end(given), values);
  const auto order =
      run_kernel(make_sort, op::ArgSort{1, false}, {x}, {TensorSpec{x.shape(), DType::kI32}});
  EXPECT_EQ(order[0].values(), (std::vector<double>{1, 4, 3, 2, 0}));
}

TEST(SortKernel, Ties) {
  Operand x(Shape{1, 5000, 1}, DType::kF32);
  for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, static_cast<double>(i % 3));
  for (const std::int64_t k : {1, 10, 2000, 5000})
    check(Operand::of(x.shape(), DType::kF32, x.values()), true, k);
}

TEST(SortKernel, ZeroSizes) {
  for (const Shape& shape : {Shape{0, 3, 2}, Shape{2, 0, 2}, Shape{2, 3, 0}})
    check(Operand(shape, DType::kF32), false, shape[1]);
  check(Operand::random(Shape{2, 3, 2}, DType::kF32, 1), false, 0);
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
