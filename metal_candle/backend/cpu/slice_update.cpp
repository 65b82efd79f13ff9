// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// SliceUpdate, DynamicSlice and DynamicSliceUpdate: blocks copied between strided tensors.
//
// Inputs: x and update kAny, starts kContiguous. SliceUpdate and DynamicSliceUpdate may overwrite x
// (input 0), and then write the block alone: what a KV cache does at each step.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/index.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/row_map.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::cpu {
namespace {

// Copies a block of one shape between two strided places.
class BlockCopy {
 public:
  BlockCopy(Shape sizes, const Strides& from, const Strides& to, DType dtype)
      : element_(size_of(dtype)), from_({}, {}), to_({}, {}) {
    std::array strides = {from, to};
    collapse_axes(sizes, strides);
    length_ = sizes.back();
    from_stride_ = strides[0].back();
    to_stride_ = strides[1].back();
    const int last = sizes.rank() - 1;
    sizes = RowMap::without(sizes, last);
    rows_ = num_elements(sizes);
    from_ = RowMap(sizes, RowMap::without(strides[0], last));
    to_ = RowMap(sizes, RowMap::without(strides[1], last));
  }

  // The offsets are in elements.
  void run(const void* from, std::int64_t from_offset, void* to, std::int64_t to_offset) const {
    dispatch_element_size(element_, [&](auto zero) {
      using T = decltype(zero);
      copy(static_cast<const T*>(from) + from_offset, static_cast<T*>(to) + to_offset);
    });
  }

 private:
  // One long row is cut, so that threads share it; short rows are taken several at a time.
  template <typename T>
  void copy(const T* from, T* to) const {
    constexpr std::int64_t kPiece = 65536;
    const std::int64_t pieces = (length_ + kPiece - 1) / kPiece;
    parallel_for(rows_ * pieces, row_grain(std::min(length_, kPiece) / 4),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     const std::int64_t row = i / pieces, start = i % pieces * kPiece;
                     copy_run(from + from_(row) + start * from_stride_,
                              to + to_(row) + start * to_stride_,
                              std::min(kPiece, length_ - start));
                   }
                 });
  }
  template <typename T>
  void copy_run(const T* from, T* to, std::int64_t count) const {
    if (from_stride_ == 1 && to_stride_ == 1) {
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
      return;
    }
    for (std::int64_t i = 0; i < count; ++i) to[i * to_stride_] = from[i * from_stride_];
  }

  std::size_t element_;
  std::int64_t rows_ = 0, length_ = 0, from_stride_ = 0, to_stride_ = 0;
  RowMap from_, to_;
};

// Where a block begins whose place is an input.
struct DynamicStart {
  Axes axes;
  bool wide;
  Dims largest, strides;  // For each of axes: the last start that fits, and the stride it steps by.

  DynamicStart(const Axes& block_axes, DType dtype, const Shape& shape, const Shape& block,
               const Strides& all_strides)
      : axes(block_axes), wide(dtype == DType::kI64) {
    for (const std::int64_t axis : axes) {
      const auto i = static_cast<int>(axis);
      largest.push_back(shape[i] - block[i]);
      strides.push_back(all_strides[i]);
    }
  }
  [[nodiscard]] std::int64_t offset(const void* starts) const {
    std::int64_t offset = 0;
    for (int i = 0; i < axes.rank(); ++i) {
      const std::int64_t start = wide ? static_cast<const std::int64_t*>(starts)[i]
                                      : static_cast<const std::int32_t*>(starts)[i];
      offset += std::clamp<std::int64_t>(start, 0, largest[i]) * strides[i];
    }
    return offset;
  }
};

std::unique_ptr<Kernel> make_dynamic_slice(const KernelRequest& request,
                                           const op::DynamicSlice& op) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& out = request.outputs[0];
  const BlockCopy copy(out.shape, x.strides, contiguous_strides(out.shape), x.dtype);
  const DynamicStart start(op.axes, request.inputs[1].dtype, x.shape, out.shape, x.strides);
  return make_cpu_kernel([copy, start](const KernelArguments& a) {
    copy.run(a.inputs[0], start.offset(a.inputs[1]), a.outputs[0], 0);
  });
}

// x as it is, then the update over the block at `offset(arguments)`.
template <typename Offset>
std::unique_ptr<Kernel> make_update(const KernelRequest& request, const Strides& block_strides,
                                    Offset offset) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& update = request.inputs[1];
  const BlockCopy base(x.shape, x.strides, contiguous_strides(x.shape), x.dtype);
  const BlockCopy block(update.shape, update.strides, block_strides, x.dtype);
  return make_cpu_kernel([base, block, offset](const KernelArguments& a) {
    if (a.inputs[0] != a.outputs[0]) base.run(a.inputs[0], 0, a.outputs[0], 0);
    block.run(a.inputs[1], 0, a.outputs[0], offset(a));
  });
}

}  // namespace

std::unique_ptr<Kernel> make_slice_update(const KernelRequest& request) {
  const Shape& shape = request.inputs[0].shape;
  Strides strides = contiguous_strides(shape);
  if (const auto* o = std::get_if<op::DynamicSlice>(&request.operation)) {
    return make_dynamic_slice(request, *o);
  }
  if (const auto* o = std::get_if<op::DynamicSliceUpdate>(&request.operation)) {
    const DynamicStart start(o->axes, request.inputs[2].dtype, shape, request.inputs[1].shape,
                             strides);
    return make_update(request, strides,
                       [start](const KernelArguments& a) { return start.offset(a.inputs[2]); });
  }
  const auto& o = std::get<op::SliceUpdate>(request.operation);
  std::int64_t start = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    start += o.start[axis] * strides[axis];
    strides[axis] *= o.step[axis];
  }
  return make_update(request, strides, [start](const KernelArguments&) { return start; });
}

}  // namespace metal_candle::backend::cpu
