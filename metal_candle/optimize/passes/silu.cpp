// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// silu: x * sigmoid(x)      -> silu(x)
//       x / (1 + exp(-x))   -> silu(x)
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr silu() {
  using namespace pattern;
  const Var x;
  const auto to_silu = [=](ComputationGraph& graph, const Match& m) {
    return graph.add(op::Unary{UnaryKind::kSilu}, {m[x]});
  };
  const auto same_shape = [=](const Match& m) { return m.spec(x) == m.root_spec(); };
  return std::make_unique<RewritePass>("silu",
                                       std::vector<RewriteRule>{
                                           {x * unary(UnaryKind::kSigmoid, x), same_shape, to_silu},
                                           {x / (1.0 + exp(-Pattern(x))), same_shape, to_silu},
                                       });
}

}  // namespace metal_candle::passes
