// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Groups of elementwise operations: what joins, what does not, and how large they get.
#include <random>

#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::ElementsAre;

class ElementwisePassTest : public GraphTest {
 protected:
  [[nodiscard]] std::size_t instructions() const {
    return the<op::Elementwise>().program->instructions.size();
  }
  Expr x_ = input({3, 4});
  Expr y_ = input({3, 4});
};

TEST_F(ElementwisePassTest, AChain) {
  output(tanh(exp(x_) + y_));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise"));
  EXPECT_EQ(instructions(), 3u);
}

TEST_F(ElementwisePassTest, ADiamond) {
  const Expr e = exp(x_);
  const Expr left = tanh(e);
  const Expr right = square(erf(e));
  output(left * right + e);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise"));
  EXPECT_EQ(instructions(), 6u) << "nothing is computed twice";
}

TEST_F(ElementwisePassTest, ScalarConstantsAreImmediates) {
  output(x_ * 2.0 + 2.0);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise"));
  EXPECT_EQ(graph_.node(graph_.outputs()[0]).inputs, std::vector<NodeId>{x_.id});
  EXPECT_EQ(instructions(), 3u);
}

TEST_F(ElementwisePassTest, OneOperationStaysWhatItIs) {
  output(exp(x_));
  output(x_ + y_);
  output(apply(op::SwiGlu{}, {x_, y_}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("exp", "add", "swiglu"));
}

TEST_F(ElementwisePassTest, SwiGluIsTwoInstructions) {
  output(apply(op::SwiGlu{}, {x_, y_ + 1.0}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise"));
  EXPECT_EQ(instructions(), 4u);
}

TEST_F(ElementwisePassTest, OperandsBroadcast) {
  const Expr row = input({4});
  const Expr column = input({3, 1});
  output(tanh(x_ + row) * column);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise"));
}

TEST_F(ElementwisePassTest, SmallOperandsAreNotComputedAtTheLargeShape) {
  const Expr row = input({4});
  output(x_ * tanh(exp(row)));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise", "multiply"));
}

TEST_F(ElementwisePassTest, ValuesUsedTwiceAreComputedOnce) {
  const Expr e = tanh(exp(x_));
  output(e + y_);
  output(sum(e, 1));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise", "add", "reduce_sum"));
}

TEST_F(ElementwisePassTest, OutputsAreNotSwallowed) {
  const Expr e = exp(x_);
  output(e);
  output(tanh(e));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("exp", "tanh"));
}

TEST_F(ElementwisePassTest, MakesNoCycle) {
  // exp(x) + f(exp(x)) where f is not elementwise: exp must stay outside.
  const Expr e = exp(x_);
  output(e + apply(op::Cumulative{ReduceKind::kSum, 0, false}, {tanh(e)}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("exp", "tanh", "cumulative_sum", "add"));
}

TEST_F(ElementwisePassTest, SharedCastsAreReadAtTheirSource) {
  const Expr half = input({3, 4}, DType::kBF16);
  const Expr wide = cast(half, DType::kF32);
  output(wide * x_);
  output(exp(wide));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise", "elementwise"));
  EXPECT_THAT(graph_.node(graph_.outputs()[1]).inputs, ElementsAre(half.id));
}

TEST_F(ElementwisePassTest, SharedCastsOfComputedValuesDoNotComputeThemTwice) {
  const Expr wide = cast(exp(input({3, 4}, DType::kBF16)), DType::kF32);
  output(wide * x_);
  output(tanh(wide));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise", "multiply", "tanh"));
}

TEST_F(ElementwisePassTest, GroupsAreBounded) {
  Expr chain = x_;
  for (int i = 0; i < 200; ++i) chain = tanh(chain);
  output(chain);
  Expr total = y_;
  for (int i = 0; i < 60; ++i) total = total + input({3, 4});
  output(total);
  optimize();
  std::size_t counted = 0;
  for (NodeId id = 0; id < graph_.size(); ++id) {
    const auto* group = graph_.get_if<op::Elementwise>(id);
    if (group == nullptr) continue;
    EXPECT_LE(group->program->instructions.size(), 64u);
    EXPECT_LE(graph_.node(id).inputs.size(), 12u);
    counted += group->program->instructions.size();
  }
  EXPECT_EQ(counted, 260u);
  EXPECT_LE(operations().size(), 4u + 6u);
}

TEST_F(ElementwisePassTest, OptimisingTwiceChangesNothing) {
  output(tanh(exp(x_) + y_) * 2.0);
  output(sum(square(x_) + 1.0, 1));
  optimize();
  const std::string once = graph_.to_text();
  optimize();
  EXPECT_EQ(graph_.to_text(), once);
}

TEST_F(ElementwisePassTest, RandomGraphsComputeTheSame) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    reset();
    std::vector<Expr> values = {input({3, 4}), input({4}), input({3, 1})};
    const auto any = [&] { return values[random() % values.size()]; };
    for (int i = 0; i < 40; ++i) {
      switch (random() % 8) {
        case 0:
          values.push_back(tanh(any()));
          break;
        case 1:
          values.push_back(square(tanh(any())));
          break;
        case 2:
          values.push_back(cast(cast(any(), DType::kF16), DType::kF32));
          break;
        case 3:
          values.push_back(any() * 0.5);
          break;
        case 4: {
          const Expr a = any();
          values.push_back(where(binary(BinaryKind::kLess, a, any()), a, constant(a, 0.25)));
          break;
        }
        case 5:
          values.push_back(tanh(mean(any())));
          break;
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
