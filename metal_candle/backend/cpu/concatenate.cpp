// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Concatenate and Pad: strided boxes copied into boxes of a contiguous output.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/elementwise_steps.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::cpu {
namespace {

// One thread's share.
constexpr std::int64_t kGrainBytes = 128 * 1024;

/// A copy from a strided source to a strided part of the output, on axes merged for both.
struct BoxCopy {
  BoxCopy(const TensorLayout& source, const Strides& out_strides, std::int64_t out_offset)
      : shape(source.shape), offset(out_offset) {
    std::array<Strides, 2> strides = {source.strides, out_strides};
    collapse_axes(shape, strides);
    in = strides[0];
    out = strides[1];
  }

  /// Elements [begin, end) of the box, in row-major order.
  template <typename T>
  void run(const T* source, T* target, std::int64_t begin, std::int64_t end) const {
    StridedCursor from(shape, in, begin);
    StridedCursor to(shape, out, begin);
    for (std::int64_t left = end - begin; left > 0;) {
      const std::int64_t count = std::min(left, from.remaining());
      copy_run(source + from.offset(), in.back(), target + offset + to.offset(), out.back(), count);
      from.advance(count);
      to.advance(count);
      left -= count;
    }
  }

  Shape shape;
  Strides in, out;
  std::int64_t offset;  // Of the box in the output, in elements.

 private:
  template <typename T>
  static void copy_run(const T* source, std::int64_t in_stride, T* target, std::int64_t out_stride,
                       std::int64_t count) {
    if (in_stride == 1 && out_stride == 1) {
      std::copy_n(source, count, target);
    } else if (in_stride == 0 && out_stride == 1) {
      std::fill_n(target, count, *source);
    } else {
      for (std::int64_t i = 0; i < count; ++i) target[i * out_stride] = source[i * in_stride];
    }
  }
};

void run_box(const BoxCopy& box, std::size_t bytes, const void* in, void* out) {
  const std::int64_t count = num_elements(box.shape);
  const std::int64_t grain = kGrainBytes / static_cast<std::int64_t>(bytes);
  dispatch_element_size(bytes, [&](auto element) {
    using T = decltype(element);
    parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
      box.run(static_cast<const T*>(in), static_cast<T*>(out), begin, end);
    });
  });
}

std::unique_ptr<Kernel> make_join(const op::Concatenate& join, const KernelRequest& request) {
  const TensorLayout& output = request.outputs[0];
  const Strides strides = contiguous_strides(output.shape);
  std::vector<BoxCopy> boxes;
  std::int64_t position = 0;
  for (const TensorLayout& input : request.inputs) {
    boxes.emplace_back(input, strides, position * strides[join.axis]);
    position += input.shape[join.axis];
  }
  return make_cpu_kernel(
      [boxes = std::move(boxes), bytes = size_of(output.dtype)](const KernelArguments& arguments) {
        for (std::size_t i = 0; i < boxes.size(); ++i) {
          run_box(boxes[i], bytes, arguments.inputs[i], arguments.outputs[0]);
        }
      });
}

std::unique_ptr<Kernel> make_pad(const op::Pad& pad, const KernelRequest& request) {
  const TensorLayout& output = request.outputs[0];
  const TensorLayout& input = request.inputs[0];
  const Strides strides = contiguous_strides(output.shape);
  const BoxCopy box(input, strides, padded_box(pad, input.shape, output.shape).offset);

  std::array<std::byte, 8> value{};
  store_scalar(pad.value, output.dtype, value.data());
  // Slabs of the padding value are copies from a source all of whose strides are 0.
  std::vector<BoxCopy> slabs;
  for (const Box& slab : padding_slabs(pad, input.shape, output.shape)) {
    slabs.emplace_back(TensorLayout{slab.shape, Strides(slab.shape.size(), 0), output.dtype},
                       strides, slab.offset);
  }
  return make_cpu_kernel([=, slabs = std::move(slabs),
                          bytes = size_of(output.dtype)](const KernelArguments& arguments) {
    for (const BoxCopy& s : slabs) run_box(s, bytes, value.data(), arguments.outputs[0]);
    run_box(box, bytes, arguments.inputs[0], arguments.outputs[0]);
  });
}

}  // namespace

std::unique_ptr<Kernel> make_concatenate(const KernelRequest& request) {
  if (const auto* pad = std::get_if<op::Pad>(&request.operation)) return make_pad(*pad, request);
  return make_join(std::get<op::Concatenate>(request.operation), request);
}

}  // namespace metal_candle::backend::cpu
