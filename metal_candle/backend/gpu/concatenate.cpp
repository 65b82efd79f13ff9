// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Concatenate and Pad: strided boxes copied into boxes of a contiguous output. Inputs: kAny; never
// in place.
#include <array>
#include <utility>
#include <vector>

#include "metal_candle/backend/elementwise.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/strided_copy.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::gpu {
namespace {

// Something to put at an offset of the output, in elements.
template <typename T>
struct Placed {
  T part;
  std::int64_t offset;
};

std::unique_ptr<Kernel> make_join(const op::Concatenate& join, const KernelRequest& request,
                                  GpuDevice& device) {
  const std::size_t bytes = size_of(request.outputs[0].dtype);
  const Strides strides = contiguous_strides(request.outputs[0].shape);
  std::vector<Placed<StridedCopy>> boxes;
  std::int64_t position = 0;
  for (const TensorLayout& input : request.inputs) {
    boxes.push_back({StridedCopy(device, input.shape, input.strides, strides, bytes),
                     position * strides[join.axis]});
    position += input.shape[join.axis];
  }
  return make_gpu_kernel(
      [boxes = std::move(boxes), bytes](const KernelArguments& arguments, Encoder& encoder) {
        encoder.concurrently(true);
        for (std::size_t i = 0; i < boxes.size(); ++i) {
          boxes[i].part.encode(encoder, arguments.inputs[i],
                               element_address(arguments.outputs[0], boxes[i].offset, bytes));
        }
        encoder.concurrently(false);
      });
}

std::unique_ptr<Kernel> make_pad(const op::Pad& pad, const KernelRequest& request,
                                 GpuDevice& device) {
  const TensorLayout& input = request.inputs[0];
  const TensorLayout& output = request.outputs[0];
  const std::size_t bytes = size_of(output.dtype);
  const Strides strides = contiguous_strides(output.shape);
  std::array<std::byte, 8> value{};
  store_scalar(pad.value, output.dtype, value.data());
  std::vector<Placed<StridedFill>> slabs;
  for (const Box& slab : padding_slabs(pad, input.shape, output.shape)) {
    slabs.push_back({StridedFill(device, slab.shape, strides, value.data(), bytes), slab.offset});
  }
  const Placed<StridedCopy> box{StridedCopy(device, input.shape, input.strides, strides, bytes),
                                padded_box(pad, input.shape, output.shape).offset};
  return make_gpu_kernel(
      [slabs = std::move(slabs), box, bytes](const KernelArguments& arguments, Encoder& encoder) {
        void* out = arguments.outputs[0];
        encoder.concurrently(true);
        for (const Placed<StridedFill>& slab : slabs) {
          slab.part.encode(encoder, element_address(out, slab.offset, bytes));
        }
        box.part.encode(encoder, arguments.inputs[0], element_address(out, box.offset, bytes));
        encoder.concurrently(false);
      });
}

}  // namespace

std::unique_ptr<Kernel> make_concatenate(const KernelRequest& request, GpuDevice& device) {
  if (const auto* pad = std::get_if<op::Pad>(&request.operation)) {
    return make_pad(*pad, request, device);
  }
  return make_join(std::get<op::Concatenate>(request.operation), request, device);
}

}  // namespace metal_candle::backend::gpu
