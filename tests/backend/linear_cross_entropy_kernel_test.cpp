// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The fused cross entropy and its gradient against the reference interpreter, which has all logits
// at once, in double.
#include <gtest/gtest.h>

#include "interpreted_kernel.h"
#include "kernel_harness.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu::testing {
namespace {

constexpr std::int64_t kIgnore = -100;

struct Case {
  TensorLayout x;
  std::int64_t classes;
  bool transposed;
  DType target_dtype = DType::kI32;
};

std::vector<Operand> make_inputs(const Case& c) {
  const std::int64_t k = c.x.shape.back();
  const Operand x = Operand::random(c.x, 1);
  const Operand w = Operand::random(
      TensorLayout{{k, c.classes}, c.transposed ? Strides{1, k} : Strides{c.classes, 1}, c.x.dtype},
      2, 0.4);
  Shape rows = c.x.shape;
  rows.erase(rows.rank() - 1);
  Operand targets(rows, c.target_dtype);
  for (std::int64_t i = 0; i < targets.size(); ++i) {
    targets.set(i, static_cast<double>(i % 5 == 3 ? kIgnore : i * 7919 % c.classes));
  }
  return {x, w, targets};
}

void check(const Case& c) {
  const std::string what = std::string(name(c.x.dtype)) + ' ' + to_string(c.x.shape) + " classes " +
                           std::to_string(c.classes) + (c.transposed ? " transposed" : "");
  const std::vector<Operand> inputs = make_inputs(c);
  const TensorSpec rows{inputs[2].shape(), DType::kF32};
  const Operation forward = op::LinearCrossEntropy{kIgnore};
  const auto expected = interpret(forward, inputs, rows);
  const TensorSpec x_spec{inputs[0].shape(), c.x.dtype};
  // Exponentials are rounded to the dtype of x before they meet the weight.
  const double gradient_error = c.x.dtype == DType::kF32 ? 3e-5 : 2 * rounding(c.x.dtype);
  std::vector<std::vector<double>> first(3);
  with_thread_counts([&](int) {
    const auto actual =
        run_kernel(make_linear_cross_entropy, forward, inputs, {rows, rows, x_spec});
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(near(actual[i], expected[i].real, i == 2 ? gradient_error : 2e-5))
          << "output " << i << ' ' << what;
      if (first[i].empty()) first[i] = actual[i].values();
      EXPECT_EQ(actual[i].values(), first[i]) << "depends on the number of threads";
    }
  });

  std::vector<Operand> backward = inputs;
  Operand logsumexp(rows.shape, DType::kF32);
  for (std::int64_t i = 0; i < logsumexp.size(); ++i) logsumexp.set(i, expected[1].r(i));
  backward.push_back(logsumexp);
  backward.push_back(Operand::random(rows.shape, DType::kF32, 6));
  const std::vector<TensorSpec> specs{{inputs[0].shape(), c.x.dtype},
                                      {inputs[1].shape(), c.x.dtype}};
  const Operation gradient = op::LinearCrossEntropyBackward{kIgnore};
  const auto expected_gradients = interpret(gradient, backward, specs[0]);
  std::vector<std::vector<double>> gradients(2);
  with_thread_counts([&](int) {
    const auto actual = run_kernel(make_linear_cross_entropy, gradient, backward, specs);
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_TRUE(near(actual[i], expected_gradients[i].real, 3e-5))
          << "gradient " << i << ' ' << what;
      if (gradients[i].empty()) gradients[i] = actual[i].values();
      EXPECT_EQ(actual[i].values(), gradients[i]) << "depends on the number of threads";
    }
  });
  for (std::size_t i = 0; i < 2; ++i) {
    RunOptions options;
    options.needed = {i == 0, i == 1};
    const auto only = run_kernel(make_linear_cross_entropy, gradient, backward, specs, options);
    EXPECT_EQ(only[i].values(), gradients[i]) << "gradient " << i << " alone";
  }
}

TEST(LinearCrossEntropyKernel, SizesAndOrientations) {
  for (const DType dtype : kFloatingDTypes) {
    for (const bool transposed : {false, true}) {
      const auto dense = [&](const Shape& shape) {
        return TensorLayout::contiguous({shape, dtype});
      };
      check({dense({1, 5}), 3, transposed});
      check({dense({7, 33}), 100, transposed, DType::kI64});
      check({dense({2, 9, 70}), 1500, transposed});
      check({dense({530, 20}), 1100, transposed});
      check({dense({10, 66}), 9000, transposed});
      check({dense({110, 130}), 300, transposed, DType::kI64});
      check({padded_rows({3, 4, 20}, dtype), 60, transposed});
      check({{{3, 5, 20}, {-100, 20, 1}, dtype}, 60, transposed});
      check({{{4, 1, 20}, {140, 20, 1}, dtype}, 60, transposed});
    }
  }
}

TEST(LinearCrossEntropyKernel, NoRows) {
  check({TensorLayout::contiguous({{0, 8}, DType::kF32}), 20, false});
  check({TensorLayout::contiguous({{0, 8}, DType::kBF16}), 20, true});
}

TEST(LinearCrossEntropyKernel, LargeLogits) {
  std::vector<Operand> inputs =
      make_inputs({TensorLayout::contiguous({{6, 40}, DType::kF32}), 90, false});
  for (std::int64_t i = 0; i < inputs[0].size(); ++i) inputs[0].set(i, inputs[0].get(i) * 100);
  const TensorSpec rows{Shape{6}, DType::kF32};
  const Operation operation = op::LinearCrossEntropy{kIgnore};
  const auto expected = interpret(operation, inputs, rows);
  const auto actual = run_kernel(make_linear_cross_entropy, operation, inputs,
                                 {rows, rows, {inputs[0].shape(), DType::kF32}});
  EXPECT_TRUE(near(actual[0], expected[0].real, 1e-5, 1e-3));
  EXPECT_TRUE(near(actual[2], expected[2].real, 1e-4, 1e-4));
}

TEST(LinearCrossEntropyKernel, RefusesTargetsOutOfRange) {
  for (const double bad : {-1.0, 90.0}) {
    std::vector<Operand> inputs =
        make_inputs({TensorLayout::contiguous({{6, 4}, DType::kF32}), 90, false});
    inputs[2].set(2, bad);
    const TensorSpec rows{Shape{6}, DType::kF32};
    EXPECT_THROW(run_kernel(make_linear_cross_entropy, op::LinearCrossEntropy{kIgnore}, inputs,
                            {rows, rows, {inputs[0].shape(), DType::kF32}}),
                 DeviceError);
  }
}

TEST(LinearCrossEntropyKernel, ScratchDoesNotGrowWithTheVocabulary) {
  const auto scratch = [](std::int64_t classes) {
    const TensorLayout in[] = {TensorLayout::contiguous({{512, 64}, DType::kBF16}),
                               TensorLayout::contiguous({{64, classes}, DType::kBF16}),
                               TensorLayout::contiguous({Shape{512}, DType::kI32})};
    const TensorLayout out[] = {TensorLayout::contiguous({Shape{512}, DType::kF32}),
                                TensorLayout::contiguous({Shape{512}, DType::kF32}),
                                TensorLayout::contiguous({{512, 64}, DType::kBF16})};
    const bool needed[] = {true, true, true};
    return make_linear_cross_entropy({op::LinearCrossEntropy{kIgnore}, in, out, needed})
        ->scratch_bytes();
  };
  EXPECT_EQ(scratch(200'000), scratch(2'000));
  EXPECT_LT(scratch(200'000), std::size_t{4} << 20);
}

}  // namespace
}  // namespace metal_candle::backend::cpu::testing
