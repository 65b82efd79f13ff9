// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs passes over a graph until nothing changes, in time linear in its size: a work list, on which
// a rewrite puts only what is next to it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle {

struct PassReport {
  std::string pass;
  std::int64_t rewrites = 0;
};

/// What an optimization did.
struct OptimizationReport {
  std::vector<PassReport> passes;  // Those that ran, in order, with 0 rewrites too.
  NodeId nodes_before = 0;
  NodeId nodes_after = 0;
  std::int64_t visits = 0;  // How often a node was offered to the passes of a stage.
  double seconds = 0;

  /// 0 for a pass that did not run.
  [[nodiscard]] std::int64_t rewrites(std::string_view pass) const;
  /// Takes in what the same optimizer did later to the same graph, or did first.
  void add(const OptimizationReport& later);
  /// One line for the whole, then one a pass that rewrote something.
  [[nodiscard]] std::string to_string() const;
};

/// An ordered list of passes. Immutable; any number of threads may run it at once.
class GraphOptimizer {
 public:
  /// The registered passes that are switched on for this thread.
  GraphOptimizer() : GraphOptimizer(current_passes()) {}
  explicit GraphOptimizer(PassSet passes) : GraphOptimizer(passes_in_order(passes)) {}
  /// These passes, stage by stage and in this order within a stage.
  explicit GraphOptimizer(std::vector<PassEntry> passes);

  /// Rewrites the graph and compacts it (so ids change, but for those of inputs). Throws Error
  /// naming the pass when passes undo each other's work without end.
  OptimizationReport run(ComputationGraph& graph) const {
    OptimizationReport report;
    run(graph, &report);
    return report;
  }
  /// The same, and adds what it did to the report, if there is one.
  void run(ComputationGraph& graph, OptimizationReport* report) const;
  /// The same for a graph whose composites were decomposed: only stages that do not compose them
  /// again (kCanonicalize and kElementwise).
  void run_after_lowering(ComputationGraph& graph, OptimizationReport* report) const;

 private:
  class Run;
  struct Pass {
    PassEntry entry;
    PassEntry::Traits traits;
  };
  std::vector<Pass> passes_;
};

}  // namespace metal_candle
