// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// sigmoid, silu, gelu and swiglu.
#include <cmath>
#include <numbers>

#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

class ActivationPassTest : public GraphTest {
 protected:
  /// An argument of its own for each form, so that no two share anything.
  Expr next() { return input({3, 4}); }
};

TEST_F(ActivationPassTest, Sigmoid) {
  output(1.0 / (1.0 + exp(-next())));
  output(unary(UnaryKind::kReciprocal, exp(-next()) + 1.0));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("sigmoid", "sigmoid"));
}

TEST_F(ActivationPassTest, SigmoidRefusesOtherConstants) {
  output(1.0 / (2.0 + exp(-next())));
  output(1.0 / (1.0 + exp(next())));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("sigmoid")));
}

TEST_F(ActivationPassTest, Silu) {
  const Expr x = next();
  output(x * unary(UnaryKind::kSigmoid, x));
  const Expr y = next();
  output(y / (1.0 + exp(-y)));
  const Expr z = next();
  output((1.0 / (1.0 + exp(-z))) * z);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("silu", "silu", "silu"));
}

TEST_F(ActivationPassTest, SiluOfAnotherArgumentIsNone) {
  output(next() * unary(UnaryKind::kSigmoid, next()));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("elementwise"));
}

TEST_F(ActivationPassTest, SwiGlu) {
  const Expr gate = matmul(next(), input({4, 6}));
  const Expr up = matmul(next(), input({4, 6}));
  output(gate * unary(UnaryKind::kSigmoid, gate) * up);
  const OptimizationReport report = optimize();
  // The activation goes into the product only if nothing takes it first.
  EXPECT_EQ(report.rewrites("swiglu") + report.rewrites("matmul_activation"), 1)
      << graph_.to_text();
}

TEST_F(ActivationPassTest, SwiGluOfPlainOperands) {
  output(next() * unary(UnaryKind::kSilu, next()));
  const Expr wide = input({3, 4});
  output(unary(UnaryKind::kSilu, input({3, 1})) * wide);  // Broadcasts.
  optimize();
  EXPECT_THAT(operations(), ElementsAre("swiglu", "silu", "multiply"));
}

TEST_F(ActivationPassTest, GeluInItsUsualArrangements) {
  const double root = std::numbers::sqrt2;
  const Expr a = next();
  output(0.5 * a * (1.0 + erf(a / root)));
  const Expr b = next();
  output(b * 0.5 * (1.0 + erf(b * 0.7071067811865476)));
  const Expr c = next();
  output(c * (0.5 * (1.0 + erf(c / 1.4142135623730951))));
  const Expr d = next();
  output((d * (erf(d / root) + 1.0)) / 2.0);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("gelu", "gelu", "gelu", "gelu")) << graph_.to_text();
}

TEST_F(ActivationPassTest, GeluTanhInItsUsualArrangements) {
  const double c = std::sqrt(2 / std::numbers::pi);
  const Expr a = next();
  output(0.5 * a * (1.0 + tanh(c * (a + 0.044715 * (a * a * a)))));
  const Expr b = next();
  output(0.5 * b * (1.0 + tanh(c * (b + 0.044715 * power(b, 3)))));
  const Expr d = next();
  output(d * 0.5 * (1.0 + tanh(0.7978845608 * d * (1.0 + 0.044715 * d * d))));
  const Expr e = next();
  output(0.5 * (e * (1.0 + tanh(c * (e * (1.0 + 0.044715 * square(e)))))));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("gelu_tanh", "gelu_tanh", "gelu_tanh", "gelu_tanh"))
      << graph_.to_text();
}

TEST_F(ActivationPassTest, GeluRefusesOtherConstantsAndUsers) {
  const Expr a = next();
  output(0.5 * a * (1.0 + erf(a / 1.5)));
  const Expr b = next();
  output(0.5 * b * (1.0 + tanh(0.8 * (b + 0.044715 * power(b, 3)))));
  const Expr d = next();
  const Expr gate = erf(d / std::numbers::sqrt2);
  output(0.5 * d * (1.0 + gate));
  output(gate);
  optimize();
  EXPECT_THAT(operations(), Not(Contains("gelu"))) << graph_.to_text();
  EXPECT_THAT(operations(), Not(Contains("gelu_tanh"))) << graph_.to_text();
}

TEST_F(ActivationPassTest, GeluOfHalfPrecisionRoundsItsConstants) {
  const Expr x = input({3, 4}, DType::kBF16);
  output(0.5 * x * (1.0 + erf(x / std::numbers::sqrt2)));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("gelu"));
}

}  // namespace
}  // namespace metal_candle::testing
