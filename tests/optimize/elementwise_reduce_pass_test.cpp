// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What is computed for a reduction alone joins it; what others need does not.
#include <random>

#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

class ElementwiseReducePassTest : public GraphTest {
 protected:
  [[nodiscard]] std::size_t instructions() const {
    return the<op::ElementwiseReduce>().elementwise.program->instructions.size();
  }
  Expr x_ = input({3, 4});
  Expr y_ = input({3, 4});
};

TEST_F(ElementwiseReducePassTest, OneOperation) {
  output(sum(square(x_), 1));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise_reduce_sum"));
  EXPECT_EQ(instructions(), 1u);
  EXPECT_EQ(the<op::ElementwiseReduce>().reduce, (op::Reduce{ReduceKind::kSum, {1}, true}));
}

TEST_F(ElementwiseReducePassTest, EveryKindAndAxis) {
  for (const auto kind : {ReduceKind::kSum, ReduceKind::kProd, ReduceKind::kMax, ReduceKind::kMin,
                          ReduceKind::kAny, ReduceKind::kAll}) {
    for (const int axis : {0, 1}) {
      reset();
      output(reduce(kind, tanh(input({3, 4})), axis, false));
      optimize();
      EXPECT_EQ(operations().size(), 1u) << graph_.to_text();
      EXPECT_EQ(the<op::ElementwiseReduce>().reduce, (op::Reduce{kind, {axis}, false}));
    }
  }
}

TEST_F(ElementwiseReducePassTest, MeanSquaredDifference) {
  output(mean(square(x_ - y_)));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise_reduce_sum", "elementwise"));
  EXPECT_EQ(instructions(), 2u);
}

TEST_F(ElementwiseReducePassTest, OperandsBroadcast) {
  const Expr row = input({4});
  output(sum(x_ * row + 1.0, 0));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise_reduce_sum"));
  EXPECT_EQ(instructions(), 3u);
}

TEST_F(ElementwiseReducePassTest, SmallOperandsAreNotComputedAtTheLargeShape) {
  output(sum(x_ * tanh(exp(input({4}))), 0));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise", "elementwise_reduce_sum"));
}

TEST_F(ElementwiseReducePassTest, WhatFollowsIsAProgramOfItsOwn) {
  output(tanh(exp(sum(square(x_), 1))));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise_reduce_sum", "elementwise"));
}

TEST_F(ElementwiseReducePassTest, CastThenSum) {
  output(sum(cast(input({3, 4}, DType::kBF16), DType::kF32), 1));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise_reduce_sum"));
}

TEST_F(ElementwiseReducePassTest, SharedCastsAreReadAtTheirSource) {
  const Expr half = input({3, 4}, DType::kBF16);
  const Expr wide = cast(half, DType::kF32);
  output(sum(wide, 1));
  output(sum(square(wide), 0));
  output(wide * x_);
  optimize();
  EXPECT_THAT(operations(), UnorderedElementsAre("elementwise_reduce_sum", "elementwise_reduce_sum",
                                                 "elementwise"));
  EXPECT_THAT(graph_.node(graph_.outputs()[0]).inputs, ElementsAre(half.id));
}

TEST_F(ElementwiseReducePassTest, ValuesThatOthersUseAreNotComputedTwice) {
  const Expr squares = square(x_);
  output(sum(squares, 1));
  output(max(squares, 0));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("square", "reduce_sum", "reduce_max"));
}

TEST_F(ElementwiseReducePassTest, OnlyWhatIsNotSharedJoins) {
  const Expr e = exp(x_);
  output(sum(square(e), 1));
  output(apply(op::Cumulative{ReduceKind::kSum, 0, false}, {e}));
  optimize();
  EXPECT_THAT(operations(),
              UnorderedElementsAre("exp", "elementwise_reduce_sum", "cumulative_sum"));
}

TEST_F(ElementwiseReducePassTest, OutputsAreNotSwallowed) {
  const Expr squares = square(x_);
  output(squares);
  output(sum(squares, 1));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("square", "reduce_sum"));
}

TEST_F(ElementwiseReducePassTest, InputsAndOtherOperationsAreReducedAsTheyAre) {
  output(sum(x_, 1));
  output(sum(matmul(x_, input({4, 5})), 0));
  optimize();
  EXPECT_THAT(operations(), UnorderedElementsAre("reduce_sum", "matmul", "reduce_sum"));
}

TEST_F(ElementwiseReducePassTest, CompositesAreStillFound) {
  const Expr x = input({3, 8});
  const Expr weight = input({8});
  output(x * rsqrt(mean(x * x) + 1e-5) * weight);
  const Expr centred = x - mean(x);
  output(centred * rsqrt(mean(centred * centred) + 1e-5) * weight);
  const Expr e = exp(x - max(x, 1));
  output(e / sum(e, 1));
  optimize();
  EXPECT_THAT(operations(), UnorderedElementsAre("rms_norm", "layer_norm", "softmax"));
}

TEST_F(ElementwiseReducePassTest, WithoutThePass) {
  output(sum(square(x_ - y_), 1));
  optimize(GraphOptimizer(PassSet::all().without("elementwise_reduce")));
  EXPECT_THAT(operations(), ElementsAre("elementwise", "reduce_sum"));
}

TEST_F(ElementwiseReducePassTest, RandomGraphsComputeTheSame) {
  for (unsigned seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    reset();
    std::vector<Expr> values = {input({3, 4}), input({4}), input({3, 1})};
    const auto any = [&] { return values[random() % values.size()]; };
    for (int i = 0; i < 30; ++i) {
      switch (random() % 6) {
        case 0:
          values.push_back(tanh(any()));
          break;
        case 1:
          values.push_back(cast(cast(any(), DType::kF16), DType::kF32));
          break;
        case 2:
          values.push_back(tanh(mean(any())));
          break;
        case 3: {
          const Expr x = any();
          const int axis = static_cast<int>(random() % x.shape().size());
          values.push_back(max(square(x), axis));
          break;
        }
        default:
          values.push_back(tanh(any() - any()));
      }
    }
    for (int i = 0; i < 3; ++i) output(any());
    output(values.back());
    optimize();
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace metal_candle::testing
