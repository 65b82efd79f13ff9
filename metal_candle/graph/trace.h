// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tracing: from output nodes down to evaluated leaves. The result is only pointers and edge
// numbers: the common case is that a plan for the same structure exists already, and then nothing
// more is made.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/graph/node.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// The unevaluated nodes under some outputs, in topological order, pinned until this object goes.
/// Identities, stopped gradients and custom-gradient wrappers do not appear.
class Trace {
 public:
  /// Traces the nodes. Iterative; linear in the number of nodes and edges.
  explicit Trace(std::span<Node* const> outputs);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// A node by its place in the order. Leaves: resolved when seen, so value() may be read.
  struct Entry {
    const Node* node;
    std::int32_t first_edge;  // Into edges(); the next entry's first_edge ends it.
    std::int32_t leaf;        // Which leaf this is, or -1 if an operation.
  };
  [[nodiscard]] std::span<const Entry> entries() const { return lists_.entries; }
  /// Input numbers of entry i.
  [[nodiscard]] std::span<const std::int32_t> edges(std::size_t i) const {
    const std::vector<Entry>& entries = lists_.entries;
    const auto begin = static_cast<std::size_t>(entries[i].first_edge);
    const std::size_t end = i + 1 < entries.size()
                                ? static_cast<std::size_t>(entries[i + 1].first_edge)
                                : lists_.edges.size();
    return {lists_.edges.data() + begin, end - begin};
  }
  /// Entry numbers of the outputs, in the order asked for.
  [[nodiscard]] std::span<const std::int32_t> outputs() const { return lists_.outputs; }
  [[nodiscard]] std::span<const Node* const> leaves() const { return lists_.leaves; }

  /// A node that does not appear because it stands for an entry. It holds references all the same.
  struct Alias {
    const Node* node;
    std::int32_t entry;
  };
  [[nodiscard]] std::span<const Alias> aliases() const { return lists_.aliases; }

  /// A hash of the structure: operations, attributes, specs, leaf layouts, edges, outputs.
  [[nodiscard]] std::uint64_t hash() const;
  /// Whether graph, made by to_graph() of some trace, has this very structure. Compares everything.
  [[nodiscard]] bool matches(const ComputationGraph& graph) const;
  [[nodiscard]] ComputationGraph to_graph() const;

 private:
  struct Lists {
    std::vector<Entry> entries;
    std::vector<std::int32_t> edges;
    std::vector<std::int32_t> outputs;
    std::vector<const Node*> leaves;
    std::vector<Alias> aliases;
    std::vector<const Node*> pinned;

    void clear();
  };
  struct Scratch;
  static Scratch& scratch();
  void visit(Scratch& scratch, Node* root);

  Lists lists_;  // In memory that the thread keeps from one trace to the next.
};

/// The graph under outputs, before optimisation: for dumps and tests.
[[nodiscard]] ComputationGraph trace_graph(std::span<const Tensor> outputs);
[[nodiscard]] inline ComputationGraph trace_graph(std::initializer_list<Tensor> outputs) {
  return trace_graph(std::span<const Tensor>(outputs.begin(), outputs.size()));
}

}  // namespace metal_candle
