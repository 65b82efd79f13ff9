// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// lora, with a [k, r] and b [r, n] of low rank r:
//
//   (x @ a) @ b              -> lora(x, a, b, scale 1)
//   ((x @ a) * s) @ b        -> lora(x, a, b, scale s)
//   lora(x, a, b, t) * s     -> lora(x, a, b, t s), also / s
#include <algorithm>

#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

/// Above this, or where the rank is not low, two matrix products are the better plan.
constexpr std::int64_t kMaxRankOfLora = 256;

}  // namespace

PassPtr lora() {
  using namespace pattern;
  const Var x, a, b, inner;
  const ScalarVar s;
  const Pattern down = matmul(x, a);
  const RewriteRule products{
      matmul(any_of({down, down * s}), b),
      [=](const Match& m) {
        if (m.shape(a).rank() != 2 || m.shape(b).rank() != 2 || !is_floating(m.spec(x).dtype)) {
          return false;
        }
        const std::int64_t rank = m.shape(a)[1];
        return rank <= kMaxRankOfLora && 2 * rank <= std::min(m.shape(a)[0], m.shape(b)[1]);
      },
      [=](ComputationGraph& graph, const Match& m) {
        const auto scale = static_cast<float>(m.value_or(s, 1));
        return graph.add(op::Lora{scale}, {m[x], m[a], m[b]});
      }};
  const Pattern product = operation<op::Lora>(x, a, b).as(inner);
  const auto keeps_shape = [=](const Match& m) { return m.spec(inner) == m.root_spec(); };
  const RewriteRule multiplied{
      product * s, keeps_shape, [=](ComputationGraph& graph, const Match& m) {
        const double t = m.get_if<op::Lora>(inner)->scale;
        return graph.add(op::Lora{static_cast<float>(t * m[s])}, {m[x], m[a], m[b]});
      }};
  const RewriteRule divided{
      product / s, keeps_shape, [=](ComputationGraph& graph, const Match& m) {
        const double t = m.get_if<op::Lora>(inner)->scale;
        return graph.add(op::Lora{static_cast<float>(t / m[s])}, {m[x], m[a], m[b]});
      }};
  return std::make_unique<RewritePass>("lora",
                                       std::vector<RewriteRule>{products, multiplied, divided});
}

}  // namespace metal_candle::passes
