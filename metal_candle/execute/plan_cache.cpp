// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See plan_cache.h.
#include "metal_candle/execute/plan_cache.h"

#include <optional>
#include <utility>

#include "metal_candle/backend/registry.h"
#include "metal_candle/backend/tuning.h"
#include "metal_candle/core/host_observer.h"
#include "metal_candle/execute/partition.h"
#include "metal_candle/execute/statistics.h"
#include "metal_candle/optimize/graph_optimizer.h"
#include "metal_candle/optimize/lowering.h"

namespace metal_candle {

std::shared_ptr<const CompiledGraph> PlanCache::find(const Trace& trace, std::uint64_t hash,
                                                     const PassSet& passes, Device device) {
  // Compared outside the lock: graphs may be large, and what is compared cannot change.
  std::vector<std::shared_ptr<const CompiledGraph>> candidates;
  std::shared_ptr<const CompiledGraph> found;
  const std::uint64_t tuning = backend::tuning(device).id();
  {
    const std::lock_guard lock(mutex_);
    const auto [begin, end] = by_hash_.equal_range(hash);
    for (auto it = begin; it != end; ++it) {
      const auto& compiled = it->second->compiled;
      if (compiled->passes == passes && compiled->device == device && compiled->tuning == tuning) {
        if (!found)
          found = compiled;
        else
          candidates.push_back(compiled);
        entries_.splice(entries_.begin(), entries_, it->second);
      }
    }
  }
  if (!found || trace.matches(found->structure)) return found;
  for (const auto& candidate : candidates) {
    if (trace.matches(candidate->structure)) return candidate;
  }
  return nullptr;
}

void PlanCache::insert(std::uint64_t hash, std::shared_ptr<const CompiledGraph> compiled) {
  // Freed outside the lock.
  std::shared_ptr<const CompiledGraph> evicted;
  const std::lock_guard lock(mutex_);
  entries_.push_front({hash, std::move(compiled)});
  by_hash_.emplace(hash, entries_.begin());
  if (entries_.size() <= kCapacity) return;
  const auto last = std::prev(entries_.end());
  auto [it, end] = by_hash_.equal_range(last->hash);
  while (it != end && it->second != last) ++it;
  by_hash_.erase(it);
  evicted = std::move(last->compiled);
  entries_.erase(last);
  statistics().plans_evicted.fetch_add(1, std::memory_order_relaxed);
}

void PlanCache::clear() {
  const std::lock_guard lock(mutex_);
  by_hash_.clear();
  entries_.clear();
}

std::size_t PlanCache::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

namespace {

// The last one, while the same passes are asked for: its list of them is long to copy and to sort.
std::shared_ptr<const GraphOptimizer> optimizer_of(const PassSet& passes) {
  struct Last {
    std::mutex mutex;
    std::optional<PassSet> passes;
    std::shared_ptr<const GraphOptimizer> optimizer;
  };
  static auto* const last = new Last;  // Used by workers until the process ends.
  {
    const std::lock_guard lock(last->mutex);
    if (last->passes == passes) return last->optimizer;
  }
  auto made = std::make_shared<const GraphOptimizer>(passes);
  std::shared_ptr<const GraphOptimizer> previous = made;  // Freed outside the lock.
  const std::lock_guard lock(last->mutex);
  last->passes = passes;
  last->optimizer.swap(previous);
  return made;
}

}  // namespace

void optimize_for_device(ComputationGraph& graph, const PassSet& passes, Device device,
                         OptimizationReport* report) {
  const backend::Backend& backend = backend::backend_for(device);
  optimize_for_backend(
      graph, *optimizer_of(passes),
      [&](const Operation& operation, std::span<const TensorSpec> inputs) {
        return backend.supports(operation, inputs);
      },
      report);
}

std::shared_ptr<const CompiledGraph> compile(const Trace& trace, const PassSet& passes,
                                             Device device) {
  auto compiled = std::make_shared<CompiledGraph>(
      CompiledGraph{trace.to_graph(), passes, device, backend::tuning(device).id(), {}});
  ComputationGraph graph = compiled->structure;
  {
    const ScopedPhase optimizing(HostPhase::kOptimize);
    optimize_for_device(graph, passes, device);
  }
  const ScopedPhase planning(HostPhase::kPlan);
  for (GraphPart& part : partition(std::move(graph))) {
    compiled->parts.push_back({make_plan(part.graph, backend::backend_for(device)),
                               std::move(part.inputs), std::move(part.outputs)});
  }
  return compiled;
}

}  // namespace metal_candle
