// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding.
//
// Inputs: x kDenseRows, offset and frequencies kContiguous. The output may overwrite x (input 0),
// or have its rows anywhere.
#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = 128;
constexpr std::int64_t kWidth = 4;  // Pairs of an item, where rows are aligned.

struct RopeForm {
  const Function* function = nullptr;
  std::uint32_t groups = 0;
  std::uint32_t heads_at_once = 1;
};

// As many heads an angle as leave enough groups to fill the device.
RopeForm plan_form(const RopeArguments& a, std::int64_t width, DType dtype, GpuDevice& device) {
  RopeForm form;
  const std::int64_t items = (a.dims / 2) / width + (a.n - a.dims) / width;
  const std::int64_t blocks = groups_for(a.length * items, kThreads);
  const auto groups = [&](std::uint32_t heads_at_once) {
    return a.groups * std::int64_t{groups_for(a.heads, heads_at_once)} * blocks;
  };
  const std::int64_t wanted = 8 * std::int64_t{device.limits().multiprocessors};
  while (form.heads_at_once < 8 && groups(2 * form.heads_at_once) >= wanted) {
    form.heads_at_once *= 2;
  }
  form.groups = checked_count(groups(form.heads_at_once));
  form.function =
      &device.function(fmt::format("rope_{}{}", name(dtype), width > 1 ? "" : "_unaligned"));
  return form;
}

bool has_packets(const TensorLayout& x, std::int64_t dims) {
  const int last = x.shape.rank() - 1;
  if (dims / 2 % kWidth != 0 || x.shape[last] % kWidth != 0) return false;
  for (int axis = 0; axis < last; ++axis) {
    if (x.shape[axis] > 1 && x.strides[axis] % kWidth != 0) return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<Kernel> make_rope(const KernelRequest& request, GpuDevice& device) {
  const auto& o = std::get<op::Rope>(request.operation);
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& out = request.outputs[0];
  const int rank = x.shape.rank();
  const Shape matrices = leading(x.shape, 2);
  const std::int64_t count = num_elements(matrices);
  const bool per_group = request.inputs[1].shape.rank() == 1;
  const std::int64_t groups = per_group ? x.shape[0] : 1;
  RopeArguments common{};
  common.map = row_map(matrices, leading(x.strides, 2));
  common.position_stride = x.strides[rank - 2];
  common.out_map = row_map(matrices, leading(out.strides, 2));
  common.out_position_stride = out.strides[rank - 2];
  common.groups = checked_count(groups);
  common.heads = checked_count(groups > 0 ? count / groups : 0);
  common.length = checked_count(x.shape[rank - 2]);
  common.n = checked_count(x.shape[rank - 1]);
  common.dims = static_cast<std::uint32_t>(o.dims);
  common.offset_per_group = per_group ? 1 : 0;
  common.interleaved = o.interleaved ? 1 : 0;
  common.inverse = o.inverse ? 1 : 0;
  common.scale = o.scale;
  const RopeForm unaligned = plan_form(common, 1, x.dtype, device);
  const RopeForm aligned = has_packets(x, o.dims) && has_packets(out, o.dims)
                               ? plan_form(common, kWidth, x.dtype, device)
                               : unaligned;
  return make_gpu_kernel([=](const KernelArguments& run, Encoder& encoder) {
    const bool packets = is_aligned(run.inputs[0]) && is_aligned(run.outputs[0]);
    const RopeForm& form = packets ? aligned : unaligned;
    RopeArguments arguments = common;
    arguments.x = run.inputs[0];
    arguments.offsets = static_cast<const std::int32_t*>(run.inputs[1]);
    arguments.frequencies = static_cast<const float*>(run.inputs[2]);
    arguments.out = run.outputs[0];
    arguments.heads_at_once = form.heads_at_once;
    encoder.dispatch(*form.function, {form.groups}, kThreads, arguments);
  });
}

}  // namespace metal_candle::backend::gpu
