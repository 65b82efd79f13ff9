// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The pattern language by itself.
#include "metal_candle/optimize/pattern.h"

#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

namespace p = metal_candle::pattern;

class PatternTest : public GraphTest {
 protected:
  Expr x_ = input({2, 4});
  Expr y_ = input({2, 4});
  const p::Var a, b;
  const p::ScalarVar s;
};

TEST_F(PatternTest, BindsNodesAndScalars) {
  const Expr root = (x_ + y_) * 3.0;
  output(root);
  const auto m = p::match(graph_, root.id, (p::Pattern(a) + b) * s);
  ASSERT_TRUE(m);
  EXPECT_EQ((*m)[a], x_.id);
  EXPECT_EQ((*m)[b], y_.id);
  EXPECT_EQ((*m)[s], 3.0);
  EXPECT_EQ(m->root(), root.id);
  EXPECT_EQ(m->value_or(p::ScalarVar(), 7), 7);
}

TEST_F(PatternTest, CommutativeOperandsInEitherOrder) {
  const Expr root = constant(x_, 2) * exp(x_);
  output(root);
  EXPECT_TRUE(p::match(graph_, root.id, p::exp(a) * s));
  EXPECT_TRUE(p::match(graph_, root.id, p::Pattern(s) * p::exp(a)));
}

TEST_F(PatternTest, DivisionDoesNotCommute) {
  const Expr root = exp(x_) / y_;
  output(root);
  EXPECT_TRUE(p::match(graph_, root.id, p::exp(a) / b));
  EXPECT_FALSE(p::match(graph_, root.id, p::Pattern(b) / p::exp(a)));
}

TEST_F(PatternTest, ARepeatedVariableIsOneNode) {
  const Expr same = x_ * exp(x_);
  const Expr other = y_ * exp(x_);
  output(same);
  output(other);
  EXPECT_TRUE(p::match(graph_, same.id, p::Pattern(a) * p::exp(a)));
  EXPECT_FALSE(p::match(graph_, other.id, p::Pattern(a) * p::exp(a)));
}

TEST_F(PatternTest, ChoicesThatFailLaterAreTakenBack) {
  // (a + b) * exp(a): the first choice for a is wrong, and only the other operand tells.
  const Expr root = (x_ + y_) * exp(y_);
  output(root);
  const auto m = p::match(graph_, root.id, (p::Pattern(a) + b) * p::exp(a));
  ASSERT_TRUE(m);
  EXPECT_EQ((*m)[a], y_.id);
  EXPECT_EQ((*m)[b], x_.id);
}

TEST_F(PatternTest, AnIntermediateWithAnotherUserRefuses) {
  const Expr e = exp(x_);
  const Expr root = e * y_;
  output(root);
  EXPECT_TRUE(p::match(graph_, root.id, p::exp(a) * b));
  const Expr other = log(e);
  EXPECT_FALSE(p::match(graph_, root.id, p::exp(a) * b));
  graph_.remove_if_unused(other.id);
  EXPECT_TRUE(p::match(graph_, root.id, p::exp(a) * b));
  output(e);
  EXPECT_FALSE(p::match(graph_, root.id, p::exp(a) * b));
}

TEST_F(PatternTest, AnIntermediateUsedTwiceInsideIsFine) {
  const Expr e = exp(x_);
  const Expr root = e / sum(e, 1);
  output(root);
  const p::Pattern exponential = p::exp(a);
  EXPECT_TRUE(p::match(graph_, root.id, exponential / p::reduce(ReduceKind::kSum, exponential)));
}

TEST_F(PatternTest, SharedViewsOfWhatStaysAreFine) {
  const Expr view = transpose(x_, {1, 0});
  const Expr root = matmul(y_, view);
  output(root);
  output(view);
  EXPECT_TRUE(p::match(graph_, root.id, p::matmul(a, p::operation<op::Transpose>(b))));
  const Expr computed = transpose(exp(x_), {1, 0});
  const Expr other = matmul(y_, computed);
  output(other);
  output(computed);
  EXPECT_FALSE(p::match(graph_, other.id, p::matmul(a, p::operation<op::Transpose>(p::exp(b)))))
      << "the exponential is needed for the other view";
}

TEST_F(PatternTest, ConstantsMatchWithinRoundingOfTheirDtype) {
  const Expr narrow = input({2}, DType::kBF16);
  const Expr rounded = narrow * 0.7978845608;
  const Expr exact = x_ * 0.79788456;
  const Expr wrong = x_ * 0.798;
  for (const Expr& e : {rounded, exact, wrong}) output(e);
  EXPECT_TRUE(p::match(graph_, rounded.id, p::Pattern(a) * 0.7978845608));
  EXPECT_TRUE(p::match(graph_, exact.id, p::Pattern(a) * 0.7978845608));
  EXPECT_FALSE(p::match(graph_, wrong.id, p::Pattern(a) * 0.7978845608));
}

TEST_F(PatternTest, ConstantsAreSeenThroughBroadcasts) {
  const Expr root = x_ * broadcast(reshape(constant(x_, 5), {1, 1}), {2, 4});
  output(root);
  const auto m = p::match(graph_, root.id, p::Pattern(a) * s);
  ASSERT_TRUE(m);
  EXPECT_EQ((*m)[s], 5.0);
}

TEST_F(PatternTest, AlternativesConditionsAndNames) {
  const Expr root = log(exp(x_));
  output(root);
  const p::Var inner;
  const p::Pattern pattern = p::log(p::any_of({p::log(a), p::exp(a).as(inner)}));
  const auto m = p::match(graph_, root.id, pattern);
  ASSERT_TRUE(m);
  ASSERT_NE(m->get_if<op::Unary>(inner), nullptr);
  EXPECT_EQ(m->get_if<op::Unary>(inner)->kind, UnaryKind::kExp);
  EXPECT_FALSE(p::match(graph_, root.id, pattern, [](const p::Match&) { return false; }));
  const auto never = [](const ComputationGraph&, NodeId) { return false; };
  EXPECT_FALSE(p::match(graph_, root.id, pattern.where(never)));
}

TEST_F(PatternTest, RootsAreThoseOfAllAlternatives) {
  const OperationSet roots = p::any_of({p::exp(a), p::matmul(a, b)}).roots();
  EXPECT_TRUE(roots.contains(op::Unary{UnaryKind::kLog}));
  EXPECT_TRUE(roots.contains(op::Matmul{}));
  EXPECT_FALSE(roots.contains(op::Softmax{0}));
}

}  // namespace
}  // namespace metal_candle::testing
