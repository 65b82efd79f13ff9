// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Copies of strided tensors: dense ones in one go, the others by rows or by blocks.
#include "metal_candle/backend/cpu/copy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/elementwise_steps.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::cpu {
namespace {

// One thread's share.
constexpr std::int64_t kGrainBytes = 128 * 1024;
// Copies larger than this go past the caches, which would not hold them.
constexpr std::int64_t kStreamBytes = std::int64_t{16} << 20;
// The blocks that a transposition moves. Along the dense axis of the input they are longer, so that
// a page of it is good for several lines when its address is looked up.
constexpr std::int64_t kBlockRows = 64;
constexpr std::int64_t kBlockColumns = 32;
constexpr std::int64_t kPrefetchColumns = 8;

void copy_dense(const void* from, void* to, std::int64_t bytes) {
  const auto* in = static_cast<const std::byte*>(from);
  auto* out = static_cast<std::byte*>(to);
  parallel_for(bytes, kGrainBytes, [&](std::int64_t begin, std::int64_t end) {
    const auto count = static_cast<std::size_t>(end - begin);
    if (bytes < kStreamBytes) {
      std::memcpy(out + begin, in + begin, count);
    } else {
      float_steps().stream_copy(in + begin, out + begin, count);
      float_steps().stream_fence();
    }
  });
}

template <typename T>
void copy_row(const T* in, std::int64_t stride, T* out, std::int64_t count) {
  if (stride == 1) {
    std::copy_n(in, count, out);
  } else if (stride == 0) {
    std::fill_n(out, count, *in);
  } else {
    for (std::int64_t i = 0; i < count; ++i) out[i] = in[i * stride];
  }
}

// Output rows one after another.
template <typename T>
void copy_rows(const Shape& shape, const Strides& strides, const T* in, T* out) {
  const std::int64_t grain = kGrainBytes / static_cast<std::int64_t>(sizeof(T));
  parallel_for(num_elements(shape), grain, [&](std::int64_t begin, std::int64_t end) {
    StridedCursor cursor(shape, strides, begin);
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t count = std::min(end - i, cursor.remaining());
      copy_row(in + cursor.offset(), strides.back(), out + i, count);
      cursor.advance(count);
      i += count;
    }
  });
}

// Asks for the cache lines of `count` elements, to be read (0) or written (1). Any address will do.
template <typename T, int kWrite>
void prefetch(const T* data, std::int64_t count) {
  constexpr auto kPerLine = static_cast<std::int64_t>(64 / sizeof(T));
  for (std::int64_t i = 0; i < count; i += kPerLine) __builtin_prefetch(data + i, kWrite);
}

// Output rows are `row` elements apart. Along a row the input goes by `across`, and from row to row
// by `down`, which is 1 or -1. Through a buffer, so that each line of the input and of the output
// is touched once: strides are often powers of two, which let a cache keep only a few of them.
template <typename T>
void transpose_block(const T* in, std::int64_t down, std::int64_t across, T* out, std::int64_t row,
                     std::int64_t rows, std::int64_t columns) {
  // An odd pitch spreads the columns of the buffer over the sets of the cache.
  T buffer[kBlockRows][kBlockColumns + 1];
  // No hardware prefetcher follows either side, so ask for lines early: the output's while the
  // buffer is filled, the input's some columns ahead (past the block begins the next one).
  for (std::int64_t i = 0; i < rows; ++i) prefetch<T, 1>(out + i * row, columns);
  for (std::int64_t j = 0; j < columns; ++j) {
    const T* line = in + j * across;
    if (down == 1) {
      prefetch<T, 0>(line + kPrefetchColumns * across, rows);
      for (std::int64_t i = 0; i < rows; ++i) buffer[i][j] = line[i];
    } else {
      for (std::int64_t i = 0; i < rows; ++i) buffer[i][j] = line[i * down];
    }
  }
  for (std::int64_t i = 0; i < rows; ++i) std::copy_n(buffer[i], columns, out + i * row);
}

// The input is dense along `axis`, which is not the last: blocks of those two axes.
template <typename T>
void copy_transposed(const Shape& shape, const Strides& strides, int axis, const T* in, T* out) {
  const Strides out_strides = contiguous_strides(shape);
  const std::int64_t rows = shape[axis];
  const std::int64_t columns = shape.back();
  // The other axes, and strips of kBlockRows rows of `axis`, are the units of work.
  Shape outer = shape;
  Strides in_outer = strides;
  Strides out_outer = out_strides;
  for (Dims* dims : {&outer, &in_outer, &out_outer}) {
    dims->erase(dims->rank() - 1);
    (*dims)[axis] *= dims == &outer ? 1 : kBlockRows;
  }
  outer[axis] = (rows + kBlockRows - 1) / kBlockRows;
  const std::int64_t unit = kBlockRows * columns * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t grain =
      std::max<std::int64_t>(1, kGrainBytes / std::max<std::int64_t>(unit, 1));
  parallel_for(num_elements(outer), grain, [&](std::int64_t begin, std::int64_t end) {
    StridedCursor source(outer, in_outer, begin);
    StridedCursor target(outer, out_outer, begin);
    std::int64_t inner = 1;  // Units for each strip.
    for (int i = axis + 1; i < outer.rank(); ++i) inner *= outer[i];
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t strip = (i / inner) % outer[axis];
      const std::int64_t height = std::min(kBlockRows, rows - strip * kBlockRows);
      for (std::int64_t j = 0; j < columns; j += kBlockColumns) {
        transpose_block(in + source.offset() + j * strides.back(), strides[axis], strides.back(),
                        out + target.offset() + j, out_strides[axis], height,
                        std::min(kBlockColumns, columns - j));
      }
      source.advance(1);
      target.advance(1);
    }
  });
}

// An axis before the last along which the source is dense, where the last is not and both are long
// enough for blocks to pay; or -1.
int transposed_axis(const Shape& shape, const Strides& strides) {
  if (std::abs(strides.back()) <= 1 || shape.back() < 4) return -1;
  for (int axis = shape.rank() - 2; axis >= 0; --axis) {
    if (std::abs(strides[axis]) == 1 && shape[axis] >= 8) return axis;
  }
  return -1;
}

}  // namespace

StridedCopy::StridedCopy(const Shape& shape, const Strides& strides, std::int64_t offset,
                         std::size_t element_bytes)
    : shape_(shape), strides_(strides), offset_(offset), element_bytes_(element_bytes) {
  collapse_axes(shape_, std::span(&strides_, 1));
  count_ = num_elements(shape_);
  dense_ = is_contiguous(shape_, strides_);
  if (!dense_) dense_axis_ = transposed_axis(shape_, strides_);
}

void StridedCopy::run(const void* source, void* target) const {
  if (count_ == 0) return;
  const auto bytes = static_cast<std::int64_t>(element_bytes_);
  const std::byte* from = static_cast<const std::byte*>(source) + offset_ * bytes;
  if (dense_) {
    if (from != target) copy_dense(from, target, count_ * bytes);
    return;
  }
  dispatch_element_size(element_bytes_, [&](auto element) {
    using T = decltype(element);
    const auto* in = static_cast<const T*>(static_cast<const void*>(from));
    auto* out = static_cast<T*>(target);
    if (dense_axis_ < 0) {
      copy_rows(shape_, strides_, in, out);
    } else {
      copy_transposed(shape_, strides_, dense_axis_, in, out);
    }
  });
}

std::unique_ptr<Kernel> make_copy(const KernelRequest& request) {
  const TensorLayout& output = request.outputs[0];
  const StridedView source = view_of(request.operation, request.inputs[0], output.shape);
  return make_cpu_kernel(
      [copy = StridedCopy(source.shape, source.strides, source.offset, size_of(output.dtype))](
          const KernelArguments& arguments) {
        copy.run(arguments.inputs[0], arguments.outputs[0]);
      });
}

}  // namespace metal_candle::backend::cpu
