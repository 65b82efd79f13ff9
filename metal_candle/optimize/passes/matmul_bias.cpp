// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// matmul_bias: (x @ w) + bias -> linear(x, w, bias), a bias of shape [n]; the product may have a
// scale, or a residual that was added first, but no activation.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/linear_product.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr matmul_bias() {
  using namespace pattern;
  const Var product, bias;
  const RewriteRule rule{linear_product(product) + bias,
                         [=](const Match& m) {
                           const op::Linear linear = linear_attributes(m, product);
                           return epilogue_fits(m, product) && !linear.has_bias &&
                                  linear.activation == op::Activation::kNone &&
                                  is_row(m.shape(bias), m.shape(product)) &&
                                  // One row plus one row is a residual.
                                  m.shape(bias) != m.shape(product);
                         },
                         [=](ComputationGraph& graph, const Match& m) {
                           op::Linear linear = linear_attributes(m, product);
                           linear.has_bias = true;
                           std::vector<NodeId> operands = linear_operands(m, product);
                           operands.insert(operands.begin() + 2, as_vector(graph, m[bias]));
                           return graph.add(linear, operands);
                         }};
  return std::make_unique<RewritePass>("matmul_bias", std::vector<RewriteRule>{rule});
}

}  // namespace metal_candle::passes
