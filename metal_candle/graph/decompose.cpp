// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Dispatch to the decompositions in decompose/, and what they are written with.
#include "metal_candle/graph/decompose.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/decompose/builder.h"

namespace metal_candle {
namespace decompositions {

NodeId Builder::transpose(NodeId x) {
  const int rank = shape(x).rank();
  Axes order;
  for (int i = 0; i + 2 < rank; ++i) order.push_back(i);
  order.push_back(rank - 1);
  order.push_back(rank - 2);
  return add(op::Transpose{order}, {x});
}

NodeId Builder::slice_last(NodeId x, std::int64_t start, std::int64_t count, std::int64_t step) {
  TensorSpec spec = this->spec(x);
  op::Slice operation{Dims(spec.shape.size(), 0), Dims(spec.shape.size(), 1)};
  operation.start.back() = start;
  operation.step.back() = step;
  spec.shape.back() = count;
  return add(operation, {x}, spec);
}

NodeId Builder::concatenate_last(std::span<const NodeId> parts) {
  return add(op::Concatenate{shape(parts[0]).rank() - 1}, parts);
}

NodeId Builder::mean_last(NodeId x) {
  const Shape shape = this->shape(x);
  return over(sum(x, shape.rank() - 1), real(static_cast<double>(shape.back())));
}

NodeId Builder::sum_rows(NodeId x) {
  Axes axes;
  for (int i = 0; i + 1 < shape(x).rank(); ++i) axes.push_back(i);
  return axes.empty() ? x : add(op::Reduce{ReduceKind::kSum, axes, false}, {x});
}

NodeId Builder::finite_max(NodeId x, int axis) {
  const NodeId largest = reduce(ReduceKind::kMax, x, axis);
  return where(unary(UnaryKind::kIsFinite, largest), largest, real(0, dtype(x)));
}

namespace {

template <typename T, typename... Ts>
concept OneOf = (std::same_as<T, Ts> || ...);

// Named one by one, so that a new operation is either here or has an overload of expand().
template <typename T>
concept Primitive =
    OneOf<T, op::Full, op::Arange, op::RandomBits, op::Binary, op::Select, op::Cast, op::Reduce,
          op::ArgReduce, op::Cumulative, op::Sort, op::ArgSort, op::ArgTopK, op::Matmul,
          op::Reshape, op::Transpose, op::Slice, op::Broadcast, op::Concatenate, op::Pad,
          op::Barrier, op::StopGradient, op::Identity, op::Pick, op::CustomGradient, op::Take,
          op::TakeAlongAxis, op::ScatterAdd, op::ScatterAddAlongAxis, op::SliceUpdate,
          op::DynamicSlice, op::DynamicSliceUpdate>;

}  // namespace

template <Primitive T>
Outputs expand(const T& primitive, Builder&) {
  throw Error(fmt::format("{}: a primitive has no decomposition", name(Operation(primitive))));
}

}  // namespace decompositions

std::vector<NodeId> decompose(ComputationGraph& graph, const Operation& operation,
                              std::span<const NodeId> inputs) {
  // The arguments may be those of a node of this graph, which moves when nodes are added.
  const Operation own_operation = operation;
  const std::vector<NodeId> own_inputs(inputs.begin(), inputs.end());
  decompositions::Builder builder(graph, own_inputs);
  return std::visit([&](const auto& o) { return decompositions::expand(o, builder); },
                    own_operation);
}

}  // namespace metal_candle
