// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// LoRA and the epilogues of matrix products.
#include "tests/optimize/graph_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Not;

class MatmulPassTest : public GraphTest {
 protected:
  Expr x_ = input({2, 5, 16});
  Expr w_ = input({16, 12});
  Expr a_ = input({16, 4});
  Expr b_ = input({4, 12});
  Expr bias_ = input({12});
};

TEST_F(MatmulPassTest, LoraWithScale) {
  output(matmul(matmul(x_, a_), b_) * 2.5);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("lora")) << graph_.to_text();
  EXPECT_EQ(the<op::Lora>().scale, 2.5f);
}

TEST_F(MatmulPassTest, LoraForms) {
  output(matmul(matmul(x_, a_), b_));
  output(matmul(3.0 * matmul(x_ + 1.0, a_), b_));
  output(matmul(2.0 * matmul(x_ + 2.0, a_), b_) / 4.0);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("lora", "elementwise", "lora", "elementwise", "lora"))
      << graph_.to_text();
}

TEST_F(MatmulPassTest, LoraWithAScaleThatIsATensorKeepsTheProduct) {
  output(matmul(matmul(x_, a_), b_) * input({}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("lora", "multiply"));
}

TEST_F(MatmulPassTest, LoraRefusesHighRankAndSharedProducts) {
  output(matmul(matmul(x_, input({16, 9})), input({9, 12})));
  const Expr down = matmul(x_ + 1.0, a_);
  output(matmul(down, b_));
  output(down);
  optimize();
  EXPECT_THAT(operations(), Not(Contains("lora"))) << graph_.to_text();
}

TEST_F(MatmulPassTest, LoraLinear) {
  output(matmul(x_, w_) + matmul(matmul(x_, a_), b_) * 0.5);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("lora_linear")) << graph_.to_text();
  EXPECT_EQ(the<op::LoraLinear>(), (op::LoraLinear{0.5f, false}));
}

TEST_F(MatmulPassTest, LoraLinearWithBiasInEitherPlace) {
  const Expr y = x_ + 1.0;
  output((matmul(x_, w_) + bias_) + matmul(matmul(x_, a_), b_) * 0.5);
  output((matmul(matmul(y, a_), b_) + matmul(y, w_)) + bias_);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("lora_linear", "elementwise", "lora_linear"))
      << graph_.to_text();
}

TEST_F(MatmulPassTest, LoraLinearRefusesAnotherArgument) {
  output(matmul(x_ + 1.0, w_) + matmul(matmul(x_, a_), b_));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("lora_linear"))) << graph_.to_text();
}

TEST_F(MatmulPassTest, WholeEpilogue) {
  const Expr residual = input({2, 5, 12});
  output(unary(UnaryKind::kSilu, matmul(x_, w_) * 0.25 + bias_) + residual);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("linear")) << graph_.to_text();
  EXPECT_EQ(the<op::Linear>(), (op::Linear{op::Activation::kSilu, true, true, 0.25f}));
}

TEST_F(MatmulPassTest, LoraKeepsWhatItsGradientNeeds) {
  output(apply(op::LoraLinear{0.5f, false}, {x_, w_, a_, b_}));
  output(matmul(x_, a_) * 0.5);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("lora_linear")) << graph_.to_text();
  EXPECT_EQ(the<op::LoraLinear>(), (op::LoraLinear{0.5f, false, true}));
}

TEST_F(MatmulPassTest, LoraKeepsNothingOfAnotherScale) {
  output(apply(op::LoraLinear{0.5f, false}, {x_, w_, a_, b_}));
  output(matmul(x_, a_) * 0.25);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("lora_linear", "linear")) << graph_.to_text();
}

// As gradients by what several layers read add up: in any order, and with what else there is.
TEST_F(MatmulPassTest, ProductsThatAreAddedUp) {
  const auto product = [&](std::int64_t inner) {
    return matmul(input({2, 5, inner}, DType::kBF16), input({inner, 12}, DType::kBF16));
  };
  output((product(16) + product(4)) + (product(8) + product(6)));
  output(product(16) + product(8) + input({2, 5, 12}, DType::kBF16));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("product_sum", "product_sum")) << graph_.to_text();
  std::vector<op::ProductSum> sums;
  for (NodeId id = 0; id < graph_.size(); ++id) {
    if (const auto* sum = graph_.get_if<op::ProductSum>(id)) sums.push_back(*sum);
  }
  EXPECT_THAT(sums,
              ::testing::UnorderedElementsAre(op::ProductSum{4, false}, op::ProductSum{2, true}));
}

TEST_F(MatmulPassTest, ProductsThatStay) {
  const auto of = [&](DType dtype) {
    return [this, dtype](std::int64_t inner) {
      return matmul(input({2, 5, inner}, dtype), input({inner, 12}, dtype));
    };
  };
  const auto bf16 = of(DType::kBF16), f32 = of(DType::kF32);
  output(f32(16) + f32(8));         // The library is as good.
  output(bf16(4096) + bf16(2048));  // Each is worth the library's best kernel.
  output(bf16(0) + bf16(8));        // Over nothing.
  const Expr read_twice = bf16(8);
  output(bf16(16) + read_twice);
  output(read_twice);
  output(bf16(16) + bf16(8) * 2.0);  // Scaled.
  optimize();
  EXPECT_THAT(operations(), Not(Contains("product_sum"))) << graph_.to_text();
}

TEST_F(MatmulPassTest, GatesGradientTakesTheProductThatItIsOf) {
  const auto gradient = [&](DType dtype, bool read_twice, std::int64_t inner = 6) {
    const Expr dy = matmul(input({2, 5, inner}, dtype), input({inner, 12}, dtype));
    const Expr both =
        apply(op::SwiGluBackward{}, {input({2, 5, 12}, dtype), input({2, 5, 12}, dtype), dy});
    for (const int which : {0, 1}) {
      output(apply(op::Pick{which}, {both}, TensorSpec{{2, 5, 12}, dtype}));
    }
    if (read_twice) output(dy);
  };
  gradient(DType::kBF16, false);
  gradient(DType::kF32, false);  // The library is as good.
  gradient(DType::kBF16, true);
  gradient(DType::kBF16, false, 0);  // Over nothing.
  optimize();
  std::vector<bool> of_product;
  for (NodeId id = 0; id < graph_.size(); ++id) {
    const auto* found = graph_.get_if<op::SwiGluBackward>(id);
    if (found != nullptr) of_product.push_back(found->of_product);
  }
  EXPECT_THAT(of_product, ::testing::UnorderedElementsAre(true, false, false, false))
      << graph_.to_text();
}

TEST_F(MatmulPassTest, NormsGradientTakesWhatWentAroundIt) {
  const Expr x = input({2, 16}), weight = input({16}), dy = input({2, 16});
  const auto gradient = [&](int which) {
    return apply(op::Pick{which}, {apply(op::RmsNormBackward{1e-5f}, {x, weight, dy})},
                 which == 0 ? x.spec() : weight.spec());
  };
  output(gradient(0) + input({2, 16}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("rms_norm_backward")) << graph_.to_text();
  EXPECT_TRUE(the<op::RmsNormBackward>().has_residual);
}

TEST_F(MatmulPassTest, NormsGradientOfATrainedWeightStays) {
  const Expr x = input({2, 16}), weight = input({16}), dy = input({2, 16});
  const Expr gradients = apply(op::RmsNormBackward{1e-5f}, {x, weight, dy});
  output(apply(op::Pick{0}, {gradients}, x.spec()) + input({2, 16}));
  output(apply(op::Pick{1}, {gradients}, weight.spec()));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("rms_norm_backward", "add")) << graph_.to_text();
}

TEST_F(MatmulPassTest, NormOfFewRows) {
  const Expr x = input({1, 2, 16}), norm = input({16});
  const Expr normed = apply(op::RmsNorm{1e-5f}, {x, norm});
  output(matmul(normed, w_) + bias_);
  output(matmul(normed, input({16, 4})) * 0.5);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("norm_linear", "norm_linear")) << graph_.to_text();
}

TEST_F(MatmulPassTest, GateOfANormOfFewRows) {
  const Expr x = input({4, 16});
  const Expr normed = apply(op::RmsNorm{1e-5f}, {x, input({16})});
  output(apply(op::SwiGlu{}, {matmul(normed, w_), matmul(normed, input({16, 12}))}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("norm_linear")) << graph_.to_text();
  EXPECT_EQ(the<op::NormLinear>(),
            (op::NormLinear{1e-5f, true, {op::Activation::kNone, false, false, 1}}));
}

TEST_F(MatmulPassTest, NormsThatStay) {
  // Of many rows, without a weight, of a batch of matrices.
  output(matmul(apply(op::RmsNorm{1e-5f}, {x_, input({16})}), w_));
  output(matmul(apply(op::RmsNorm{1e-5f}, {input({2, 16})}), w_));
  output(matmul(apply(op::RmsNorm{1e-5f}, {input({2, 1, 16}), input({16})}), input({2, 16, 12})));
  optimize();
  EXPECT_THAT(operations(), Not(Contains("norm_linear"))) << graph_.to_text();
}

TEST_F(MatmulPassTest, AGateThatIsReadElsewhereStays) {
  const Expr normed = apply(op::RmsNorm{1e-5f}, {input({4, 16}), input({16})});
  const Expr gate = matmul(normed, w_);
  output(apply(op::SwiGlu{}, {gate, matmul(normed, input({16, 12}))}));
  output(gate);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("norm_linear", "norm_linear", "swiglu"))
      << graph_.to_text();
}

TEST_F(MatmulPassTest, BiasAfterResidual) {
  output(matmul(x_, w_) + input({2, 5, 12}) + reshape(bias_, {1, 1, 12}));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("linear")) << graph_.to_text();
}

TEST_F(MatmulPassTest, EveryActivation) {
  output(unary(UnaryKind::kRelu, matmul(x_, w_)));
  output(unary(UnaryKind::kGelu, matmul(x_ + 1.0, w_)));
  output(unary(UnaryKind::kGeluTanh, matmul(x_ + 2.0, w_) + bias_));
  const Expr h = matmul(x_ + 3.0, w_);
  output(h * (1.0 / (1.0 + exp(-h))));
  const OptimizationReport report = optimize();
  EXPECT_EQ(report.rewrites("matmul_activation"), 4) << graph_.to_text();
}

TEST_F(MatmulPassTest, OrderOfTheEpilogueIsKept) {
  // Each is out of order: what came later may not move before what came first.
  output(unary(UnaryKind::kRelu, matmul(x_, w_)) + bias_);
  output((matmul(x_ + 1.0, w_) + bias_) * 2.0);
  output(unary(UnaryKind::kRelu, matmul(x_ + 2.0, w_) + input({2, 5, 12})));
  const OptimizationReport report = optimize();
  EXPECT_EQ(report.rewrites("matmul_bias"), 1) << graph_.to_text();
  EXPECT_EQ(report.rewrites("matmul_scale"), 0) << graph_.to_text();
  EXPECT_EQ(report.rewrites("matmul_activation"), 1) << graph_.to_text();
  EXPECT_EQ(report.rewrites("matmul_residual"), 1) << graph_.to_text();
}

TEST_F(MatmulPassTest, SharedProductsKeepTheirOwnNode) {
  const Expr product = matmul(x_, w_);
  output(product + bias_);
  output(unary(UnaryKind::kRelu, product));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("matmul", "add", "relu")) << graph_.to_text();
}

TEST_F(MatmulPassTest, ProductsThatAreOutputsKeepTheirOwnNode) {
  const Expr product = matmul(x_, w_);
  output(product);
  output(product * 2.0);
  optimize();
  EXPECT_THAT(operations(), ElementsAre("matmul", "elementwise")) << graph_.to_text();
}

TEST_F(MatmulPassTest, IntegerProductsHaveNoEpilogue) {
  const Expr x = input({3, 4}, DType::kI32);
  const Expr w = input({4, 5}, DType::kI32);
  output(matmul(x, w) + input({5}, DType::kI32));
  optimize();
  EXPECT_THAT(operations(), ElementsAre("matmul", "add"));
}

TEST_F(MatmulPassTest, ResidualThatWidensIsNotOne) {
  const Expr one_row = input({1, 16});
  output(matmul(one_row, w_) + input({3, 12}));
  output(matmul(one_row, w_ * 2.0) + input({12}));
  const OptimizationReport report = optimize();
  EXPECT_EQ(report.rewrites("matmul_residual"), 0) << graph_.to_text();
  EXPECT_EQ(report.rewrites("matmul_bias"), 1) << graph_.to_text();
}

}  // namespace
}  // namespace metal_candle::testing
