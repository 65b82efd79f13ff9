// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// norm_linear, for few rows, where reading the weight is most of the work and each step more costs:
//
//   linear(rms_norm(x, norm), w, ..)                    -> norm_linear(x, norm, w, ..)
//   swiglu(norm_linear(x, norm, w), norm_linear(x, norm, up)) -> norm_linear(x, norm, w, up), gated
//
// The norm is computed again for each product of it, which are usually three or two.
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/linear_product.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

constexpr std::int64_t kMostRows = 4;

bool is_plain(const op::Linear& linear) {
  return linear == op::Linear{op::Activation::kNone, false, false, 1};
}

// Whether the product is of a norm of few rows, with one matrix.
bool is_of_norm(const pattern::Match& m, const pattern::Var& product) {
  const std::vector<NodeId> operands = linear_operands(m, product);
  const GraphNode& x = m.graph().node(operands[0]);
  if (m.graph().get_if<op::RmsNorm>(operands[0]) == nullptr || x.inputs.size() != 2) return false;
  return m.graph().node(operands[1]).spec.shape.rank() == 2 && x.spec.shape.back() > 0 &&
         num_elements(x.spec.shape) <= kMostRows * x.spec.shape.back();
}

NodeId with_norm(ComputationGraph& graph, const pattern::Match& m, const pattern::Var& product) {
  std::vector<NodeId> operands = linear_operands(m, product);
  const NodeId norm = operands[0];
  const op::NormLinear fused{graph.get_if<op::RmsNorm>(norm)->eps, false,
                             linear_attributes(m, product)};
  operands[0] = graph.node(norm).inputs[1];
  operands.insert(operands.begin(), graph.node(norm).inputs[0]);
  return graph.add(fused, operands);
}

// Whether a gate and what it gates read the same norm, and nobody else reads them.
bool are_gated(const pattern::Match& m, const pattern::Var& gate, const pattern::Var& up) {
  const auto* first = m.get_if<op::NormLinear>(gate);
  const auto* second = m.get_if<op::NormLinear>(up);
  const GraphNode& a = m.graph().node(m[gate]);
  const GraphNode& b = m.graph().node(m[up]);
  return *first == *second && !first->gated && is_plain(first->linear) && a.spec == b.spec &&
         a.inputs[0] == b.inputs[0] && a.inputs[1] == b.inputs[1] && a.users.size() == 1 &&
         b.users.size() == 1 && a.output_uses + b.output_uses == 0;
}

}  // namespace

PassPtr norm_linear() {
  using namespace pattern;
  const Var product, x, norm, weight, up_weight, gate, up;
  const RewriteRule normed{
      linear_product(product),
      [=](const Match& m) { return is_floating(m.root_spec().dtype) && is_of_norm(m, product); },
      [=](ComputationGraph& graph, const Match& m) { return with_norm(graph, m, product); }};
  const RewriteRule gated{
      operation<op::SwiGlu>(operation<op::NormLinear>(x, norm, weight).as(gate),
                            operation<op::NormLinear>(x, norm, up_weight).as(up)),
      [=](const Match& m) { return are_gated(m, gate, up); },
      [=](ComputationGraph& graph, const Match& m) {
        op::NormLinear fused = *m.get_if<op::NormLinear>(gate);
        fused.gated = true;
        return graph.add(fused, {m[x], m[norm], m[weight], m[up_weight]});
      }};
  return std::make_unique<RewritePass>("norm_linear", std::vector<RewriteRule>{normed, gated});
}

}  // namespace metal_candle::passes
