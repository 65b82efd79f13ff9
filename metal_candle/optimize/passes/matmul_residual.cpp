// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// matmul_residual: (x @ w) + r, linear(x, w, ..) + r -> linear(x, w, .., residual r), where r has
// the shape of the product and the linear has no residual yet.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/linear_product.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr matmul_residual() {
  using namespace pattern;
  const Var product, residual;
  const RewriteRule rule{linear_product(product) + residual,
                         [=](const Match& m) {
                           return epilogue_fits(m, product) && m.spec(residual) == m.root_spec() &&
                                  !linear_attributes(m, product).has_residual;
                         },
                         [=](ComputationGraph& graph, const Match& m) {
                           op::Linear linear = linear_attributes(m, product);
                           linear.has_residual = true;
                           std::vector<NodeId> operands = linear_operands(m, product);
                           operands.push_back(m[residual]);
                           return graph.add(linear, operands);
                         }};
  return std::make_unique<RewritePass>("matmul_residual", std::vector<RewriteRule>{rule});
}

}  // namespace metal_candle::passes
