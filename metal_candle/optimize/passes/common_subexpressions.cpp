// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// common_subexpressions: f(x, ..) and f(x, ..) with equal attributes, operands and spec become one
// node (hash-consing); for commutative f the order of operands does not matter. Every operation is
// a function of its operands, random bits of a key too. A Barrier is not: it is there to have
// something computed again.
#include <algorithm>
#include <unordered_map>

#include "metal_candle/optimize/passes/builtin_passes.h"

namespace metal_candle::passes {
namespace {

bool commutes(const Operation& operation) {
  const auto* binary = std::get_if<op::Binary>(&operation);
  return binary != nullptr && is_commutative(binary->kind);
}

std::uint64_t hash_node(const GraphNode& node) {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15ull;
  std::uint64_t h = hash(node.operation);
  const auto add = [&h](std::uint64_t word) { h = (h ^ word ^ (h >> 29)) * kOdd; };
  add(static_cast<std::uint64_t>(node.spec.dtype));
  for (const std::int64_t d : node.spec.shape) add(static_cast<std::uint64_t>(d));
  if (commutes(node.operation)) {
    const auto [low, high] = std::minmax(node.inputs[0], node.inputs[1]);
    add(static_cast<std::uint64_t>(low));
    add(static_cast<std::uint64_t>(high));
  } else {
    for (const NodeId input : node.inputs) add(static_cast<std::uint64_t>(input));
  }
  return h ^ (h >> 32);
}

bool same_value(const GraphNode& a, const GraphNode& b) {
  if (!(a.spec == b.spec) || !(a.operation == b.operation)) return false;
  if (a.inputs == b.inputs) return true;
  return commutes(a.operation) && a.inputs[0] == b.inputs[1] && a.inputs[1] == b.inputs[0];
}

class CommonSubexpressions final : public FusionPass {
 public:
  [[nodiscard]] std::string_view name() const override { return "common_subexpressions"; }

  bool try_fuse(ComputationGraph& graph, NodeId id) override {
    const GraphNode& node = graph.node(id);
    if (std::holds_alternative<op::Barrier>(node.operation)) return false;
    NodeId& known = known_.try_emplace(hash_node(node), id).first->second;
    if (known == id) return false;
    // The known node may have been rewritten or removed since, or hash alike by accident; then the
    // newer one is the one to know.
    if (graph.node(known).dead || !same_value(graph.node(known), node)) {
      known = id;
      return false;
    }
    graph.replace(id, known);
    return true;
  }

 private:
  std::unordered_map<std::uint64_t, NodeId> known_;
};

}  // namespace

PassPtr common_subexpressions() { return std::make_unique<CommonSubexpressions>(); }

}  // namespace metal_candle::passes
