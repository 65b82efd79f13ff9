// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See layouts.h.
#include "metal_candle/execute/layouts.h"

#include <algorithm>

#include "metal_candle/execute/views.h"

namespace metal_candle {
namespace {

using backend::InputLayout;

// So that the transposed value is contiguous.
TensorLayout before_transpose(const op::Transpose& transpose, const TensorSpec& value,
                              const Shape& transposed) {
  const Strides strides = contiguous_strides(transposed);
  TensorLayout layout = TensorLayout::contiguous(value);
  for (int axis = 0; axis < transposed.rank(); ++axis) {
    layout.strides[static_cast<int>(transpose.permutation[axis])] = strides[axis];
  }
  return layout;
}

// Whether reading `value`, which lies so, as a view makes every reshape of that view a view too.
bool reshapes_without_copy(const ComputationGraph& graph, NodeId view, const TensorLayout& value) {
  const GraphNode& node = graph.node(view);
  const std::optional<View> seen = view_of(node.operation, value, node.spec.shape);
  if (!seen) return false;
  return std::all_of(node.users.begin(), node.users.end(), [&](NodeId user) {
    const GraphNode& reader = graph.node(user);
    return !std::holds_alternative<op::Reshape>(reader.operation) ||
           view_of(reader.operation, seen->layout, reader.spec.shape).has_value();
  });
}

bool takes(const GraphNode& reader, NodeId value, const TensorLayout& layout,
           const backend::Backend& backend) {
  for (std::size_t i = 0; i < reader.inputs.size(); ++i) {
    if (reader.inputs[i] == value &&
        !satisfies(layout, backend.input_layout(reader.operation, static_cast<int>(i)))) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool satisfies(const TensorLayout& layout, InputLayout required) {
  const int rank = layout.shape.rank();
  switch (required) {
    case InputLayout::kAny:
      return true;
    case InputLayout::kContiguous:
      return layout.is_contiguous();
    case InputLayout::kDenseRows:
      return rank == 0 || layout.shape.back() <= 1 || layout.strides.back() == 1;
    case InputLayout::kMatrix: {
      if (rank < 2 || num_elements(layout.shape) == 0) return layout.is_contiguous();
      const std::int64_t rows = layout.shape[rank - 2];
      const std::int64_t columns = layout.shape[rank - 1];
      const std::int64_t row_stride = layout.strides[rank - 2];
      const std::int64_t column_stride = layout.strides[rank - 1];
      const bool row_major =
          (column_stride == 1 || columns == 1) && (row_stride >= columns || rows == 1);
      const bool column_major =
          (row_stride == 1 || rows == 1) && (column_stride >= rows || columns == 1);
      return row_major || column_major;
    }
  }
  return false;
}

std::optional<TensorLayout> layout_for_readers(const ComputationGraph& graph, NodeId value,
                                               const backend::Backend& backend) {
  const GraphNode& node = graph.node(value);
  const TensorLayout contiguous = TensorLayout::contiguous(node.spec);
  std::optional<TensorLayout> wanted;
  for (const NodeId user : node.users) {
    const auto* transpose = std::get_if<op::Transpose>(&graph.node(user).operation);
    if (transpose == nullptr || reshapes_without_copy(graph, user, contiguous)) continue;
    wanted = before_transpose(*transpose, node.spec, graph.node(user).spec.shape);
  }
  if (!wanted || node.output_uses > 0) return std::nullopt;
  for (const NodeId user : node.users) {
    const GraphNode& reader = graph.node(user);
    const bool is_view = view_of(reader.operation, contiguous, reader.spec.shape).has_value();
    if (is_view ? !reshapes_without_copy(graph, user, *wanted)
                : !takes(reader, value, *wanted, backend)) {
      return std::nullopt;
    }
  }
  return wanted;
}

}  // namespace metal_candle
