// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// linear_cross_entropy: cross_entropy(x @ weight, targets) -> linear_cross_entropy(x, weight,
// targets), which never holds all logits; a weight of two dimensions, and logits that nothing else
// uses (their gradient does).
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr linear_cross_entropy() {
  using namespace pattern;
  const Var x, weight, targets, loss;
  const RewriteRule rule{
      operation<op::CrossEntropy>(maybe_cast(matmul(x, weight)), targets).as(loss),
      [=](const Match& m) { return m.shape(weight).rank() == 2; },
      [=](ComputationGraph& graph, const Match& m) {
        const std::int64_t ignore = m.get_if<op::CrossEntropy>(loss)->ignore_index;
        return graph.add(op::LinearCrossEntropy{ignore}, {m[x], m[weight], m[targets]});
      }};
  return std::make_unique<RewritePass>("linear_cross_entropy", std::vector<RewriteRule>{rule});
}

}  // namespace metal_candle::passes
