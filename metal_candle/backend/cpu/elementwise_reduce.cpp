// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// ElementwiseReduce: what its program gives is reduced a tile at a time and is never in memory. The
// axes are walked in the order in which the largest operand lies, as far as the order of the output
// allows, and the elements numbered in that order; by their numbers they are reduced as if they lay
// in memory one after another.
//
// Inputs: kAny.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/reduce.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::cpu {
namespace {

using AxisList = std::vector<int>;

/// The axes in the order in which they are walked.
struct AxisOrder {
  AxisList axes;
  Axes reduced;  // Positions in `axes`.

  void append(const AxisList& more, bool are_reduced) {
    for (const int axis : more) {
      if (are_reduced) reduced.push_back(static_cast<std::int64_t>(axes.size()));
      axes.push_back(axis);
    }
  }
  [[nodiscard]] TensorLayout reordered(const TensorLayout& layout, int rank) const {
    TensorLayout result{{}, {}, layout.dtype};
    const int missing = rank - layout.shape.rank();  // They are 1 long.
    for (const int axis : axes) {
      result.shape.push_back(axis < missing ? 1 : layout.shape[axis - missing]);
      result.strides.push_back(axis < missing ? 0 : layout.strides[axis - missing]);
    }
    return result;
  }
};

/// The operand that takes longest to read, as it is read for `shape`.
Strides strides_of_largest(std::span<const TensorLayout> inputs, const Shape& shape) {
  Strides largest;
  std::int64_t most = -1;
  for (const TensorLayout& input : inputs) {
    const Strides strides = broadcast_strides(input, shape);
    auto bytes = static_cast<std::int64_t>(size_of(input.dtype));
    for (int i = 0; i < shape.rank(); ++i) bytes *= strides[i] == 0 ? 1 : shape[i];
    if (bytes > most) {
      most = bytes;
      largest = strides;
    }
  }
  return largest;
}

/// [kept, reduced] if the dense axis is reduced, [outer kept, reduced, inner kept] if it is the
/// last of the others.
AxisOrder order_axes(std::span<const TensorLayout> inputs, const Shape& shape, const Axes& axes) {
  const Strides strides = strides_of_largest(inputs, shape);
  // A stride of 0 repeats the rest.
  const auto step = [&](int axis) {
    return strides[axis] == 0 ? INT64_MAX : std::abs(strides[axis]);
  };
  AxisList kept, reduced;
  int dense = -1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == 1) continue;
    const bool is_reduced = std::find(axes.begin(), axes.end(), axis) != axes.end();
    (is_reduced ? reduced : kept).push_back(axis);
    if (dense < 0 || step(axis) <= step(dense)) dense = axis;
  }
  std::stable_sort(reduced.begin(), reduced.end(), [&](int a, int b) { return step(a) > step(b); });
  auto inner = kept.end();
  if (!kept.empty() && kept.back() == dense) {
    --inner;
    const auto merges = [&](int axis, int next) {
      return strides[axis] == strides[next] * shape[next];
    };
    while (inner != kept.begin() && merges(*(inner - 1), *inner)) --inner;
  }
  AxisOrder order;
  order.append(AxisList(kept.begin(), inner), false);
  order.append(reduced, true);
  order.append(AxisList(inner, kept.end()), false);
  return order;
}

class ElementwiseReduceKernel {
 public:
  ElementwiseReduceKernel(const op::ElementwiseReduce& op, std::span<const TensorLayout> inputs,
                          const TensorSpec& space, const AxisOrder& order)
      : tiles_(op.elementwise, inputs, space),
        plan_(
            plan_reduce(TensorLayout::contiguous(space), {op.reduce.kind, order.reduced, false})) {
    // An element that is read costs about as much as this many additions.
    constexpr std::int64_t kAdditions = 4;
    plan_.cost = std::max<std::int64_t>(1, tiles_.program().cost() / kAdditions);
  }

  [[nodiscard]] const ReducePlan& plan() const { return plan_; }
  [[nodiscard]] std::size_t scratch_bytes() const {
    return tiles_.copied_bytes() + partial_bytes(plan_);
  }

  void operator()(const KernelArguments& arguments) const {
    std::vector<const void*> addresses;
    const auto inputs = tiles_.copied(arguments.inputs, arguments.scratch, addresses);
    void* partials = static_cast<std::byte*>(arguments.scratch) + tiles_.copied_bytes();
    reduce(plan_, {.computed = &tiles_, .inputs = inputs}, arguments.outputs[0], partials);
  }

 private:
  ElementwiseTiles tiles_;
  ReducePlan plan_;
};

}  // namespace

std::unique_ptr<Kernel> make_elementwise_reduce(const KernelRequest& request) {
  const auto& op = std::get<op::ElementwiseReduce>(request.operation);
  TensorLayout space{{}, {}, op.elementwise.program->instructions.back().dtype};
  for (const TensorLayout& input : request.inputs) {
    space.shape = broadcast_shapes("elementwise_reduce", space.shape, input.shape);
  }
  space.strides = contiguous_strides(space.shape);
  const AxisOrder order = order_axes(request.inputs, space.shape, op.reduce.axes);
  std::vector<TensorLayout> inputs;
  for (const TensorLayout& input : request.inputs) {
    inputs.push_back(order.reordered(input, space.shape.rank()));
  }
  ElementwiseReduceKernel kernel(
      op, inputs, {order.reordered(space, space.shape.rank()).shape, space.dtype}, order);
  require_reduced_dtype(kernel.plan(), request.outputs[0].dtype);
  const std::size_t scratch = kernel.scratch_bytes();
  return make_cpu_kernel(std::move(kernel), scratch);
}

}  // namespace metal_candle::backend::cpu
