// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Evaluates a graph on the host in double precision, one plain loop an operation, each written from
// its definition in operation.h: no kernel, no decomposition and no view takes part, so that all of
// those can be tested against it.
#pragma once

#include <span>
#include <vector>

#include "metal_candle/graph/computation_graph.h"
#include "metal_candle/graph/tensor.h"
#include "tests/support/host_tensor.h"

namespace metal_candle::testing {

enum class Rounding {
  kNone,            // Pure double: what finite differences need.
  kEveryOperation,  // Every operation's result is rounded to its dtype.
};

/// The outputs of `graph`, given its inputs in order. Throws ShapeError where an index is out of
/// range.
[[nodiscard]] std::vector<HostTensor> interpret(const ComputationGraph& graph,
                                                std::span<const HostTensor> inputs,
                                                Rounding rounding = Rounding::kNone);

/// What some tensors are computed from: the graph under them, and the values of its inputs.
struct TracedValues {
  ComputationGraph graph;
  std::vector<HostTensor> inputs;
  std::vector<const Node*> leaves;  // The nodes that the inputs were read from.
};
/// Traces tensors down to evaluated ones, whose values it reads.
[[nodiscard]] TracedValues trace_values(std::span<const Tensor> outputs);

/// The tensors' values, by the interpreter alone.
[[nodiscard]] std::vector<HostTensor> interpret(std::span<const Tensor> outputs,
                                                Rounding rounding = Rounding::kNone);
[[nodiscard]] HostTensor interpret(const Tensor& output, Rounding rounding = Rounding::kNone);

/// All outputs of one operation whose output 0 has the given spec. Pick takes the operand it is
/// given for all outputs of an operation, so it is not for this function.
[[nodiscard]] std::vector<HostTensor> interpret_operation(const Operation& operation,
                                                          std::span<const HostTensor* const> inputs,
                                                          const TensorSpec& spec,
                                                          Rounding rounding = Rounding::kNone);

}  // namespace metal_candle::testing
