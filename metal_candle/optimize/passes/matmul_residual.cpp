// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// matmul_residual: (x @ w) + r, linear(x, w, ..) + r -> linear(x, w, .., residual r), where r has
// the shape of the product and the linear has no residual yet; or, if what it has as a residual is
// a product without one, that takes it:
//
//   linear(x, w, .., y @ v) + r -> linear(x, w, .., linear(y, v, residual r))
#include "metal_candle/optimize/passes/builtin_passes.h"
#include "metal_candle/optimize/passes/linear_product.h"
#include "metal_candle/optimize/rewrite_pass.h"

namespace metal_candle::passes {
namespace {

/// Products each of which is the residual of the one before, from `id` to one without a residual;
/// empty if they are used elsewhere, or too many to look at for every sum.
std::vector<NodeId> chain_of_products(const ComputationGraph& graph, NodeId id,
                                      const TensorSpec& spec) {
  constexpr std::size_t kMost = 8;
  std::vector<NodeId> chain;
  while (chain.size() < kMost) {
    const GraphNode& node = graph.node(id);
    if (node.is_input() || node.users.size() != 1 || node.output_uses != 0 || node.spec != spec) {
      return {};
    }
    chain.push_back(id);
    if (graph.get_if<op::Matmul>(id) != nullptr) return chain;
    const auto* linear = graph.get_if<op::Linear>(id);
    if (linear == nullptr) return {};
    if (!linear->has_residual) return chain;
    id = node.inputs.back();
  }
  return {};
}

/// The chain again, whose last product adds `residual`.
NodeId with_residual_at_end(ComputationGraph& graph, const std::vector<NodeId>& chain,
                            NodeId residual) {
  for (auto link = chain.rbegin(); link != chain.rend(); ++link) {
    op::Linear linear{op::Activation::kNone, false, false, 1};
    if (const auto* own = graph.get_if<op::Linear>(*link)) linear = *own;
    std::vector<NodeId> operands = graph.node(*link).inputs;
    if (linear.has_residual) operands.pop_back();
    linear.has_residual = true;
    operands.push_back(residual);
    residual = graph.add(linear, operands);
  }
  return residual;
}

}  // namespace

PassPtr matmul_residual() {
  using namespace pattern;
  const Var product, residual;
  const RewriteRule rule{linear_product(product) + residual,
                         [=](const Match& m) {
                           return epilogue_fits(m, product) && m.spec(residual) == m.root_spec() &&
                                  !linear_attributes(m, product).has_residual;
                         },
                         [=](ComputationGraph& graph, const Match& m) {
                           op::Linear linear = linear_attributes(m, product);
                           linear.has_residual = true;
                           std::vector<NodeId> operands = linear_operands(m, product);
                           operands.push_back(m[residual]);
                           return graph.add(linear, operands);
                         }};
  const Var left, right;
  const auto chain = [](const Match& m, const Var& term) {
    return is_floating(m.root_spec().dtype) ? chain_of_products(m.graph(), m[term], m.root_spec())
                                            : std::vector<NodeId>{};
  };
  const RewriteRule at_end{Pattern(left) + right,
                           [=](const Match& m) {
                             return m.spec(left) == m.root_spec() &&
                                    m.spec(right) == m.root_spec() && m[left] != m[right] &&
                                    (!chain(m, left).empty() || !chain(m, right).empty());
                           },
                           [=](ComputationGraph& graph, const Match& m) {
                             const std::vector<NodeId> products = chain(m, left);
                             if (!products.empty())
                               return with_residual_at_end(graph, products, m[right]);
                             return with_residual_at_end(graph, chain(m, right), m[left]);
                           }};
  return std::make_unique<RewritePass>("matmul_residual", std::vector<RewriteRule>{rule, at_end});
}

}  // namespace metal_candle::passes
