// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// product_sum: products of 16-bit matrices that are added to each other, directly or as residuals,
// and have no other use:
//
//   linear(c, d, residual a @ b)                 -> product_sum(a, b, c, d)
//   product_sum(..) + product_sum(.., residual r) -> product_sum(.., residual r)
//   product_sum(..) + r                          -> product_sum(.., residual r)
//
// Gradients by what several layers read are such sums. A product over a long axis stays as it is:
// it is worth the library's best kernel.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "metal_candle/optimize/passes/builtin_passes.h"

namespace metal_candle::passes {
namespace {

constexpr std::int64_t kMostInner = 1024;
constexpr int kMostProducts = 8;

// What a node adds up, if it can be a part of a sum of products.
struct Terms {
  std::vector<NodeId> operands;  // Two a product.
  NodeId residual = -1;

  [[nodiscard]] int count() const { return static_cast<int>(operands.size() / 2); }
};

bool is_short(const ComputationGraph& graph, NodeId a, NodeId b) {
  const Shape& left = graph.node(a).spec.shape;
  return graph.node(b).spec.shape.rank() == 2 && left.rank() >= 2 && left.back() > 0 &&
         left.back() <= kMostInner;
}

bool is_sum(const op::Linear& linear) {
  return linear.activation == op::Activation::kNone && !linear.has_bias && linear.scale == 1;
}

// Nothing, of no products, where it cannot.
Terms terms_of(const ComputationGraph& graph, NodeId id) {
  const GraphNode& node = graph.node(id);
  const std::vector<NodeId>& in = node.inputs;
  Terms terms;
  if (graph.get_if<op::Matmul>(id) != nullptr && is_short(graph, in[0], in[1])) {
    terms.operands = in;
  } else if (const auto* linear = graph.get_if<op::Linear>(id)) {
    if (!is_sum(*linear) || !is_short(graph, in[0], in[1])) return terms;
    terms.operands = {in[0], in[1]};
    if (linear->has_residual) terms.residual = in[2];
  } else if (const auto* sum = graph.get_if<op::ProductSum>(id)) {
    const auto products = in.begin() + 2 * sum->count;
    terms.operands.assign(in.begin(), products);
    if (sum->has_residual) terms.residual = *products;
  }
  return terms;
}

class ProductSumPass final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "product_sum"; }
  [[nodiscard]] bool reusable() const override { return true; }
  [[nodiscard]] OperationSet roots() const override {
    return OperationSet::of<op::Linear, op::ProductSum, op::Binary>();
  }
  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    const TensorSpec spec = graph.node(id).spec;
    if (spec.dtype != DType::kF16 && spec.dtype != DType::kBF16) return false;
    const std::optional<Terms> terms =
        graph.get_if<op::Binary>(id) != nullptr ? of_addition(graph, id) : of_product(graph, id);
    if (!terms || terms->count() > kMostProducts) return false;
    std::vector<NodeId> inputs = terms->operands;
    if (terms->residual >= 0) inputs.push_back(terms->residual);
    graph.replace(id, graph.add(op::ProductSum{terms->count(), terms->residual >= 0}, inputs));
    return true;
  }

 private:
  // The terms of a node that only the sum at hand reads.
  static Terms swallowed(const ComputationGraph& graph, NodeId id, const TensorSpec& spec) {
    if (!graph.has_one_use(id) || graph.node(id).spec != spec) return {};
    return terms_of(graph, id);
  }

  static std::optional<Terms> joined(Terms a, const Terms& b) {
    if (a.residual >= 0 && b.residual >= 0) return std::nullopt;
    a.operands.insert(a.operands.end(), b.operands.begin(), b.operands.end());
    a.residual = std::max(a.residual, b.residual);
    return a;
  }

  // A product whose residual is a sum of products too.
  static std::optional<Terms> of_product(const ComputationGraph& graph, NodeId id) {
    Terms mine = terms_of(graph, id);
    if (mine.count() == 0 || mine.residual < 0) return std::nullopt;
    const Terms other = swallowed(graph, mine.residual, graph.node(id).spec);
    if (other.count() == 0) return std::nullopt;
    mine.residual = -1;
    return joined(std::move(mine), other);
  }

  // Two sums of products; or one of several, and anything.
  static std::optional<Terms> of_addition(const ComputationGraph& graph, NodeId id) {
    const GraphNode& node = graph.node(id);
    if (graph.get_if<op::Binary>(id)->kind != BinaryKind::kAdd) return std::nullopt;
    Terms a = swallowed(graph, node.inputs[0], node.spec);
    Terms b = swallowed(graph, node.inputs[1], node.spec);
    if (a.count() > 0 && b.count() > 0) return joined(std::move(a), b);
    const bool first = a.count() > 0;
    Terms& sum = first ? a : b;
    const NodeId other = node.inputs[first ? 1 : 0];
    if (sum.count() < 2 || sum.residual >= 0 || graph.node(other).spec != node.spec) {
      return std::nullopt;
    }
    sum.residual = other;
    return sum;
  }
};

}  // namespace

PassPtr product_sum() { return std::make_unique<ProductSumPass>(); }

}  // namespace metal_candle::passes
