// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// lora_linear, with a weight [k, n]:
//
//   x @ weight + lora(x, a, b)                     -> lora_linear(x, weight, a, b)
//   (x @ weight + bias) + lora(x, a, b)            -> lora_linear(x, weight, a, b, bias)
//   lora_linear(x, weight, a, b) + bias            -> lora_linear(x, weight, a, b, bias)
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {

PassPtr lora_linear() {
  using namespace pattern;
  const Var x, weight, bias, a, b, adapter, base, whole;
  const Pattern lora = operation<op::Lora>(x, a, b).as(adapter);
  const RewriteRule plain{
      matmul(x, weight) + lora, [=](const Match& m) { return m.shape(weight).rank() == 2; },
      [=](ComputationGraph& graph, const Match& m) {
        const float scale = m.get_if<op::Lora>(adapter)->scale;
        return graph.add(op::LoraLinear{scale, false}, {m[x], m[weight], m[a], m[b]});
      }};
  const RewriteRule biased{
      operation<op::Linear>(x, weight, bias).as(base) + lora,
      [=](const Match& m) {
        return *m.get_if<op::Linear>(base) == op::Linear{op::Activation::kNone, true, false, 1} &&
               m.shape(weight).rank() == 2;
      },
      [=](ComputationGraph& graph, const Match& m) {
        const float scale = m.get_if<op::Lora>(adapter)->scale;
        return graph.add(op::LoraLinear{scale, true}, {m[x], m[weight], m[a], m[b], m[bias]});
      }};
  const RewriteRule bias_last{operation<op::LoraLinear>(x, weight, a, b).as(whole) + bias,
                              [=](const Match& m) { return is_row(m.shape(bias), m.shape(whole)); },
                              [=](ComputationGraph& graph, const Match& m) {
                                const float scale = m.get_if<op::LoraLinear>(whole)->scale;
                                return graph.add(
                                    op::LoraLinear{scale, true},
                                    {m[x], m[weight], m[a], m[b], as_vector(graph, m[bias])});
                              }};
  return std::make_unique<RewritePass>("lora_linear",
                                       std::vector<RewriteRule>{plain, biased, bias_last});
}

}  // namespace metal_candle::passes
