// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// matmul_activation: f(x @ w), f(linear(x, w, ..)) -> linear(x, w, .., activation f), where f is
// relu, gelu, gelu_tanh or silu and the linear has neither an activation nor a residual.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/linear_product.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr matmul_activation() {
  using namespace pattern;
  const Var product;
  const auto rule = [=](UnaryKind kind, op::Activation activation) -> RewriteRule {
    return {unary(kind, linear_product(product)),
            [=](const Match& m) {
              const op::Linear linear = linear_attributes(m, product);
              return linear.activation == op::Activation::kNone && !linear.has_residual;
            },
            [=](ComputationGraph& graph, const Match& m) {
              op::Linear linear = linear_attributes(m, product);
              linear.activation = activation;
              return graph.add(linear, linear_operands(m, product));
            }};
  };
  return std::make_unique<RewritePass>(
      "matmul_activation",
      std::vector<RewriteRule>{rule(UnaryKind::kRelu, op::Activation::kRelu),
                               rule(UnaryKind::kGelu, op::Activation::kGelu),
                               rule(UnaryKind::kGeluTanh, op::Activation::kGeluTanh),
                               rule(UnaryKind::kSilu, op::Activation::kSilu)});
}

}  // namespace metal_candle::passes
