// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// matmul_scale: (x @ w) * s, (x @ w) / s -> linear(x, w, scale s), linear(x, w, scale 1 / s), and
// the same of a linear that has a scale only.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/linear_product.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr matmul_scale() {
  using namespace pattern;
  const Var product;
  const ScalarVar s;
  const auto rule = [=](const Pattern& from, bool divides) -> RewriteRule {
    return {from,
            [=](const Match& m) {
              const op::Linear linear = linear_attributes(m, product);
              return epilogue_fits(m, product) && !linear.has_bias && !linear.has_residual &&
                     linear.activation == op::Activation::kNone;
            },
            [=](ComputationGraph& graph, const Match& m) {
              op::Linear linear = linear_attributes(m, product);
              const double scale = linear.scale;
              linear.scale = static_cast<float>(divides ? scale / m[s] : scale * m[s]);
              return graph.add(linear, linear_operands(m, product));
            }};
  };
  const Pattern x = linear_product(product);
  return std::make_unique<RewritePass>(
      "matmul_scale", std::vector<RewriteRule>{rule(x * s, false), rule(x / s, true)});
}

}  // namespace metal_candle::passes
