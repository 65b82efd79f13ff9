// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Layout and indexing of the reference interpreter. Everything is copied: there are no views here.
#include <algorithm>

#include "metal_candle/core/error.h"
#include "tests/support/reference_kernels.h"

namespace metal_candle::testing::reference {
namespace {

/// Calls fn(position in the update, position in the whole) for each element of a strided block.
template <typename Fn>
void for_each_in_block(const Shape& block, const Dims& start, const Dims& step, const Shape& whole,
                       Fn fn) {
  for (std::int64_t i = 0; i < num_elements(block); ++i) {
    Dims index = unravel(i, block);
    for (int axis = 0; axis < index.rank(); ++axis) {
      index[axis] = start[axis] + index[axis] * step[axis];
    }
    fn(i, ravel(index, whole));
  }
}

void accumulate(HostTensor& out, std::int64_t i, const HostTensor& from, std::int64_t j) {
  if (out.is_real()) {
    out.r(i) += from.r(j);
  } else {
    out.n(i) = wrap_to(static_cast<std::int64_t>(static_cast<std::uint64_t>(out.n(i)) +
                                                 static_cast<std::uint64_t>(from.n(j))),
                       out.dtype());
  }
}

/// Where Take of output element `index` reads in x.
std::int64_t take_position(const Dims& index, int axis, const Shape& x, const HostTensor& indices) {
  Dims which;
  for (int i = 0; i < indices.shape().rank(); ++i) which.push_back(index[axis + i]);
  Dims source;
  for (int i = 0; i < axis; ++i) source.push_back(index[i]);
  source.push_back(checked_index(indices.n(ravel(which, indices.shape())), x[axis]));
  for (int i = axis + indices.shape().rank(); i < index.rank(); ++i) source.push_back(index[i]);
  return ravel(source, x);
}

std::int64_t take_along_position(std::int64_t i, int axis, const Shape& x,
                                 const HostTensor& indices) {
  Dims index = unravel(i, indices.shape());
  index[axis] = checked_index(indices.n(i), x[axis]);
  return ravel(index, x);
}

}  // namespace

std::int64_t checked_index(std::int64_t index, std::int64_t length) {
  const std::int64_t from_start = index < 0 ? index + length : index;
  if (from_start < 0 || from_start >= length) throw ShapeError("reference: index out of range");
  return from_start;
}

HostTensor reshape(const HostTensor& x, const TensorSpec& spec) {
  HostTensor out = x;
  out.spec.shape = spec.shape;
  return out;
}

HostTensor transpose(const op::Transpose& operation, const HostTensor& x, const TensorSpec& spec) {
  HostTensor out(spec);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const Dims index = unravel(i, spec.shape);
    Dims source(index.size(), 0);
    for (int axis = 0; axis < index.rank(); ++axis) {
      source[static_cast<int>(operation.permutation[axis])] = index[axis];
    }
    out.copy(i, x, ravel(source, x.shape()));
  }
  return out;
}

HostTensor slice(const Dims& start, const Dims& step, const HostTensor& x, const TensorSpec& spec) {
  HostTensor out(spec);
  for_each_in_block(spec.shape, start, step, x.shape(),
                    [&](std::int64_t i, std::int64_t j) { out.copy(i, x, j); });
  return out;
}

HostTensor slice_update(const Dims& start, const Dims& step, const HostTensor& x,
                        const HostTensor& update) {
  HostTensor out = x;
  for_each_in_block(update.shape(), start, step, x.shape(),
                    [&](std::int64_t i, std::int64_t j) { out.copy(j, update, i); });
  return out;
}

HostTensor broadcast(const HostTensor& x, const TensorSpec& spec) {
  HostTensor out(spec);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    out.copy(i, x, broadcast_position(unravel(i, spec.shape), x.shape()));
  }
  return out;
}

HostTensor concatenate(int axis, Inputs inputs, const TensorSpec& spec) {
  HostTensor out(spec);
  Dims start(spec.shape.size(), 0);
  for (const HostTensor* input : inputs) {
    for_each_in_block(input->shape(), start, Dims(start.size(), 1), spec.shape,
                      [&](std::int64_t i, std::int64_t j) { out.copy(j, *input, i); });
    start[axis] += input->shape()[axis];
  }
  return out;
}

HostTensor pad(const op::Pad& operation, const HostTensor& x, const TensorSpec& spec) {
  HostTensor out = full(op::Full{operation.value}, spec);
  for_each_in_block(x.shape(), operation.low, Dims(x.shape().size(), 1), spec.shape,
                    [&](std::int64_t i, std::int64_t j) { out.copy(j, x, i); });
  return out;
}

HostTensor take(int axis, const HostTensor& x, const HostTensor& indices, const TensorSpec& spec) {
  HostTensor out(spec);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    out.copy(i, x, take_position(unravel(i, spec.shape), axis, x.shape(), indices));
  }
  return out;
}

HostTensor scatter_add(int axis, const HostTensor& x, const HostTensor& indices,
                       const HostTensor& updates) {
  HostTensor out = x;
  for (std::int64_t i = 0; i < updates.size(); ++i) {
    const Dims index = unravel(i, updates.shape());
    accumulate(out, take_position(index, axis, x.shape(), indices), updates, i);
  }
  return out;
}

HostTensor take_along_axis(int axis, const HostTensor& x, const HostTensor& indices,
                           const TensorSpec& spec) {
  HostTensor out(spec);
  for (std::int64_t i = 0; i < out.size(); ++i) {
    out.copy(i, x, take_along_position(i, axis, x.shape(), indices));
  }
  return out;
}

HostTensor scatter_add_along_axis(int axis, const HostTensor& x, const HostTensor& indices,
                                  const HostTensor& updates) {
  HostTensor out = x;
  for (std::int64_t i = 0; i < updates.size(); ++i) {
    accumulate(out, take_along_position(i, axis, x.shape(), indices), updates, i);
  }
  return out;
}

Dims dynamic_start(const Axes& axes, const HostTensor& starts, const Shape& whole,
                   const Shape& block) {
  Dims start(whole.size(), 0);
  for (int i = 0; i < axes.rank(); ++i) {
    const auto axis = static_cast<int>(axes[i]);
    start[axis] = std::clamp<std::int64_t>(starts.n(i), 0, whole[axis] - block[axis]);
  }
  return start;
}

}  // namespace metal_candle::testing::reference
