// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Constants of a graph: reading them, and arithmetic on them as a device would do it.
#pragma once

#include <optional>

#include "metal_candle/graph/computation_graph.h"

namespace metal_candle {

/// The value of a node that is Full, seen through casts, reshapes and broadcasts, as it is after
/// rounding to each dtype on the way. Nothing for any other node.
[[nodiscard]] std::optional<double> constant_value(const ComputationGraph& graph, NodeId node);

/// A scalar as a tensor of this dtype holds it: rounded, wrapped to the width of an integer, or
/// 0/1.
[[nodiscard]] Scalar as_stored(const Scalar& value, DType dtype);

/// What Cast makes of a stored value.
[[nodiscard]] Scalar cast_constant(const Scalar& value, DType from, DType to);

/// kind(x), where x is a stored value of `dtype`. Nothing where it is not known here.
[[nodiscard]] std::optional<Scalar> fold_unary(UnaryKind kind, const Scalar& x, DType dtype);
/// kind(a, b), likewise.
[[nodiscard]] std::optional<Scalar> fold_binary(BinaryKind kind, const Scalar& a, const Scalar& b,
                                                DType dtype);

}  // namespace metal_candle
