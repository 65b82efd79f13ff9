// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Evaluation: from lazy tensors to numbers. All functions are thread safe: any number of threads
// may evaluate at once, tensors they share included.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "metal_candle/core/device.h"
#include "metal_candle/execute/future.h"
#include "metal_candle/execute/mode.h"
#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// Computes the outputs together and waits: common parts are computed once. Each output gets
/// storage and lets go of what it was computed from; tensors in between get none. Throws
/// OutOfMemoryError, naming the bytes and the step that needs most, before anything has run: the
/// outputs can be evaluated again when there is memory. Throws what a step threw, naming the step:
/// the outputs have then failed for good, and reading them throws it again.
void eval(std::span<const Tensor> outputs);
void eval(const std::vector<Tensor>& outputs);
template <typename... Tensors>
requires(std::same_as<Tensors, Tensor>&&...) void eval(const Tensor& first,
                                                       const Tensors&... rest) {
  const Tensor outputs[] = {first, rest...};
  eval(std::span<const Tensor>(outputs));
}

/// Queues the computation and returns. The outputs may be used in further graphs at once; reading
/// one waits for it. Independent evaluations on different queues overlap; those that depend on each
/// other are ordered whichever queues they are on. An error met while planning (OutOfMemoryError)
/// is thrown here; one met while computing is thrown to whoever waits for an output. In modes other
/// than kAsync, this computes before it returns. `queue` is in [0, num_queues).
Future eval_async(std::span<const Tensor> outputs, int queue = 0);
Future eval_async(const std::vector<Tensor>& outputs, int queue = 0);
template <typename... Tensors>
requires(std::same_as<Tensors, Tensor>&&...) Future
    eval_async(const Tensor& first, const Tensors&... rest) {
  const Tensor outputs[] = {first, rest...};
  return eval_async(std::span<const Tensor>(outputs));
}

/// Blocks until all queues of the device are empty.
void synchronize(Device device = default_device());

/// What evaluating the outputs would take, without doing it.
struct EvaluationPlan {
  std::size_t nodes = 0;         // Traced.
  std::size_t steps = 0;         // Kernels run.
  std::size_t peak_bytes = 0;    // Memory beyond that of the inputs, at the worst step.
  std::size_t output_bytes = 0;  // Of that, what the outputs keep.
  // Of that, what needs no memory if nobody else holds the inputs: it takes over theirs.
  std::size_t donated_bytes = 0;
  std::string peak_step;         // Where intermediates are largest.
  std::string optimizer_report;  // Which pass rewrote what.
  ComputationGraph traced;       // As it was built. For dumps: to_text() and to_dot().
  ComputationGraph optimized;    // As the device runs it.
};
/// Plans (and caches the plan). For dumps and for showing predicted memory before a long run.
[[nodiscard]] EvaluationPlan plan_evaluation(std::span<const Tensor> outputs);
[[nodiscard]] EvaluationPlan plan_evaluation(const std::vector<Tensor>& outputs);

namespace detail {
/// Traces, hashes and looks the plan up, as evaluation does first; whether there is one.
bool has_plan(std::span<const Tensor> outputs);
}  // namespace detail

// ---- Memory
// ----------------------------------------------------------------------------------------

struct MemoryUse {
  std::size_t in_use = 0;  // Bytes in tensors and running plans.
  std::size_t peak = 0;    // The most in_use was since reset_peak_memory().
  std::size_t cached = 0;  // Freed, kept for reuse.
  std::size_t limit = 0;
};
[[nodiscard]] MemoryUse memory_use(Device device = default_device());
void reset_peak_memory(Device device = default_device());
/// Evaluations that would exceed it throw OutOfMemoryError. Initially the device's memory.
void set_memory_limit(std::size_t bytes, Device device = default_device());
/// Gives cached memory back to the system.
void clear_memory_cache(Device device = default_device());

}  // namespace metal_candle
