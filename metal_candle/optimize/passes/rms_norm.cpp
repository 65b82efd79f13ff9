// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// rms_norm, over the last axis:
//
//   x / sqrt(mean(x^2) + eps)           -> rms_norm(x), the root also spelt rsqrt
//   rms_norm(x) * weight                -> rms_norm(x, weight), a weight of shape [d]
//   cast(rms_norm(cast(x)))             -> rms_norm(x), with a weight cast alike or none
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr rms_norm() {
  using namespace pattern;
  const Var x, weight, norm;
  const ScalarVar eps;
  const RewriteRule plain{
      divided_by_sqrt(x, mean_of_last_axis(squared(x)) + eps),
      [=](const Match& m) { return m.spec(x) == m.root_spec() && is_floating(m.spec(x).dtype); },
      [=](ComputationGraph& graph, const Match& m) {
        return graph.add(op::RmsNorm{static_cast<float>(m[eps])}, {m[x]});
      }};
  const RewriteRule weighted{operation<op::RmsNorm>(x).as(norm) * weight,
                             [=](const Match& m) { return is_row(m.shape(weight), m.shape(norm)); },
                             [=](ComputationGraph& graph, const Match& m) {
                               const op::RmsNorm attributes = *m.get_if<op::RmsNorm>(norm);
                               return graph.add(attributes, {m[x], as_vector(graph, m[weight])});
                             }};
  return std::make_unique<RewritePass>(
      "rms_norm", std::vector<RewriteRule>{plain, weighted, without_casts<op::RmsNorm>(1),
                                           without_casts<op::RmsNorm>(2)});
}

}  // namespace metal_candle::passes
