// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/optimize/rewrite_pass.h"

#include <algorithm>

namespace metal_candle {

RewritePass::RewritePass(std::string_view name, std::vector<RewriteRule> rules)
    : name_(name), rules_(std::move(rules)) {
  for (const RewriteRule& rule : rules_) {
    roots_of_rules_.push_back(rule.from.roots());
    roots_ = roots_ | roots_of_rules_.back();
  }
}

bool RewritePass::try_fuse(ComputationGraph& graph, NodeId node) {
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    if (!roots_of_rules_[i].contains(graph.node(node).operation)) continue;
    const auto match = pattern::match(graph, node, rules_[i].from, rules_[i].when);
    if (!match) continue;
    graph.replace(node, rules_[i].to(graph, *match));
    return true;
  }
  return false;
}

std::optional<int> single_reduced_axis(const op::Reduce* reduce) {
  if (reduce == nullptr || reduce->axes.size() != 1) return std::nullopt;
  return static_cast<int>(reduce->axes[0]);
}

bool is_row(const Shape& shape, const Shape& full) {
  if (shape.empty() || full.empty() || shape.rank() > full.rank()) return false;
  return shape.back() == full.back() && num_elements(shape) == full.back();
}

NodeId as_shape(ComputationGraph& graph, NodeId node, const Shape& shape) {
  const TensorSpec spec = graph.node(node).spec;
  if (spec.shape == shape) return node;
  return graph.add(op::Reshape{}, {node}, {shape, spec.dtype});
}

NodeId as_vector(ComputationGraph& graph, NodeId node) {
  return as_shape(graph, node, Shape{graph.node(node).spec.shape.back()});
}

NodeId as_dtype(ComputationGraph& graph, NodeId node, DType dtype) {
  const TensorSpec spec = graph.node(node).spec;
  if (spec.dtype == dtype) return node;
  return graph.add(op::Cast{}, {node}, {spec.shape, dtype});
}

NodeId pick(ComputationGraph& graph, NodeId node, int index, const TensorSpec& spec) {
  return graph.add(op::Pick{index}, {node}, spec);
}

}  // namespace metal_candle
