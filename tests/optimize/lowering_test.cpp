// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/optimize/lowering.h"

#include "metal_candle/core/error.h"
#include "tests/optimize/graph_fixture.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

bool primitives_only(const Operation& operation, std::span<const TensorSpec>) {
  return !is_composite(operation);
}

class LoweringTest : public GraphTest {
 protected:
  /// Lowers and checks that the numbers stay.
  int lower(const std::vector<HostTensor>& values, const SupportsOperation& supports) {
    const std::vector<HostTensor> expected = interpret(graph_, values);
    const int decomposed = lower_unsupported(graph_, supports);
    expect_well_formed(graph_);
    const std::vector<HostTensor> actual = interpret(graph_, values);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(all_close(actual[i], expected[i], Tolerance{1e-5, 1e-5})) << graph_.to_text();
    }
    return decomposed;
  }
};

TEST_F(LoweringTest, CompositesBecomePrimitives) {
  output(apply(op::Softmax{1}, {input({2, 3})}));
  const HostTensor x = HostTensor::of({2, 3}, {1, 2, 3, -1, 0, 1});
  EXPECT_GE(lower({x}, primitives_only), 1);
  EXPECT_THAT(operations(), Not(Contains("softmax")));
}

TEST_F(LoweringTest, WhatIsSupportedStays) {
  output(apply(op::Softmax{1}, {input({2, 3})}));
  const auto all = [](const Operation&, std::span<const TensorSpec>) { return true; };
  EXPECT_EQ(lower_unsupported(graph_, all), 0);
  EXPECT_THAT(operations(), ::testing::ElementsAre("softmax"));
}

TEST_F(LoweringTest, SeveralOutputsOneOfThemUnused) {
  const Expr logits = input({2, 3});
  const Expr targets = indices({2}, 3);
  const Expr both = apply(op::CrossEntropy{-100}, {logits, targets});
  output(apply(op::Pick{0}, {both}, {Shape{2}, DType::kF32}));
  const HostTensor x = HostTensor::of({2, 3}, {1, 2, 3, -1, 0, 1});
  EXPECT_GE(lower({x, HostTensor::of_integers({2}, {2, 0})}, primitives_only), 1);
  EXPECT_THAT(operations(), Not(Contains("cross_entropy")));
}

TEST_F(LoweringTest, DecompositionsAreLoweredThemselves) {
  const Expr x = input({2, 4});
  const Expr w = input({4, 2});
  const Expr bias = input({2});
  output(apply(op::Linear{op::Activation::kGelu, true, false, 0.5f}, {x, w, bias}));
  const std::vector<HostTensor> values = {HostTensor::of({2, 4}, {1, 2, 3, 4, -1, 0, 1, 2}),
                                          HostTensor::of({4, 2}, {1, 0, 0, 1, -1, 1, .5, .5}),
                                          HostTensor::of({2}, {.25, -.5})};
  lower(values, primitives_only);
  EXPECT_THAT(operations(), AllOf(Contains("matmul"), Contains("erf"), Not(Contains("gelu"))));
}

TEST_F(LoweringTest, UnsupportedPrimitivesAreNamed) {
  output(matmul(input({2, 3}, DType::kF16), input({3, 4}, DType::kF16)));
  const auto no_half = [](const Operation&, std::span<const TensorSpec> inputs) {
    return inputs.empty() || inputs[0].dtype != DType::kF16;
  };
  try {
    lower_unsupported(graph_, no_half);
    FAIL() << "did not throw";
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("matmul"), HasSubstr("f16"), HasSubstr("[2, 3]")));
  }
}

TEST_F(LoweringTest, ViewsNeedNoKernel) {
  output(transpose(reshape(input({2, 3}), {3, 2}), {1, 0}));
  const auto nothing = [](const Operation&, std::span<const TensorSpec>) { return false; };
  EXPECT_EQ(lower_unsupported(graph_, nothing), 0);
}

}  // namespace
}  // namespace metal_candle::testing
