// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// sigmoid: 1 / (1 + exp(-x)) -> sigmoid(x), the quotient also spelt as a reciprocal.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr sigmoid() {
  using namespace pattern;
  const Var x;
  const Pattern denominator = 1.0 + exp(-Pattern(x));
  const auto to_sigmoid = [=](ComputationGraph& graph, const Match& m) {
    return graph.add(op::Unary{UnaryKind::kSigmoid}, {m[x]});
  };
  const auto same_shape = [=](const Match& m) { return m.spec(x) == m.root_spec(); };
  return std::make_unique<RewritePass>(
      "sigmoid", std::vector<RewriteRule>{
                     {unary(UnaryKind::kReciprocal, denominator), same_shape, to_sigmoid},
                     {1.0 / denominator, same_shape, to_sigmoid},
                 });
}

}  // namespace metal_candle::passes
