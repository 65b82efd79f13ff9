// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Evaluating inside a function that is being differentiated keeps what the gradient needs.
#include <gtest/gtest.h>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

constexpr ExecutionMode kModes[] = {ExecutionMode::kEager, ExecutionMode::kSync,
                                    ExecutionMode::kAsync};

TEST(EvaluationInAGradient, ItemKeepsTheGraph) {
  for (const ExecutionMode mode : kModes) {
    const ScopedExecutionMode scope(mode);
    SCOPED_TRACE(name(mode));
    float seen = 0;
    const auto loss = [&](const Tensor& x) {
      const Tensor y = sum(square(x));
      seen = y.item<float>();
      return y * 3.0;
    };
    const auto [value, gradient] = value_and_grad(loss)(Tensor({1.0f, 2.0f, 3.0f}));
    EXPECT_EQ(seen, 14.0f);
    EXPECT_EQ(value.item<float>(), 42.0f);
    EXPECT_EQ(gradient.to_vector<float>(), (std::vector<float>{6, 12, 18}));
  }
}

TEST(EvaluationInAGradient, OutputsThatCouldTakeOverTheirInputsMemory) {
  // y has the size of x, which nobody but the graph holds.
  for (const ExecutionMode mode : kModes) {
    const ScopedExecutionMode scope(mode);
    SCOPED_TRACE(name(mode));
    const auto loss = [](const Tensor& x) {
      Tensor y = x * x;
      y.eval();
      Tensor z = y * y;
      (void)z.eval_async();
      y = Tensor();
      z = exp(z * 0.0) * z;
      z.eval();
      return sum(z);
    };
    const std::vector<float> values(1000, 2.0f);
    const auto [value, gradient] = value_and_grad(loss)(Tensor(values, {1000}));
    EXPECT_EQ(value.item<float>(), 16000.0f);
    EXPECT_EQ(gradient.to_vector<float>(), std::vector<float>(1000, 32.0f));
  }
}

TEST(EvaluationInAGradient, ControlFlowOnValues) {
  const auto loss = [](const Tensor& x) {
    Tensor y = x;
    while (sum(y).item<float>() < 100.0f) y = y * 2.0;
    return sum(y);
  };
  const auto [value, gradient] = value_and_grad(loss)(Tensor({1.0f, 4.0f}));
  EXPECT_EQ(value.item<float>(), 160.0f);
  EXPECT_EQ(gradient.to_vector<float>(), (std::vector<float>{32, 32}));
}

TEST(EvaluationInAGradient, OfHigherOrder) {
  const auto cube = [](const Tensor& x) {
    const Tensor y = x * x * x;
    (void)y.item<float>();
    return y;
  };
  const auto second = grad([&](const Tensor& x) {
    const Tensor d = grad(cube)(x);
    (void)d.item<float>();
    return d;
  });
  EXPECT_NEAR(second(Tensor(2.0f)).item<float>(), 12.0f, 1e-5f);
}

TEST(EvaluationInAGradient, TheGraphIsLetGoAfterwards) {
  Tensor kept;
  const auto loss = [&](const Tensor& x) {
    kept = x * 2.0;
    kept.eval();
    return sum(kept);
  };
  const Tensor x = Tensor({1.0f, 2.0f});
  (void)grad(loss)(x).to_vector<float>();
  EXPECT_FALSE(kept.node()->pin()) << "the expression is still there";
  EXPECT_EQ(kept.to_vector<float>(), (std::vector<float>{2, 4}));
}

TEST(EvaluationInAGradient, AfterRunningOutOfMemoryInside) {
  const Tensor x = ones({1 << 18}).eval();
  const auto loss = [](const Tensor& p) {
    const Tensor y = cumsum(p, 0);
    const std::size_t limit = memory_use().limit;
    set_memory_limit(memory_use().in_use + 1000);
    EXPECT_THROW(y.eval(), OutOfMemoryError);
    set_memory_limit(limit);
    return max(y);
  };
  const auto [value, gradient] = value_and_grad(loss)(x);
  EXPECT_EQ(value.item<float>(), static_cast<float>(1 << 18));
  EXPECT_EQ(gradient.to_vector<float>()[0], 1.0f);
}

}  // namespace
}  // namespace metal_candle
