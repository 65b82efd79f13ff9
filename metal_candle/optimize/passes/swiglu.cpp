// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// swiglu: silu(gate) * up -> swiglu(gate, up), for operands of one shape.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr swiglu() {
  using namespace pattern;
  const Var gate, up;
  return std::make_unique<RewritePass>(
      "swiglu", std::vector<RewriteRule>{
                    {unary(UnaryKind::kSilu, gate) * up,
                     [=](const Match& m) { return m.spec(gate) == m.spec(up); },
                     [=](ComputationGraph& graph, const Match& m) {
                       return graph.add(op::SwiGlu{}, {m[gate], m[up]});
                     }},
                });
}

}  // namespace metal_candle::passes
