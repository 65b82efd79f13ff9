// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// dead_code, layout, constant_folding and common_subexpressions.
#include <cmath>
#include <limits>

#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class CanonicalPassTest : public GraphTest {
 protected:
  /// Only the first stage.
  OptimizationReport canonicalize() {
    std::vector<PassEntry> passes;
    for (PassEntry& entry : passes_in_order(PassSet::all())) {
      if (entry.stage == OptimizerStage::kCanonicalize) passes.push_back(std::move(entry));
    }
    return optimize(GraphOptimizer(std::move(passes)));
  }
  [[nodiscard]] double constant_output(std::size_t i) const {
    const auto* full = graph_.get_if<op::Full>(graph_.outputs()[i]);
    return full != nullptr ? full->value.real : std::numeric_limits<double>::quiet_NaN();
  }

  Expr x_ = input({2, 3, 4});
};

TEST_F(CanonicalPassTest, DeadCodeFreesIntermediates) {
  const Expr e = exp(x_);
  static_cast<void>(log(e) + 1.0);
  output(e / sum(e, 2));
  const OptimizationReport report = optimize();
  EXPECT_THAT(operations(), ElementsAre("softmax"));
  EXPECT_GE(report.rewrites("dead_code"), 1);
}

TEST_F(CanonicalPassTest, IdentitiesGo) {
  Expr y = apply(op::Identity{}, {x_});
  y = apply(op::StopGradient{}, {y});
  y = reshape(y, {2, 3, 4});
  y = transpose(y, {0, 1, 2});
  y = broadcast(y, {2, 3, 4});
  y = cast(y, DType::kF32);
  y = apply(op::Slice{{0, 0, 0}, {1, 1, 1}}, {y}, {Shape{2, 3, 4}, DType::kF32});
  y = apply(op::Concatenate{0}, {y});
  y = apply(op::Pad{{0, 0, 0}, Scalar()}, {y}, {Shape{2, 3, 4}, DType::kF32});
  output(y);
  canonicalize();
  EXPECT_THAT(operations(), IsEmpty()) << graph_.to_text();
}

TEST_F(CanonicalPassTest, LayoutsCompose) {
  output(transpose(transpose(x_, {2, 0, 1}), {1, 0, 2}));
  output(reshape(reshape(x_, {6, 4}), {3, 8}));
  const Expr some = apply(op::Slice{{1, 2, 3}, {1, -1, -2}}, {x_}, {Shape{1, 3, 2}, DType::kF32});
  output(apply(op::Slice{{0, 1, 1}, {1, 1, -1}}, {some}, {Shape{1, 2, 2}, DType::kF32}));
  output(broadcast(broadcast(input({4}), {3, 4}), {2, 3, 4}));
  canonicalize();
  EXPECT_THAT(operations(), ElementsAre("transpose", "reshape", "slice", "broadcast_to"));
}

TEST_F(CanonicalPassTest, TransposesOfTriviaAreReshapes) {
  const Expr y = input({1, 3, 4});
  output(reshape(transpose(y, {1, 0, 2}), {12}));
  output(reshape(transpose(x_, {1, 0, 2}), {24}));
  canonicalize();
  EXPECT_THAT(operations(), ElementsAre("reshape", "transpose", "reshape"));
}

TEST_F(CanonicalPassTest, CastsOnlyWhereTheInnerOneIsExact) {
  const Expr half = input({4}, DType::kBF16);
  output(cast(cast(half, DType::kF32), DType::kBF16));
  const Expr integer = input({4}, DType::kI32);
  output(cast(cast(integer, DType::kI64), DType::kF32));
  canonicalize();
  EXPECT_THAT(operations(), ElementsAre("cast"));
  EXPECT_EQ(graph_.outputs()[0], half.id);
}

TEST_F(CanonicalPassTest, CastsThatRoundStay) {
  output(cast(cast(x_, DType::kBF16), DType::kF32));
  output(cast(cast(x_, DType::kI32), DType::kF32));
  output(cast(cast(input({4}, DType::kI32), DType::kF32), DType::kI32));
  tolerance_ = 0;
  canonicalize();
  EXPECT_EQ(operations().size(), 6u);
}

TEST_F(CanonicalPassTest, BroadcastsThatTheOperationMakesAnyway) {
  output(x_ + broadcast(input({4}), {2, 3, 4}));
  output(x_ * reshape(input({4}), {1, 1, 4}));
  // Both would be too many: one of them gives the shape.
  output(broadcast(input({3, 1}), {3, 4}) + broadcast(input({1, 1}), {3, 4}));
  canonicalize();
  EXPECT_THAT(operations(), ElementsAre("add", "multiply", "broadcast_to", "add"))
      << graph_.to_text();
}

TEST_F(CanonicalPassTest, ReducedAxesThatAreReshapedBack) {
  output(reshape(sum(x_, 1, false), {2, 1, 4}));
  output(reshape(sum(input({2, 3, 4}), 1, false), {2, 4, 1}));  // Another axis.
  canonicalize();
  EXPECT_THAT(operations(), ElementsAre("reduce_sum", "reduce_sum", "reshape"));
}

TEST_F(CanonicalPassTest, ConstantsFold) {
  const Expr two = constant(x_, 2);
  output(exp(two) * two + sqrt(two));
  output(reshape(broadcast(two, {3, 4}), {12}));
  output(sum(broadcast(two, {3, 4}), 1, false));
  output(where(binary(BinaryKind::kLess, two, constant(x_, 1)), two, two * two));
  const Expr third = constant(input({}, DType::kBF16), 1.0 / 3);
  output(cast(third, DType::kF32));
  tolerance_ = 1e-2;  // The reference does not round constants.
  canonicalize();
  EXPECT_NEAR(constant_output(0), std::exp(2.0) * 2 + std::sqrt(2.0), 1e-5);
  EXPECT_EQ(constant_output(1), 2);
  EXPECT_EQ(constant_output(2), 8);
  EXPECT_EQ(constant_output(3), 4);
  EXPECT_EQ(constant_output(4), 0.333984375);  // What bf16 holds of a third.
}

TEST_F(CanonicalPassTest, IntegersFoldExactly) {
  const Expr x = input({}, DType::kI32);
  output(constant(x, 2147483647) + constant(x, 1));
  output(cast(constant(input({}), 3e9), DType::kI32));
  output(cast(constant(x, 300), DType::kU8));
  canonicalize();
  EXPECT_EQ(constant_output(0), -2147483648.0);
  EXPECT_EQ(constant_output(1), 2147483647.0);
  EXPECT_EQ(constant_output(2), 44);
}

TEST_F(CanonicalPassTest, AlgebraWithConstants) {
  output(x_ * 1.0);
  output(x_ + 0.0);
  output(-(-x_));
  output(power(x_, 1));
  canonicalize();
  EXPECT_THAT(operations(), IsEmpty()) << graph_.to_text();
}

TEST_F(CanonicalPassTest, ZeroTimesAFloatIsNotZero) {
  output(x_ * 0.0);
  output(input({3}, DType::kI32) * 0.0);
  canonicalize();
  EXPECT_THAT(operations(), ElementsAre("full", "multiply", "full"));
}

TEST_F(CanonicalPassTest, PowersAndRoots) {
  const Expr y = square(x_) + 1.0;
  output(power(y, 2));
  output(power(y, -0.5));
  output(1.0 / sqrt(y + 1.0));
  canonicalize();
  EXPECT_THAT(operations(), ElementsAre("square", "full", "add", "square", "rsqrt", "add", "rsqrt"))
      << graph_.to_text();
}

TEST_F(CanonicalPassTest, ConstantsThatGiveTheShapeKeepIt) {
  const Expr ones = broadcast(constant(x_, 3), {2, 4});
  output(input({4}) * ones);
  output(input({2, 4}) * ones);
  canonicalize();
  EXPECT_EQ(graph_.node(graph_.outputs()[0]).spec.shape, (Shape{2, 4}));
  EXPECT_EQ(graph_.node(graph_.node(graph_.outputs()[1]).inputs[1]).spec.shape, Shape{});
}

TEST_F(CanonicalPassTest, CommonSubexpressions) {
  const Expr y = input({2, 3, 4});
  output((exp(x_) + y) * (y + exp(x_)));
  output(exp(x_) - y);
  output(y - exp(x_));
  const OptimizationReport report = canonicalize();
  EXPECT_THAT(operations(), ElementsAre("exp", "add", "square", "subtract", "subtract"))
      << graph_.to_text();
  EXPECT_GE(report.rewrites("common_subexpressions"), 4);
}

TEST_F(CanonicalPassTest, RandomBitsOfOneKeyAreOneValue) {
  const Expr key = input({2}, DType::kU32);
  const TensorSpec spec{Shape{4}, DType::kU32};
  output(apply(op::RandomBits{}, {key}, spec) + apply(op::RandomBits{}, {key}, spec));
  canonicalize();
  EXPECT_THAT(operations(), ElementsAre("random_bits", "add"));
}

TEST_F(CanonicalPassTest, BarriersAreNotMerged) {
  const Expr e = exp(x_);
  const Expr a = apply(op::Barrier{}, {x_, e});
  const Expr b = apply(op::Barrier{}, {x_, e});
  output(log(square(a)) + log(square(b)));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("exp", "barrier", "barrier", "elementwise"));
}

TEST_F(CanonicalPassTest, SpecsTellAttributesApart) {
  output(reshape(x_, {6, 4}));
  output(reshape(x_, {4, 6}));
  output(cast(x_, DType::kF16));
  output(cast(x_, DType::kBF16));
  canonicalize();
  EXPECT_EQ(operations().size(), 4u);
}

}  // namespace
}  // namespace metal_candle::testing
