// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/optimize/passes/linear_product.h"

namespace metal_candle::passes {

pattern::Pattern linear_product(const pattern::Var& node) {
  using pattern::operation;
  const pattern::Var x, weight, bias, residual;
  return pattern::any_of({pattern::matmul(x, weight), operation<op::Linear>(x, weight),
                          operation<op::Linear>(x, weight, bias),
                          operation<op::Linear>(x, weight, bias, residual)})
      .as(node);
}

op::Linear linear_attributes(const pattern::Match& m, const pattern::Var& node) {
  const auto* linear = m.get_if<op::Linear>(node);
  return linear != nullptr ? *linear : op::Linear{op::Activation::kNone, false, false, 1};
}

std::vector<NodeId> linear_operands(const pattern::Match& m, const pattern::Var& node) {
  return m.graph().node(m[node]).inputs;
}

bool epilogue_fits(const pattern::Match& m, const pattern::Var& node) {
  return m.spec(node) == m.root_spec() && is_floating(m.root_spec().dtype);
}

}  // namespace metal_candle::passes
