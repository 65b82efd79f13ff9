// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/optimize/lowering.h"

#include "metal_candle/core/error.h"
#include "tests/optimize/graph_fixture.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

bool primitives_only(const Operation& operation, std::span<const TensorSpec>) {
  return !is_composite(operation);
}
bool primitives_and_programs(const Operation& operation, std::span<const TensorSpec>) {
  return !is_composite(operation) || std::holds_alternative<op::Elementwise>(operation);
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
  EXPECT_THAT(operations(), ElementsAre("softmax"));
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

TEST_F(LoweringTest, WhatIsDecomposedIsFusedWithWhatIsAroundIt) {
  const Expr x = input({2, 4});
  const Expr normed = apply(op::RmsNorm{1e-5f}, {x * 2.0, input({4})});
  output(exp(normed));
  const std::vector<HostTensor> values = {HostTensor::of({2, 4}, {1, 2, 3, 4, -1, 0, 1, 2}),
                                          HostTensor::of({4}, {1, 0.5, -1, 2})};
  const std::vector<HostTensor> expected = interpret(graph_, values);
  OptimizationReport report;
  optimize_for_backend(graph_, GraphOptimizer(PassSet::all()), primitives_and_programs, &report);
  expect_well_formed(graph_);
  EXPECT_TRUE(all_close(interpret(graph_, values)[0], expected[0], Tolerance{1e-5, 1e-5}));
  // x * 2, whose square is summed; the root of the mean; the rest with the exponential.
  EXPECT_THAT(operations(),
              ElementsAre("elementwise", "square", "reduce_sum", "elementwise", "elementwise"))
      << graph_.to_text();
  EXPECT_EQ(report.rewrites("elementwise"), 3) << report.to_string();
  EXPECT_EQ(report.nodes_after, graph_.live_size());
}

TEST_F(LoweringTest, ProgramsThatAreNotSupportedAreTakenApartAgain) {
  output(exp(apply(op::RmsNorm{1e-5f}, {input({2, 4})})) * 2.0);
  const std::vector<HostTensor> values = {HostTensor::of({2, 4}, {1, 2, 3, 4, -1, 0, 1, 2})};
  const std::vector<HostTensor> expected = interpret(graph_, values);
  optimize_for_backend(graph_, GraphOptimizer(PassSet::all()), primitives_only);
  expect_well_formed(graph_);
  EXPECT_TRUE(all_close(interpret(graph_, values)[0], expected[0], Tolerance{1e-5, 1e-5}));
  EXPECT_THAT(operations(), AllOf(Contains("exp"), Not(Contains("elementwise"))));
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
