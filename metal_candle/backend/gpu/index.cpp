// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Take, TakeAlongAxis, ScatterAdd, ScatterAddAlongAxis, SliceUpdate, DynamicSlice and
// DynamicSliceUpdate. An index out of range reads 0 and adds nothing: unlike the CPU, a GPU cannot
// say cheaply that there was one.
//
// Inputs: kContiguous, but for x and update of the last three, which are kAny. All that give x
// changed may overwrite it (input 0); slices are then written alone, as a KV cache does at each
// step.
#include <fmt/format.h>

#include <string_view>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/rows.h"
#include "metal_candle/backend/gpu/strided_copy.h"
#include "metal_candle/backend/strided.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = 256;
constexpr std::int64_t kPacketBytes = 16;

// Everything but addresses.
IndexArguments index_arguments(const AxisView& x, const TensorLayout& indices, std::int64_t count) {
  IndexArguments a{};
  a.outer = x.outer;
  a.length = x.length;
  a.inner = x.inner;
  a.count = count;
  a.wide_indices = indices.dtype == DType::kI64 ? 1 : 0;
  return a;
}

std::unique_ptr<Kernel> make_take(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& indices = request.inputs[1];
  const auto* take = std::get_if<op::Take>(&request.operation);
  const int axis =
      take != nullptr ? take->axis : std::get<op::TakeAlongAxis>(request.operation).axis;
  const std::int64_t count = take != nullptr ? num_elements(indices.shape) : indices.shape[axis];
  const IndexArguments plan = index_arguments(AxisView(x.shape, axis), indices, count);
  const std::size_t bytes = size_of(x.dtype);
  const std::int64_t packet = kPacketBytes / static_cast<std::int64_t>(bytes);
  const bool packets = take != nullptr && plan.inner % packet == 0;
  const Function& function = device.function(fmt::format("take{}_u{}",
                                                         take == nullptr ? "_along_axis"
                                                         : packets       ? "_packets"
                                                                         : "",
                                                         bytes * 8));
  const std::int64_t threads = plan.outer * count * plan.inner / (packets ? packet : 1);
  return make_gpu_kernel(
      [&function, plan, threads](const KernelArguments& arguments, Encoder& encoder) {
        IndexArguments a = plan;
        a.x = arguments.inputs[0];
        a.indices = arguments.inputs[1];
        a.out = arguments.outputs[0];
        encoder.dispatch(function, {groups_for(threads, kThreads)}, kThreads, a);
      });
}

// What elements of dtype add up as.
std::string_view sum_name(DType dtype) {
  switch (dtype) {
    case DType::kI8:
      return name(DType::kU8);
    case DType::kI32:
      return name(DType::kU32);
    case DType::kI64:
      return "u64";
    default:
      return name(dtype);
  }
}

std::unique_ptr<Kernel> make_scatter(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& indices = request.inputs[1];
  const auto* scatter = std::get_if<op::ScatterAdd>(&request.operation);
  const int axis = scatter != nullptr ? scatter->axis
                                      : std::get<op::ScatterAddAlongAxis>(request.operation).axis;
  const std::int64_t count = scatter != nullptr ? num_elements(indices.shape) : indices.shape[axis];
  constexpr std::int64_t kMostLinks = 0x7fffffff;
  if (scatter != nullptr && count >= kMostLinks) {
    throw DeviceError(fmt::format("scatter_add: {} indices are too many for a GPU", count));
  }
  const IndexArguments plan = index_arguments(AxisView(x.shape, axis), indices, count);
  const StridedCopy base(device, x.shape, x.strides, contiguous_strides(x.shape), size_of(x.dtype));
  const Function* link = scatter != nullptr ? &device.function("link_indices") : nullptr;
  const Function& add = device.function(
      fmt::format("scatter_add{}_{}", scatter != nullptr ? "" : "_along_axis", sum_name(x.dtype)));
  const std::size_t scratch =
      scatter != nullptr ? static_cast<std::size_t>(count) * sizeof(std::uint32_t) : 0;
  return make_gpu_kernel(
      [base, link, &add, plan](const KernelArguments& arguments, Encoder& encoder) {
        IndexArguments a = plan;
        a.indices = arguments.inputs[1];
        a.updates = arguments.inputs[2];
        a.out = arguments.outputs[0];
        a.links = arguments.scratch;
        if (arguments.inputs[0] != a.out) base.encode(encoder, arguments.inputs[0], a.out);
        if (link != nullptr) {
          encoder.dispatch(*link, {groups_for(a.count, kThreads)}, kThreads, a);
        }
        const std::int64_t updates = a.outer * a.count * a.inner;
        encoder.dispatch(add, {groups_for(updates, kThreads)}, kThreads, a);
      },
      scratch);
}

// A block whose place is an input.
StridedCopy::Place place_of(const Axes& axes, const TensorLayout& starts, const Shape& shape,
                            const Shape& block, const Strides& strides, bool in_output) {
  StridedCopy::Place place{axes, {}, {}, starts.dtype == DType::kI64, in_output};
  for (const std::int64_t axis : axes) {
    const auto i = static_cast<int>(axis);
    place.largest_starts.push_back(shape[i] - block[i]);
    place.strides.push_back(strides[i]);
  }
  return place;
}

std::unique_ptr<Kernel> make_dynamic_slice(const op::DynamicSlice& slice,
                                           const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& x = request.inputs[0];
  const Shape& block = request.outputs[0].shape;
  const StridedCopy copy(
      device, block, x.strides, contiguous_strides(block), size_of(x.dtype),
      place_of(slice.axes, request.inputs[1], x.shape, block, x.strides, /*in_output=*/false));
  return make_gpu_kernel([copy](const KernelArguments& arguments, Encoder& encoder) {
    copy.encode(encoder, arguments.inputs[0], arguments.outputs[0], arguments.inputs[1]);
  });
}

// Where an update is of whole rows along one axis, in packets: everything but addresses.
std::optional<PlaceRowsArguments> plan_place_rows(const KernelRequest& request) {
  const auto* o = std::get_if<op::DynamicSliceUpdate>(&request.operation);
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& update = request.inputs[1];
  if (o == nullptr || o->axes.size() != 1 || !update.is_contiguous()) return {};
  const auto axis = static_cast<int>(o->axes[0]);
  const AxisView view(x.shape, axis);
  const auto bytes = static_cast<std::int64_t>(size_of(x.dtype));
  const std::int64_t count = update.shape[axis];
  // Other axes are updated from end to end.
  if (num_elements(update.shape) != view.outer * count * view.inner) return {};
  if (view.inner * bytes % kPacketBytes != 0 || num_elements(update.shape) >= INT32_MAX) return {};
  PlaceRowsArguments a{};
  a.outer = view.outer;
  a.row = view.inner * bytes / kPacketBytes;
  a.block = count * a.row;
  a.length = view.length * a.row;
  a.largest_start = view.length - count;
  a.wide_start = request.inputs[2].dtype == DType::kI64 ? 1 : 0;
  return a;
}

// x as it is, then the update over the block.
std::unique_ptr<Kernel> make_slice_update(const KernelRequest& request, GpuDevice& device) {
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& update = request.inputs[1];
  const std::size_t bytes = size_of(x.dtype);
  const Strides out = contiguous_strides(x.shape);
  Strides block_strides = out;
  std::int64_t offset = 0;
  std::optional<StridedCopy::Place> place;
  if (const auto* o = std::get_if<op::SliceUpdate>(&request.operation)) {
    for (int axis = 0; axis < x.shape.rank(); ++axis) {
      offset += o->start[axis] * out[axis];
      block_strides[axis] *= o->step[axis];
    }
  } else {
    const Axes& axes = std::get<op::DynamicSliceUpdate>(request.operation).axes;
    place = place_of(axes, request.inputs[2], x.shape, update.shape, out, /*in_output=*/true);
  }
  const StridedCopy base(device, x.shape, x.strides, out, bytes);
  const StridedCopy block(device, update.shape, update.strides, block_strides, bytes, place);
  const std::optional<PlaceRowsArguments> rows = plan_place_rows(request);
  const Function& place_rows = device.function("place_rows");
  return make_gpu_kernel([base, block, offset, bytes, rows, &place_rows](
                             const KernelArguments& arguments, Encoder& encoder) {
    void* to = arguments.outputs[0];
    if (arguments.inputs[0] != to) base.encode(encoder, arguments.inputs[0], to);
    if (rows && is_aligned(to) && is_aligned(arguments.inputs[1])) {
      PlaceRowsArguments a = *rows;
      a.update = arguments.inputs[1];
      a.out = to;
      a.start = arguments.inputs[2];
      encoder.dispatch(place_rows, {groups_for(a.outer * a.block, kThreads)}, kThreads, a);
      return;
    }
    block.encode(encoder, arguments.inputs[1], element_address(to, offset, bytes),
                 arguments.inputs.size() > 2 ? arguments.inputs[2] : nullptr);
  });
}

}  // namespace

std::unique_ptr<Kernel> make_index(const KernelRequest& request, GpuDevice& device) {
  return std::visit(
      Overload{
          [&](const op::Take&) { return make_take(request, device); },
          [&](const op::TakeAlongAxis&) { return make_take(request, device); },
          [&](const op::ScatterAdd&) { return make_scatter(request, device); },
          [&](const op::ScatterAddAlongAxis&) { return make_scatter(request, device); },
          [&](const op::DynamicSlice& o) { return make_dynamic_slice(o, request, device); },
          [&](const auto&) { return make_slice_update(request, device); },
      },
      request.operation);
}

}  // namespace metal_candle::backend::gpu
