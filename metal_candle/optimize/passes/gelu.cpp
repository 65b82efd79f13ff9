// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// gelu: x (1 + erf(x / sqrt(2))) / 2                              -> gelu(x)
//       x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2         -> gelu_tanh(x)
//
// however the three factors are associated, and the polynomial also as x (1 + 0.044715 x^2).
#include <numbers>

#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

using namespace pattern;

Pattern half_of(const Pattern& p) { return any_of({p * 0.5, p / 2.0}); }

/// x * (1 + gate) / 2.
Pattern half_gated(const Var& x, const Pattern& gate) {
  const Pattern one_plus = 1.0 + gate;
  return any_of({half_of(x) * one_plus, half_of(x * one_plus), x * half_of(one_plus),
                 x * (half_of(gate) + 0.5)});
}

Pattern exact(const Var& x) {
  const Pattern argument = any_of({x / std::numbers::sqrt2, x * (1 / std::numbers::sqrt2)});
  return half_gated(x, unary(UnaryKind::kErf, argument));
}

Pattern with_tanh(const Var& x) {
  const double sqrt_2_over_pi = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
  const Pattern square = squared(x);
  const Pattern cube = any_of({square * x, binary(BinaryKind::kPower, x, 3.0)});
  const double c = 0.044715;
  const Pattern polynomial = any_of({
      x + cube * c,
      x + square * (x * c),
      x + (square * c) * x,
      x * (1.0 + square * c),
      x * (1.0 + x * (x * c)),
  });
  // The outer factor may have been multiplied into either side of x (1 + c x^2).
  const Pattern argument =
      any_of({polynomial * sqrt_2_over_pi, (x * sqrt_2_over_pi) * (1.0 + square * c),
              (x * sqrt_2_over_pi) * (1.0 + x * (x * c))});
  return half_gated(x, unary(UnaryKind::kTanh, argument));
}

RewriteRule rule(const Var& x, const Pattern& from, UnaryKind to) {
  return {
      from, [=](const Match& m) { return m.spec(x) == m.root_spec(); },
      [=](ComputationGraph& graph, const Match& m) { return graph.add(op::Unary{to}, {m[x]}); }};
}

}  // namespace

PassPtr gelu() {
  const Var x;
  return std::make_unique<RewritePass>(
      "gelu", std::vector<RewriteRule>{rule(x, exact(x), UnaryKind::kGelu),
                                       rule(x, with_tanh(x), UnaryKind::kGeluTanh)});
}

}  // namespace metal_candle::passes
