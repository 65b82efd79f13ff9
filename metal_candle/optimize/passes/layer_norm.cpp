// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// layer_norm, over the last axis, with m = mean(x):
//
//   (x - m) / sqrt(v + eps)             -> layer_norm(x), the root also spelt rsqrt, where v is
//                                          mean((x - m)^2) or mean(x^2) - m^2
//   layer_norm(x) * weight              -> layer_norm(x, weight), a weight of shape [d]
//   layer_norm(x, weight) + bias        -> layer_norm(x, weight, bias), a bias of shape [d]
//   cast(layer_norm(cast(x), ..))       -> layer_norm(x, ..), all operands cast alike
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr layer_norm() {
  using namespace pattern;
  const Var x, weight, bias, norm;
  const ScalarVar eps;
  const Pattern mean = mean_of_last_axis(x);
  const Pattern centred = x - mean;
  const Pattern variance =
      any_of({mean_of_last_axis(squared(centred)), mean_of_last_axis(squared(x)) - squared(mean)});
  const RewriteRule plain{
      divided_by_sqrt(centred, variance + eps),
      [=](const Match& m) { return m.spec(x) == m.root_spec() && is_floating(m.spec(x).dtype); },
      [=](ComputationGraph& graph, const Match& m) {
        return graph.add(op::LayerNorm{static_cast<float>(m[eps])}, {m[x]});
      }};
  const RewriteRule weighted{operation<op::LayerNorm>(x).as(norm) * weight,
                             [=](const Match& m) { return is_row(m.shape(weight), m.shape(norm)); },
                             [=](ComputationGraph& graph, const Match& m) {
                               const op::LayerNorm attributes = *m.get_if<op::LayerNorm>(norm);
                               return graph.add(attributes, {m[x], as_vector(graph, m[weight])});
                             }};
  const RewriteRule shifted{
      operation<op::LayerNorm>(x, weight).as(norm) + bias,
      [=](const Match& m) { return is_row(m.shape(bias), m.shape(norm)); },
      [=](ComputationGraph& graph, const Match& m) {
        const op::LayerNorm attributes = *m.get_if<op::LayerNorm>(norm);
        return graph.add(attributes, {m[x], m[weight], as_vector(graph, m[bias])});
      }};
  return std::make_unique<RewritePass>(
      "layer_norm",
      std::vector<RewriteRule>{plain, weighted, shifted, without_casts<op::LayerNorm>(1),
                               without_casts<op::LayerNorm>(2), without_casts<op::LayerNorm>(3)});
}

}  // namespace metal_candle::passes
