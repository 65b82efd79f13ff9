// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A flat graph in static single assignment form: what tracing makes of the nodes under some
// outputs, what passes rewrite, and what a plan is made from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle {

/// Index of a node in its graph. Stable until compact().
using NodeId = std::int32_t;
inline constexpr NodeId kNoNode = -1;

struct GraphNode {
  Operation operation;  // Meaningless for an input.
  TensorSpec spec;      // Of output 0 where there are several.
  std::vector<NodeId> inputs;
  std::vector<NodeId> users;  // One entry a use, in any order; dead nodes are not in it.
  // Where in users of inputs[i] this use stands, so that one of very many uses is removed at once.
  std::vector<std::int32_t> use_slots;
  std::int32_t input_index = -1;  // Which of inputs() this is, or -1 if an operation.
  std::int32_t output_uses = 0;   // How many times it is an output of the graph.
  bool dead = false;

  [[nodiscard]] bool is_input() const { return input_index >= 0; }
};

/// Not thread safe.
class ComputationGraph {
 public:
  /// An input: a tensor that is already evaluated, laid out as given.
  NodeId add_input(const TensorLayout& layout);
  /// Adds an operation; infers and checks its spec (`requested` as in infer_output()). New nodes go
  /// at the end; ids are in topological order only after compact().
  NodeId add(Operation operation, std::span<const NodeId> inputs, const TensorSpec& requested = {});
  NodeId add(Operation operation, std::initializer_list<NodeId> inputs,
             const TensorSpec& requested = {}) {
    return add(std::move(operation), std::span<const NodeId>(inputs.begin(), inputs.size()),
               requested);
  }
  void add_output(NodeId node);

  [[nodiscard]] const GraphNode& node(NodeId id) const {
    return nodes_[static_cast<std::size_t>(id)];
  }
  /// Nodes, dead ones too.
  [[nodiscard]] NodeId size() const { return static_cast<NodeId>(nodes_.size()); }
  [[nodiscard]] NodeId live_size() const { return live_; }
  [[nodiscard]] std::span<const NodeId> inputs() const { return inputs_; }
  [[nodiscard]] std::span<const TensorLayout> input_layouts() const { return input_layouts_; }
  [[nodiscard]] std::span<const NodeId> outputs() const { return outputs_; }

  /// The operation of `id` if it is a T, else null (also for inputs).
  template <typename T>
  [[nodiscard]] const T* get_if(NodeId id) const {
    const GraphNode& n = node(id);
    return n.is_input() ? nullptr : std::get_if<T>(&n.operation);
  }
  /// Used exactly once, and not an output: a rewrite of its one user may swallow it.
  [[nodiscard]] bool has_one_use(NodeId id) const {
    return node(id).users.size() == 1 && node(id).output_uses == 0;
  }

  /// Makes every user of `from` (and outputs) use `to` instead, then removes `from` and what only
  /// it used. Specs must be equal. `to` may not depend on `from`.
  void replace(NodeId from, NodeId to);
  /// Removes a node without users that is not an output, and then its inputs likewise. Graph inputs
  /// stay.
  void remove_if_unused(NodeId id);
  /// Drops every operation that no output needs, and renumbers in topological order: inputs first,
  /// then depth first from the outputs.
  void compact();

  /// One line a node: "%3 = add(%1, %2) : f32[2, 3]".
  [[nodiscard]] std::string to_text() const;
  /// Graphviz.
  [[nodiscard]] std::string to_dot() const;

 private:
  GraphNode& mutable_node(NodeId id) { return nodes_[static_cast<std::size_t>(id)]; }
  /// Notes that input number `edge` of `user` is what it is.
  void add_use(NodeId user, std::size_t edge);
  /// Forgets it.
  void remove_use(NodeId user, std::size_t edge);

  std::vector<GraphNode> nodes_;
  std::vector<NodeId> inputs_;
  std::vector<TensorLayout> input_layouts_;
  std::vector<NodeId> outputs_;
  NodeId live_ = 0;
};

}  // namespace metal_candle
