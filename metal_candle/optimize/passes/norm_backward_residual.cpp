// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// norm_backward_residual: dx of an RMS norm's gradient + r -> one with the residual r, where the
// gradient of the weight is not asked for. So a block's gradient meets that which went around it.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr norm_backward_residual() {
  using namespace pattern;
  const Var x, weight, dy, norm, picked, residual;
  const RewriteRule rule{
      operation<op::Pick>(operation<op::RmsNormBackward>(x, weight, dy).as(norm)).as(picked) +
          residual,
      [=](const Match& m) {
        return m.get_if<op::Pick>(picked)->index == 0 && m.spec(picked) == m.root_spec() &&
               m.spec(residual) == m.root_spec();
      },
      [=](ComputationGraph& graph, const Match& m) {
        op::RmsNormBackward fused = *m.get_if<op::RmsNormBackward>(norm);
        fused.has_residual = true;
        const TensorSpec spec = m.root_spec();
        const NodeId node = graph.add(fused, {m[x], m[weight], m[dy], m[residual]});
        return pick(graph, node, 0, spec);
      }};
  return std::make_unique<RewritePass>("norm_backward_residual", std::vector<RewriteRule>{rule});
}

}  // namespace metal_candle::passes
