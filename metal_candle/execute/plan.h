// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A plan: the steps of an evaluation in order, with every buffer, view and kernel decided.
// Immutable; made once for a structure and run any number of times, by any number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "metal_candle/backend/backend.h"
#include "metal_candle/graph/computation_graph.h"

namespace metal_candle {

/// Where an operand lives. The buffer behind it is known when the plan runs.
struct PlanRegion {
  enum class Kind : std::uint8_t {
    kNone,    // Nowhere: an output nobody uses.
    kLeaf,    // Input `index` of the graph; offset from where its value begins.
    kOutput,  // Output buffer `index`.
    kArena,   // The plan's one block for intermediates.
  };
  Kind kind = Kind::kNone;
  std::int32_t index = 0;
  std::int64_t offset = 0;  // Bytes.
};

struct PlanStep {
  std::unique_ptr<backend::Kernel> kernel;
  std::vector<PlanRegion> inputs;
  std::vector<PlanRegion> outputs;
  PlanRegion scratch;
  backend::StepLabel label;
  // Steps of one wave do not depend on each other (waves.h); -1 where the backend does not ask.
  std::int32_t wave = -1;
};

/// How an output of the graph is found when the plan has run.
struct PlanOutput {
  PlanRegion region;  // kLeaf (a view of an input) or kOutput.
  Strides strides;
};

/// Output buffer `output_buffer` may be the memory of leaf `leaf`, if nobody else can ever read
/// that leaf.
struct Donation {
  std::int32_t leaf;
  std::int32_t output_buffer;
};

struct Plan {
  std::vector<PlanStep> steps;
  std::vector<PlanOutput> outputs;
  std::vector<std::size_t> output_buffers;  // Bytes of each.
  std::size_t arena_bytes = 0;
  std::vector<Donation> donations;
  std::int32_t peak_step = -1;  // The step at which the arena is fullest; -1 if there is no arena.

  [[nodiscard]] std::size_t output_bytes() const;
  /// Whether its steps are few, move no more bytes than that, and compute no more than goes with
  /// it.
  [[nodiscard]] bool moves_at_most(std::size_t bytes) const;
  /// Memory that a run takes beyond its leaves, if nothing is donated.
  [[nodiscard]] std::size_t peak_bytes() const { return arena_bytes + output_bytes(); }
};

/// Plans an optimised, lowered and compacted graph.
[[nodiscard]] Plan make_plan(const ComputationGraph& graph, const backend::Backend& backend);

}  // namespace metal_candle
