// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// rms_norm and layer_norm: textbook forms, and what is nearly one.
#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

class NormPassTest : public GraphTest {
 protected:
  static constexpr double kEps = 1e-5;
  Expr x_ = input({2, 3, 8});
  Expr w_ = input({8});
  Expr b_ = input({8});
};

TEST_F(NormPassTest, RmsNormWithRsqrtAndWeight) {
  output(x_ * rsqrt(mean(square(x_)) + kEps) * w_);
  const OptimizationReport report = optimize();
  EXPECT_THAT(operations(), ElementsAre("rms_norm")) << graph_.to_text();
  EXPECT_EQ(the<op::RmsNorm>().eps, static_cast<float>(kEps));
  EXPECT_EQ(report.rewrites("rms_norm"), 2) << report.to_string();
  EXPECT_THAT(before_, ::testing::HasSubstr("rsqrt"));
}

TEST_F(NormPassTest, RmsNormSpellings) {
  output(w_ * (x_ / sqrt(mean(x_ * x_) + kEps)));
  const Expr y = x_ + 1.0;
  output(y * (1.0 / sqrt(kEps + sum(power(y, 2), 2) / 8.0)));
  const Expr z = x_ + 2.0;
  output(rsqrt(mean(square(z)) + kEps) * z);
  optimize();
  EXPECT_THAT(operations(),
              ElementsAre("rms_norm", "elementwise", "rms_norm", "elementwise", "rms_norm"));
}

TEST_F(NormPassTest, RmsNormIsFoundWithoutCanonicalForms) {
  output(x_ * power(mean(power(x_, 2)) + kEps, -0.5));
  optimize(GraphOptimizer(PassSet::all().without("constant_folding").without("layout")));
  EXPECT_THAT(operations(), Contains("rms_norm"));
}

TEST_F(NormPassTest, RmsNormOfHalfPrecisionThroughSinglePrecision) {
  const Expr x = input({4, 8}, DType::kBF16);
  const Expr w = input({8}, DType::kBF16);
  const Expr wide = cast(x, DType::kF32);
  output(w * cast(wide * rsqrt(mean(square(wide)) + kEps), DType::kBF16));
  const Expr other = x + 1.0;
  const Expr wide_other = cast(other, DType::kF32);
  output(cast(wide_other * rsqrt(mean(square(wide_other)) + kEps) * cast(w, DType::kF32),
              DType::kBF16));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("rms_norm", "elementwise", "rms_norm"));
}

TEST_F(NormPassTest, WeightsOfRankOneOnly) {
  const Expr per_row = input({2, 3, 1});
  output(x_ * rsqrt(mean(square(x_)) + kEps) * per_row);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("rms_norm", "multiply"));
}

TEST_F(NormPassTest, RefusesOtherAxesAndConstants) {
  output(x_ * rsqrt(sum(square(x_), 1) * (1.0 / 8) + kEps));
  output(x_ * rsqrt(sum(square(x_), 2) * (1.0 / 7) + kEps));
  output(x_ * rsqrt(mean(square(x_ + 1.0)) + kEps));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("rms_norm"))) << graph_.to_text();
}

TEST_F(NormPassTest, RefusesIntermediatesThatAreUsedElsewhere) {
  const Expr inverse = rsqrt(mean(square(x_)) + kEps);
  output(x_ * inverse);
  output(inverse);
  const Expr y = x_ + 1.0;
  const Expr mean_square = mean(square(y));
  output(y * rsqrt(mean_square + kEps));
  output(exp(mean_square));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("rms_norm"))) << graph_.to_text();
}

TEST_F(NormPassTest, LayerNormWithWeightAndBias) {
  const Expr centred = x_ - mean(x_);
  output(centred * rsqrt(mean(square(centred)) + kEps) * w_ + b_);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("layer_norm")) << graph_.to_text();
}

TEST_F(NormPassTest, LayerNormSpellings) {
  const Expr mu = mean(x_);
  output((x_ - mu) / sqrt(mean(square(x_ - mean(x_))) + kEps));
  const Expr y = x_ + 1.0;
  output((y - mean(y)) / sqrt(mean(y * y) - square(mean(y)) + kEps) * w_);
  tolerance_ = 1e-4;  // The second form of the variance cancels.
  optimize();
  EXPECT_THAT(operations(), ElementsAre("layer_norm", "elementwise", "layer_norm"))
      << graph_.to_text();
}

TEST_F(NormPassTest, LayerNormOfHalfPrecision) {
  const Expr x = input({4, 8}, DType::kF16);
  const Expr w = input({8}, DType::kF16);
  const Expr b = input({8}, DType::kF16);
  const Expr wide = cast(x, DType::kF32);
  const Expr centred = wide - mean(wide);
  const Expr norm = centred * rsqrt(mean(square(centred)) + kEps);
  output(cast(norm * cast(w, DType::kF32) + cast(b, DType::kF32), DType::kF16));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("layer_norm")) << graph_.to_text();
}

TEST_F(NormPassTest, RefusesAnUnbiasedVariance) {
  const Expr centred = x_ - mean(x_);
  output(centred * rsqrt(sum(square(centred), 2) * (1.0 / 7) + kEps));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("layer_norm")));
}

}  // namespace
}  // namespace metal_candle::testing
