// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// cross_entropy(x @ w, targets), differentiated: the logits are never held, and what comes out is
// what comes out without passes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "metal_candle/autograd/custom.h"
#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::int64_t kWidth = 6, kClasses = 40;

Tensor some(const Shape& shape, std::uint64_t seed, DType dtype = DType::kF32) {
  return astype(random::normal(shape, random::key(seed)), dtype).eval();
}
Tensor targets(const Shape& shape) {
  return (arange(num_elements(shape)) * 7 % kClasses).reshape(shape).eval();
}

/// What is differentiated: the loss and its gradients, freshly built.
using Tensors = std::vector<Tensor>;
using Program = std::function<Tensors()>;

std::string plan_of(const Program& program) {
  return plan_evaluation(program()).optimized.to_text();
}

void expect_values_as_without_passes(const Program& program, double tolerance = 1e-5) {
  Tensors expected;
  {
    const ScopedPasses none(PassSet::none());
    expected = program();
    eval(expected);
  }
  const Tensors actual = program();
  eval(actual);
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(actual[i].shape(), expected[i].shape());
    ASSERT_EQ(actual[i].dtype(), expected[i].dtype());
    const auto a = astype(actual[i], DType::kF32).to_vector<float>();
    const auto e = astype(expected[i], DType::kF32).to_vector<float>();
    for (std::size_t k = 0; k < a.size(); ++k) {
      ASSERT_NEAR(a[k], e[k], tolerance * (1 + std::abs(e[k]))) << "output " << i << " at " << k;
    }
  }
}

void expect_fused(const Program& program, double tolerance = 1e-5) {
  EXPECT_THAT(plan_of(program),
              AllOf(HasSubstr("= linear_cross_entropy("),
                    HasSubstr("linear_cross_entropy_backward"), Not(HasSubstr("matmul"))));
  expect_values_as_without_passes(program, tolerance);
}

/// The loss of some tensors and its gradients.
template <typename Fn>
Program differentiated(Fn loss, const Tensors& at) {
  return [=] {
    auto [value, results] = value_and_grad(loss)(at);
    results.insert(results.begin(), value);
    return results;
  };
}

TEST(FusedLoss, OfAProduct) {
  const Tensor t = targets({9});
  const auto loss = [=](const Tensors& p) { return cross_entropy(matmul(p[0], p[1]), t); };
  expect_fused(differentiated(loss, {some({9, kWidth}, 1), some({kWidth, kClasses}, 2)}));
}

TEST(FusedLoss, OfABatch) {
  const Tensor t = targets({2, 5});
  const auto loss = [=](const Tensors& p) {
    return cross_entropy(matmul(p[0], p[1]), t, {.ignore_index = 7, .reduction = Reduction::kSum});
  };
  expect_fused(differentiated(loss, {some({2, 5, kWidth}, 1), some({kWidth, kClasses}, 2)}));
}

TEST(FusedLoss, OfReshapedLogits) {
  const Tensor t = targets({10});
  const auto loss = [=](const Tensors& p) {
    return cross_entropy(reshape(matmul(p[0], p[1]), {10, kClasses}), t);
  };
  expect_fused(differentiated(loss, {some({2, 5, kWidth}, 1), some({kWidth, kClasses}, 2)}));
}

TEST(FusedLoss, OfATiedEmbedding) {
  const Tensor t = targets({9});
  const auto loss = [=](const Tensors& p) {
    return cross_entropy(matmul(p[0], transpose(p[1])), t);
  };
  expect_fused(differentiated(loss, {some({9, kWidth}, 1), some({kClasses, kWidth}, 2)}));
}

TEST(FusedLoss, OfHalfPrecisionLogitsInSingle) {
  const Tensor t = targets({9});
  const auto loss = [=](const Tensors& p) {
    return cross_entropy(astype(matmul(p[0], p[1]), DType::kF32), t);
  };
  // Without passes the logits and their gradient are rounded to bf16.
  expect_fused(differentiated(loss, {some({9, kWidth}, 1, DType::kBF16),
                                     some({kWidth, kClasses}, 2, DType::kBF16)}),
               0.03);
}

TEST(FusedLoss, AfterALinearLayer) {
  // The gradients form products of three matrices, which low-rank layers look like.
  const Tensor t = targets({9}), a = some({20, kWidth}, 3), b = some({kWidth}, 4);
  const auto loss = [=](const Tensors& p) {
    return cross_entropy(matmul(linear(p[0], a, b), p[1]), t);
  };
  const Program program = differentiated(loss, {some({9, 20}, 1), some({kWidth, kClasses}, 2)});
  EXPECT_THAT(plan_of(program), HasSubstr("linear_cross_entropy_backward"));
  expect_values_as_without_passes(program);
}

TEST(FusedLoss, OfAFrozenWeightOrInput) {
  const Tensor t = targets({9}), x = some({9, kWidth}, 1), w = some({kWidth, kClasses}, 2);
  expect_fused(
      differentiated([=](const Tensors& p) { return cross_entropy(matmul(p[0], w), t); }, {x}));
  expect_fused(
      differentiated([=](const Tensors& p) { return cross_entropy(matmul(x, p[0]), t); }, {w}));
}

TEST(FusedLoss, OfACheckpoint) {
  const Tensor t = targets({9});
  const auto loss = [=](const Tensors& p) {
    return checkpoint(
        [=](const Tensors& q) { return Tensors{cross_entropy(matmul(q[0], q[1]), t)}; })(p)[0];
  };
  expect_fused(differentiated(loss, {some({9, kWidth}, 1), some({kWidth, kClasses}, 2)}));
}

TEST(FusedLoss, NeverHoldsTheLogits) {
  // Planned, not run. A GPU takes hundreds of megabytes at a time.
  constexpr std::int64_t kRows = 4096, kManyClasses = 131072;
  const Tensor t = (arange(kRows) * 13 % kManyClasses).eval();
  const auto loss = [=](const Tensors& p) { return cross_entropy(matmul(p[0], p[1]), t); };
  const Program program = differentiated(loss, {some({kRows, 8}, 1), some({8, kManyClasses}, 2)});
  constexpr std::size_t kLogits = kRows * kManyClasses * sizeof(float);
  EXPECT_LT(plan_evaluation(program()).peak_bytes, kLogits / 2);
  const ScopedPasses none(PassSet::none());
  EXPECT_GE(plan_evaluation(program()).peak_bytes, kLogits);
}

TEST(FusedLoss, NotOfLogitsThatAreUsedElsewhere) {
  const Tensor t = targets({9}), x = some({9, kWidth}, 1), w = some({kWidth, kClasses}, 2);
  const Program program = [=] {
    const auto loss = [=](const Tensors& p) {
      const Tensor logits = matmul(p[0], p[1]);
      return std::pair(cross_entropy(logits, t), max(logits, -1));
    };
    auto [value, results, largest] = value_and_grad(loss)(Tensors{x, w});
    results.push_back(value);
    results.push_back(largest);
    return results;
  };
  EXPECT_THAT(plan_of(program), AllOf(HasSubstr("matmul"), Not(HasSubstr("linear_cross_entropy"))));
  expect_values_as_without_passes(program);
}

TEST(FusedLoss, NotOfAGradientThatIsUsedElsewhere) {
  // By a bias of the logits, whose gradient is a sum of theirs.
  const Tensor t = targets({9}), w = some({kWidth, kClasses}, 2);
  const auto loss = [=](const Tensors& p) { return cross_entropy(matmul(p[0], w) + p[1], t); };
  const Program program = differentiated(loss, {some({9, kWidth}, 1), some({kClasses}, 3)});
  EXPECT_THAT(plan_of(program), Not(HasSubstr("linear_cross_entropy")));
  expect_values_as_without_passes(program);
}

TEST(CausalMasks, MadeOfTrilAreNotHeld) {
  const Tensor q = some({1, 2, 64, 8}, 1), k = some({1, 2, 64, 8}, 2), v = some({1, 2, 64, 8}, 3);
  const auto loss = [](const Tensors& p) {
    const Tensor mask = tril(ones({64, 64}, DType::kBool));
    return sum(square(scaled_dot_product_attention(p[0], p[1], p[2], {.mask = mask})));
  };
  const Program composite = differentiated(loss, {q, k, v});
  EXPECT_THAT(plan_of(composite), AllOf(HasSubstr("causal=true"), Not(HasSubstr("causal=false")),
                                        Not(HasSubstr("arange"))));
  expect_values_as_without_passes(composite);
  const Program primitives = [=] {
    const Tensor scores = matmul(q, swapaxes(k, -1, -2)) * 0.35;
    const Tensor masked = where(tril(ones({64, 64})) == 0.0, -INFINITY, scores);
    return Tensors{matmul(softmax(masked), v)};
  };
  EXPECT_THAT(plan_of(primitives), AllOf(HasSubstr("causal=true"), Not(HasSubstr("arange"))));
  expect_values_as_without_passes(primitives);
}

}  // namespace
}  // namespace metal_candle
