// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Plans by structure: a step that looks like an earlier one skips optimising and planning.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "metal_candle/execute/plan.h"
#include "metal_candle/graph/trace.h"
#include "metal_candle/optimize/graph_optimizer.h"
#include "metal_candle/optimize/pass_registry.h"

namespace metal_candle {

/// A graph with all that was made of it. Immutable.
struct CompiledGraph {
  /// An independent part: shares nothing with the others but leaves.
  struct Part {
    Plan plan;
    std::vector<std::int32_t> leaves;   // Leaf i of the plan is leaf leaves[i] of the graph.
    std::vector<std::int32_t> outputs;  // Output i of the plan is output outputs[i] of the graph.
  };

  ComputationGraph structure;  // As traced: what a later trace is compared with.
  PassSet passes;
  Device device;
  std::uint64_t tuning = 0;  // The id of the device's tuning: kernels have taken values from it.
  std::vector<Part> parts;
};

/// Bounded, least recently used out first. Thread safe.
class PlanCache {
 public:
  static constexpr std::size_t kCapacity = 1024;

  /// The entry with the structure of `trace`, compared in full; null if there is none.
  std::shared_ptr<const CompiledGraph> find(const Trace& trace, std::uint64_t hash,
                                            const PassSet& passes, Device device);
  void insert(std::uint64_t hash, std::shared_ptr<const CompiledGraph> compiled);
  void clear();
  [[nodiscard]] std::size_t size() const;

 private:
  struct Entry {
    std::uint64_t hash;
    std::shared_ptr<const CompiledGraph> compiled;
  };
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // Most recently used first.
  std::unordered_multimap<std::uint64_t, std::list<Entry>::iterator> by_hash_;
};

/// Makes the graph, as traced, what the device runs: optimised with these passes, and lowered.
void optimize_for_device(ComputationGraph& graph, const PassSet& passes, Device device,
                         OptimizationReport* report = nullptr);

/// Optimises and plans.
[[nodiscard]] std::shared_ptr<const CompiledGraph> compile(const Trace& trace,
                                                           const PassSet& passes, Device device);

}  // namespace metal_candle
