// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// softmax, log_softmax, logsumexp and the cross entropies.
#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

class SoftmaxPassTest : public GraphTest {
 protected:
  Expr x_ = input({4, 6});
};

TEST_F(SoftmaxPassTest, SoftmaxWithAndWithoutShift) {
  const Expr e = exp(x_ - max(x_, 1));
  output(e / sum(e, 1));
  const Expr f = exp(x_);
  output(f / sum(f, 0));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("softmax", "softmax")) << graph_.to_text();
}

TEST_F(SoftmaxPassTest, SoftmaxByReciprocalAndWithReshapedSums) {
  const Expr e = exp(x_ - reshape(max(x_, 1, false), {4, 1}));
  output(e * (1.0 / reshape(sum(e, 1, false), {4, 1})));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("softmax")) << graph_.to_text();
}

TEST_F(SoftmaxPassTest, SoftmaxOfHalfPrecision) {
  const Expr x = input({4, 6}, DType::kBF16);
  const Expr wide = cast(x, DType::kF32);
  const Expr e = exp(wide - max(wide, 1));
  output(cast(e / sum(e, 1), DType::kBF16));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("softmax")) << graph_.to_text();
}

TEST_F(SoftmaxPassTest, LogSoftmaxForms) {
  const Expr shifted = x_ - max(x_, 1);
  output(shifted - log(sum(exp(shifted), 1)));
  const Expr y = x_ * 2.0;
  output(y - log(sum(exp(y), 1)));
  const Expr e = exp(x_);
  output(log(e / sum(e, 0)));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("log_softmax", "elementwise", "log_softmax", "log_softmax"))
      << graph_.to_text();
}

TEST_F(SoftmaxPassTest, ExpOfLogSoftmax) {
  output(exp(x_ - log(sum(exp(x_), 1))));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("softmax")) << graph_.to_text();
}

TEST_F(SoftmaxPassTest, LogSumExpForms) {
  output(log(sum(exp(x_), 1)));
  output(max(x_, 0) + log(sum(exp(x_ - max(x_, 0)), 0)));
  const Expr y = x_ * 2.0;
  output(log(sum(exp(y - max(y, 1)), 1, false)) + max(y, 1, false));
  const Expr z = x_ * 3.0;
  output(log(sum(exp(z - max(z, 1)), 1, false)) + reshape(max(z, 1), {4}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("logsumexp", "logsumexp", "elementwise", "logsumexp",
                                        "elementwise", "logsumexp"))
      << graph_.to_text();
}

TEST_F(SoftmaxPassTest, AShiftAlongAnotherAxisIsPartOfTheArgument) {
  const Expr e = exp(x_ - max(x_, 0));
  output(e / sum(e, 1));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("reduce_max", "subtract", "softmax")) << graph_.to_text();
}

TEST_F(SoftmaxPassTest, RefusesOtherSums) {
  const Expr e = exp(x_);
  output(e / apply(op::Reduce{ReduceKind::kSum, {0, 1}, true}, {e}));  // Over two axes.
  const Expr f = exp(input({6, 6}));
  output(f / sum(f, 1, false));  // Divides row by row what was summed column by column.
  const Expr g = exp(x_ * 2.0);
  output(g / max(g, 1));
  output(log(apply(op::Reduce{ReduceKind::kSum, {0, 1}, true}, {exp(x_ * 3.0)})));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("softmax"))) << graph_.to_text();
  EXPECT_THAT(operations(), Not(Contains("logsumexp"))) << graph_.to_text();
}

TEST_F(SoftmaxPassTest, RefusesOtherUsersAndOutputs) {
  const Expr e = exp(x_);
  output(e / sum(e, 1));
  output(e);
  const Expr f = exp(x_ * 2.0);
  const Expr total = sum(f, 1);
  output(f / total);
  output(sqrt(total));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("softmax"))) << graph_.to_text();
}

TEST_F(SoftmaxPassTest, TheArgumentMayHaveOtherUsers) {
  const Expr y = square(x_);
  const Expr e = exp(y - max(y, 1));
  output(e / sum(e, 1));
  output(y);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("square", "softmax"));
}

class CrossEntropyPassTest : public GraphTest {
 protected:
  Expr logits_ = input({5, 7});
  Expr targets_ = indices({5}, 7);
};

TEST_F(CrossEntropyPassTest, FromLogSoftmax) {
  const Expr log_p = logits_ - log(sum(exp(logits_), 1));
  const Expr taken = take_along_axis(log_p, reshape(targets_, {5, 1}), 1);
  output(mean(-reshape(taken, {5})));
  optimize();
  EXPECT_THAT(operations(), Contains("cross_entropy")) << graph_.to_text();
  EXPECT_THAT(operations(), Not(Contains("negative"))) << graph_.to_text();
  EXPECT_THAT(operations(), Not(Contains("reshape"))) << graph_.to_text();
}

TEST_F(CrossEntropyPassTest, FromLogSumExp) {
  const Expr taken = take_along_axis(logits_, reshape(targets_, {5, 1}), 1);
  output(log(sum(exp(logits_), 1, false)) - reshape(taken, {5}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("cross_entropy")) << graph_.to_text();
}

TEST_F(CrossEntropyPassTest, RefusesPairsOfRowsAndOtherAxes) {
  const Expr taken = take_along_axis(logits_, reshape(targets_, {5, 1}), 1);
  output(log(sum(exp(logits_), 1, false)) - taken);
  const Expr columns = indices({1, 7}, 5);
  const Expr log_p = logits_ - log(sum(exp(logits_), 1));
  output(take_along_axis(log_p, columns, 0));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("cross_entropy"))) << graph_.to_text();
}

TEST_F(CrossEntropyPassTest, OverAProductNeverHoldsTheLogits) {
  const Expr x = input({5, 3});
  const Expr w = input({3, 7});
  const Expr logits = matmul(x, w);
  const Expr log_p = logits - log(sum(exp(logits), 1));
  output(-reshape(take_along_axis(log_p, reshape(targets_, {5, 1}), 1), {5}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("linear_cross_entropy")) << graph_.to_text();
}

TEST_F(CrossEntropyPassTest, OverAProductThatIsUsedElsewhere) {
  const Expr logits = matmul(input({5, 3}), input({3, 7}));
  const Expr log_p = logits - log(sum(exp(logits), 1));
  output(-reshape(take_along_axis(log_p, reshape(targets_, {5, 1}), 1), {5}));
  output(logits);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("matmul", "cross_entropy")) << graph_.to_text();
}

TEST_F(CrossEntropyPassTest, HalfPrecisionLogitsAreReadAsTheyAre) {
  const Expr narrow = input({5, 7}, DType::kBF16);
  const Expr logits = cast(narrow, DType::kF32);
  const Expr log_p = logits - log(sum(exp(logits), 1));
  output(-take_along_axis(log_p, reshape(targets_, {5, 1}), 1));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("cross_entropy", "reshape")) << graph_.to_text();
}

}  // namespace
}  // namespace metal_candle::testing
