// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See views.h.
#include "metal_candle/execute/views.h"

#include <utility>

namespace metal_candle {
namespace {

// Strides of a reshape without a copy: axes of the input that lie densely one in another are
// merged, and each merged run is split into axes of the output.
std::optional<Strides> reshape_strides(const TensorLayout& input, const Shape& shape) {
  if (num_elements(shape) == 0 || input.is_contiguous()) return contiguous_strides(shape);
  // Runs of the input, axes of length 1 left out: {length, stride of the innermost}.
  Dims run_length;
  Dims run_stride;
  for (int axis = 0; axis < input.shape.rank(); ++axis) {
    if (input.shape[axis] == 1) continue;
    if (!run_length.empty() && run_stride.back() == input.shape[axis] * input.strides[axis]) {
      run_length.back() *= input.shape[axis];
      run_stride.back() = input.strides[axis];
    } else {
      run_length.push_back(input.shape[axis]);
      run_stride.push_back(input.strides[axis]);
    }
  }
  Strides strides(shape.size(), 0);
  int run = run_length.rank() - 1;
  std::int64_t left = run >= 0 ? run_length[run] : 1;  // Of the run, still to be split.
  std::int64_t stride = run >= 0 ? run_stride[run] : 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    if (shape[axis] == 1) {
      strides[axis] = stride;
      continue;
    }
    if (left == 1 && run > 0) {
      --run;
      left = run_length[run];
      stride = run_stride[run];
    }
    if (left % shape[axis] != 0) return std::nullopt;
    strides[axis] = stride;
    stride *= shape[axis];
    left /= shape[axis];
  }
  return strides;
}

}  // namespace

std::optional<View> view_of(const Operation& operation, const TensorLayout& input,
                            const Shape& output_shape) {
  View view{{output_shape, Strides(output_shape.size(), 0), input.dtype}, 0};
  Strides& strides = view.layout.strides;
  const int rank = output_shape.rank();
  if (std::holds_alternative<op::Reshape>(operation)) {
    std::optional<Strides> reshaped = reshape_strides(input, output_shape);
    if (!reshaped) return std::nullopt;
    strides = *reshaped;
  } else if (const auto* transpose = std::get_if<op::Transpose>(&operation)) {
    for (int axis = 0; axis < rank; ++axis) {
      strides[axis] = input.strides[static_cast<int>(transpose->permutation[axis])];
    }
  } else if (const auto* slice = std::get_if<op::Slice>(&operation)) {
    for (int axis = 0; axis < rank; ++axis) {
      strides[axis] = input.strides[axis] * slice->step[axis];
      if (output_shape[axis] > 0) view.offset += slice->start[axis] * input.strides[axis];
    }
  } else if (std::holds_alternative<op::Broadcast>(operation)) {
    const int extra = rank - input.shape.rank();
    for (int axis = extra; axis < rank; ++axis) {
      if (input.shape[axis - extra] != 1) strides[axis] = input.strides[axis - extra];
    }
  } else if (is_alias(operation)) {
    view.layout = input;
  } else {
    return std::nullopt;
  }
  return view;
}

}  // namespace metal_candle
