// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The flat graph: use lists are kept exact by every edit, so passes can trust them.
#include "metal_candle/graph/computation_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/shape_rules.h"

namespace metal_candle {

NodeId ComputationGraph::add_input(const TensorLayout& layout) {
  GraphNode node;
  node.spec = {layout.shape, layout.dtype};
  node.input_index = static_cast<std::int32_t>(inputs_.size());
  const NodeId id = size();
  inputs_.push_back(id);
  input_layouts_.push_back(layout);
  nodes_.push_back(std::move(node));
  ++live_;
  return id;
}

NodeId ComputationGraph::add(Operation operation, std::span<const NodeId> inputs,
                             const TensorSpec& requested) {
  std::vector<const TensorSpec*> specs;
  specs.reserve(inputs.size());
  for (const NodeId input : inputs) specs.push_back(&node(input).spec);
  GraphNode added;
  added.spec = infer_output(operation, specs, requested);
  added.operation = std::move(operation);
  added.inputs.assign(inputs.begin(), inputs.end());
  added.use_slots.resize(inputs.size());
  const NodeId id = size();
  nodes_.push_back(std::move(added));
  for (std::size_t edge = 0; edge < inputs.size(); ++edge) add_use(id, edge);
  ++live_;
  return id;
}

void ComputationGraph::add_use(NodeId user, std::size_t edge) {
  GraphNode& n = mutable_node(user);
  std::vector<NodeId>& users = mutable_node(n.inputs[edge]).users;
  n.use_slots[edge] = static_cast<std::int32_t>(users.size());
  users.push_back(user);
}

void ComputationGraph::remove_use(NodeId user, std::size_t edge) {
  const GraphNode& n = node(user);
  const NodeId used = n.inputs[edge];
  const std::int32_t slot = n.use_slots[edge];
  std::vector<NodeId>& users = mutable_node(used).users;
  // The last use takes its place.
  const auto last = static_cast<std::int32_t>(users.size()) - 1;
  GraphNode& moved = mutable_node(users.back());
  for (std::size_t i = 0; i < moved.inputs.size(); ++i) {
    if (moved.inputs[i] == used && moved.use_slots[i] == last) moved.use_slots[i] = slot;
  }
  users[static_cast<std::size_t>(slot)] = users.back();
  users.pop_back();
}

void ComputationGraph::add_output(NodeId node) {
  outputs_.push_back(node);
  ++nodes_[static_cast<std::size_t>(node)].output_uses;
}

void ComputationGraph::replace(NodeId from, NodeId to) {
  if (from == to) return;
  GraphNode& old_node = nodes_[static_cast<std::size_t>(from)];
  GraphNode& new_node = nodes_[static_cast<std::size_t>(to)];
  if (!(old_node.spec == new_node.spec)) {
    throw ShapeError(fmt::format("replace: {} {} is not {} {}", name(old_node.spec.dtype),
                                 to_string(old_node.spec.shape), name(new_node.spec.dtype),
                                 to_string(new_node.spec.shape)));
  }
  for (std::size_t slot = 0; slot < old_node.users.size(); ++slot) {
    const NodeId user = old_node.users[slot];
    GraphNode& n = mutable_node(user);
    for (std::size_t edge = 0; edge < n.inputs.size(); ++edge) {
      if (n.inputs[edge] != from || n.use_slots[edge] != static_cast<std::int32_t>(slot)) continue;
      n.inputs[edge] = to;
      add_use(user, edge);
      break;
    }
  }
  old_node.users.clear();
  if (old_node.output_uses > 0) {
    std::replace(outputs_.begin(), outputs_.end(), from, to);
    new_node.output_uses += std::exchange(old_node.output_uses, 0);
  }
  remove_if_unused(from);
}

void ComputationGraph::remove_if_unused(NodeId id) {
  std::vector<NodeId> candidates{id};
  while (!candidates.empty()) {
    const NodeId candidate = candidates.back();
    candidates.pop_back();
    GraphNode& n = nodes_[static_cast<std::size_t>(candidate)];
    if (n.dead || n.is_input() || !n.users.empty() || n.output_uses > 0) continue;
    n.dead = true;
    --live_;
    for (std::size_t edge = 0; edge < n.inputs.size(); ++edge) {
      remove_use(candidate, edge);
      candidates.push_back(n.inputs[edge]);
    }
    n.inputs.clear();
    n.use_slots.clear();
  }
}

void ComputationGraph::compact() {
  std::vector<NodeId> renumbered(nodes_.size(), kNoNode);
  std::vector<NodeId> order;
  order.reserve(nodes_.size());
  const auto emit = [&](NodeId id) {
    renumbered[static_cast<std::size_t>(id)] = static_cast<NodeId>(order.size());
    order.push_back(id);
  };
  for (const NodeId input : inputs_) emit(input);
  // Depth first from the outputs, inputs before users: what is needed first is computed first, and
  // little is alive at once.
  struct Frame {
    NodeId id;
    std::size_t next_input;
  };
  std::vector<Frame> stack;
  std::vector<bool> entered(nodes_.size(), false);
  for (const NodeId output : outputs_) {
    stack.push_back({output, 0});
    while (!stack.empty()) {
      Frame& frame = stack.back();
      const auto index = static_cast<std::size_t>(frame.id);
      const std::vector<NodeId>& edges = nodes_[index].inputs;
      if (renumbered[index] != kNoNode) {
        stack.pop_back();
      } else if (frame.next_input == 0 && entered[index] && !edges.empty()) {
        throw Error("compact: the graph has a cycle");
      } else if (frame.next_input < edges.size()) {
        entered[index] = true;
        const NodeId input = edges[frame.next_input++];
        stack.push_back({input, 0});
      } else {
        emit(frame.id);
        stack.pop_back();
      }
    }
  }
  std::vector<GraphNode> sorted;
  sorted.reserve(order.size());
  for (const NodeId id : order) sorted.push_back(std::move(nodes_[static_cast<std::size_t>(id)]));
  nodes_ = std::move(sorted);
  live_ = size();
  const auto renumber = [&](std::vector<NodeId>& ids) {
    std::erase_if(ids,
                  [&](NodeId id) { return renumbered[static_cast<std::size_t>(id)] == kNoNode; });
    for (NodeId& id : ids) id = renumbered[static_cast<std::size_t>(id)];
  };
  for (GraphNode& n : nodes_) {
    renumber(n.inputs);
    n.users.clear();
  }
  for (NodeId id = 0; id < size(); ++id) {
    for (std::size_t edge = 0; edge < node(id).inputs.size(); ++edge) add_use(id, edge);
  }
  renumber(inputs_);
  renumber(outputs_);
}

namespace {

std::string describe(const TensorSpec& spec) {
  return fmt::format("{}{}", name(spec.dtype), to_string(spec.shape));
}

}  // namespace

std::string ComputationGraph::to_text() const {
  std::string text;
  const auto out = std::back_inserter(text);
  for (NodeId id = 0; id < size(); ++id) {
    const GraphNode& n = node(id);
    if (n.dead) continue;
    fmt::format_to(out, "%{} = ", id);
    if (n.is_input()) {
      fmt::format_to(out, "input({})", n.input_index);
    } else {
      fmt::format_to(out, "{}", to_string(n.operation));
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        fmt::format_to(out, "{}%{}", i == 0 ? " " : ", ", n.inputs[i]);
      }
    }
    fmt::format_to(out, " : {}\n", describe(n.spec));
  }
  text += "return";
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    fmt::format_to(out, "{}%{}", i == 0 ? " " : ", ", outputs_[i]);
  }
  text += '\n';
  return text;
}

std::string ComputationGraph::to_dot() const {
  std::string text = "digraph computation {\n  node [shape=box, fontname=\"monospace\"];\n";
  const auto out = std::back_inserter(text);
  for (NodeId id = 0; id < size(); ++id) {
    const GraphNode& n = node(id);
    if (n.dead) continue;
    fmt::format_to(out, "  n{} [label=\"{}\\n{}\"{}];\n", id,
                   n.is_input() ? fmt::format("input {}", n.input_index) : to_string(n.operation),
                   describe(n.spec),
                   n.output_uses > 0 ? ", peripheries=2" : (n.is_input() ? ", style=rounded" : ""));
    for (const NodeId input : n.inputs) fmt::format_to(out, "  n{} -> n{};\n", input, id);
  }
  text += "}\n";
  return text;
}

}  // namespace metal_candle
