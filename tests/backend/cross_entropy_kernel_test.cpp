// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The cross entropy kernels against sums of exponentials in double.
#include <gtest/gtest.h>

#include "kernel_harness.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu::testing {
namespace {

constexpr std::int64_t kIgnore = -100;

struct Expected {
  std::vector<double> loss, logsumexp, dlogits;
};

Expected reference(const Operand& x, const Operand& targets, const Operand& dloss) {
  const std::int64_t n = x.shape().back();
  Expected e;
  for (std::int64_t row = 0; row < targets.size(); ++row) {
    double max = x.get(row * n), sum = 0;
    for (std::int64_t i = 0; i < n; ++i) max = std::max(max, x.get(row * n + i));
    for (std::int64_t i = 0; i < n; ++i) sum += std::exp(x.get(row * n + i) - max);
    const double lse = max + std::log(sum);
    const auto target = static_cast<std::int64_t>(targets.get(row));
    const bool ignored = target == kIgnore;
    e.logsumexp.push_back(lse);
    e.loss.push_back(ignored ? 0 : lse - x.get(row * n + target));
    for (std::int64_t i = 0; i < n; ++i) {
      const double p = std::exp(x.get(row * n + i) - lse) - (i == target ? 1 : 0);
      e.dlogits.push_back(ignored ? 0 : p * dloss.get(row));
    }
  }
  return e;
}

void check(const TensorLayout& layout, DType target_dtype) {
  const Shape rows(std::span<const std::int64_t>(layout.shape.data(), layout.shape.size() - 1));
  const Operand x = Operand::random(layout, 3, 4);
  const Operand dloss = Operand::random(rows, DType::kF32, 4);
  Operand targets(rows, target_dtype);
  for (std::int64_t i = 0; i < targets.size(); ++i) {
    targets.set(i, i % 5 == 3 ? kIgnore : static_cast<double>(i * 7919 % layout.shape.back()));
  }
  const Expected e = reference(x, targets, dloss);
  const TensorSpec row_spec{rows, DType::kF32};
  const auto out =
      run_kernel(make_softmax, op::CrossEntropy{kIgnore}, {x, targets}, {row_spec, row_spec});
  EXPECT_TRUE(near(out[0], e.loss, 2e-6)) << to_string(layout.shape);
  EXPECT_TRUE(near(out[1], e.logsumexp, 2e-6)) << to_string(layout.shape);

  const Operation backward = op::CrossEntropyBackward{kIgnore};
  const TensorSpec spec{layout.shape, layout.dtype};
  const auto dx = run_kernel(make_softmax, backward, {x, targets, out[1], dloss}, {spec});
  EXPECT_TRUE(near(dx[0], e.dlogits, 3e-6)) << to_string(layout.shape);
  if (!layout.is_contiguous()) return;
  const auto over =
      run_kernel(make_softmax, backward, {x, targets, out[1], dloss}, {spec}, {.in_place = 0});
  EXPECT_EQ(over[0].values(), dx[0].values());
}

TEST(CrossEntropyKernel, AnyNumberOfClasses) {
  for (const DType dtype : kFloatingDTypes) {
    for (const std::int64_t n : {1, 3, 7, 8, 17, 1000, 4097, 16384, 50001}) {
      check(TensorLayout::contiguous({Shape{7, n}, dtype}), DType::kI32);
    }
    check(TensorLayout::contiguous({Shape{1, 150000}, dtype}), DType::kI64);
    check(padded_rows(Shape{3, 4, 33}, dtype), DType::kI64);
  }
}

TEST(CrossEntropyKernel, OneRowWithoutAxes) {
  check(TensorLayout::contiguous({Shape{10}, DType::kF32}), DType::kI32);
}

TEST(CrossEntropyKernel, StreamedGradient) {
  check(TensorLayout::contiguous({Shape{140, 32000}, DType::kF32}), DType::kI32);
}

TEST(CrossEntropyKernel, NoRows) {
  check(TensorLayout::contiguous({Shape{0, 10}, DType::kF32}), DType::kI32);
}

TEST(CrossEntropyKernel, OneOutputOnly) {
  const Operand x = Operand::random(Shape{2, 9}, DType::kF32, 1);
  const Operand targets = Operand::of(Shape{2}, DType::kI32, {4, 8});
  const TensorSpec row{Shape{2}, DType::kF32};
  const Operation operation = op::CrossEntropy{kIgnore};
  const auto both = run_kernel(make_softmax, operation, {x, targets}, {row, row});
  const auto loss =
      run_kernel(make_softmax, operation, {x, targets}, {row, row}, {.needed = {true, false}});
  const auto lse =
      run_kernel(make_softmax, operation, {x, targets}, {row, row}, {.needed = {false, true}});
  EXPECT_EQ(loss[0].values(), both[0].values());
  EXPECT_EQ(lse[1].values(), both[1].values());
}

TEST(CrossEntropyKernel, LargeLogitsKeepTheirDifference) {
  const Operand x = Operand::of(Shape{1, 2}, DType::kF32, {3e7, 3e7});
  const Operand targets = Operand::of(Shape{1}, DType::kI32, {0});
  const TensorSpec row{Shape{1}, DType::kF32};
  const auto out = run_kernel(make_softmax, op::CrossEntropy{kIgnore}, {x, targets}, {row, row});
  EXPECT_NEAR(out[0].get(0), std::log(2.0), 1e-6);
}

TEST(CrossEntropyKernel, TargetOutOfRange) {
  const Operand x = Operand::random(Shape{2, 9}, DType::kF32, 1);
  const TensorSpec row{Shape{2}, DType::kF32};
  for (const double bad : {9.0, -1.0}) {
    const Operand targets = Operand::of(Shape{2}, DType::kI64, {0, bad});
    try {
      run_kernel(make_softmax, op::CrossEntropy{kIgnore}, {x, targets}, {row, row});
      FAIL();
    } catch (const DeviceError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("cross_entropy"), std::string::npos) << text;
      EXPECT_NE(text.find("9 classes"), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
