// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Sort, ArgSort and ArgTopK along any axis. The largest k are what sorting leaves when no run keeps
// more than k: then the merges after the first pass are short.
//
// Inputs: kDenseRows.
#include "metal_candle/backend/gpu/sort.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kMaxBlock = 2048;  // Items of 16 bytes that a group's memory holds.
constexpr std::uint32_t kMaxBlockThreads = 512;
constexpr std::uint32_t kMergeThreads = 256;

// Slots of a line that has runs of `run` elements of which `keep` are kept.
std::uint32_t slots_of(std::uint32_t n, std::uint32_t run, std::uint32_t keep) {
  return checked_count(std::int64_t{groups_for(n, run)} * std::min(run, keep));
}

}  // namespace

SortPlan::SortPlan(const TensorLayout& x, const TensorLayout& out, int axis, bool descending,
                   bool positions, GpuDevice& device)
    : blocks_(device.function(fmt::format("sort_blocks_{}", name(x.dtype)))),
      merge_(device.function(fmt::format("sort_merge_{}", name(x.dtype)))) {
  // Shorter along the axis or not: its own strides place it.
  const std::array operands{x, TensorLayout{x.shape, out.strides, out.dtype}};
  const AxisPlan plan = plan_axis(operands, axis);
  lines_ = checked_count(plan.outer * plan.columns);
  common_.x_map = plan.maps[0];
  common_.out_map = plan.maps[1];
  common_.x_stride = plan.strides[0];
  common_.out_stride = plan.strides[1];
  common_.columns = plan.columns;
  common_.n = checked_count(plan.n);
  common_.keep = checked_count(out.shape[axis]);
  common_.run = std::min(std::bit_ceil(std::max(common_.n, 2u)), kMaxBlock);
  common_.descending = descending ? 1 : 0;
  common_.positions = positions ? 1 : 0;
  if (common_.n > common_.run && common_.keep > 0) {
    const std::size_t item = size_of(x.dtype) == 8 ? 16 : 8;
    std::size_t slots = 0;  // Of the pass that has most, its last run being the emptiest.
    for (std::uint32_t run = common_.run; run < common_.n; run *= 2) {
      slots = std::max<std::size_t>(slots, slots_of(common_.n, run, common_.keep));
    }
    items_bytes_ = round_up(slots * lines_ * item, 256);
  }
}

void SortPlan::encode(Encoder& encoder, const void* x, void* out, void* scratch) const {
  if (common_.keep == 0 || common_.n == 0) return;
  std::array<void*, 2> buffers{scratch, static_cast<std::byte*>(scratch) + items_bytes_};
  SortArguments a = common_;
  a.x = x;
  a.out = out;
  const bool single = items_bytes_ == 0;
  a.merged = single ? nullptr : buffers[0];
  a.merged_slots = slots_of(a.n, a.run, a.keep);
  const std::uint32_t threads = std::clamp(a.run / 4, 32u, kMaxBlockThreads);
  encoder.dispatch(blocks_, {checked_count(std::int64_t{lines_} * groups_for(a.n, a.run))}, threads,
                   a);
  for (; !single && a.run < a.n; a.run *= 2) {
    const bool last = std::int64_t{2} * a.run >= a.n;
    a.items = buffers[0];
    a.merged = last ? nullptr : buffers[1];
    a.slots = a.merged_slots;
    a.merged_slots = last ? 0 : slots_of(a.n, 2 * a.run, a.keep);
    const std::uint32_t groups =
        checked_count(std::int64_t{lines_} * groups_for(a.slots, kMergeThreads));
    encoder.dispatch(merge_, {groups}, kMergeThreads, a);
    std::swap(buffers[0], buffers[1]);
  }
}

std::unique_ptr<Kernel> make_sort(const KernelRequest& request, GpuDevice& device) {
  const Operation& operation = request.operation;
  const TensorLayout& x = request.inputs[0];
  const TensorLayout& out = request.outputs[0];
  const auto plan = [&]() -> SortPlan {
    if (const auto* o = std::get_if<op::Sort>(&operation)) {
      return {x, out, o->axis, o->descending, false, device};
    }
    if (const auto* o = std::get_if<op::ArgSort>(&operation)) {
      return {x, out, o->axis, o->descending, true, device};
    }
    return {x, out, std::get<op::ArgTopK>(operation).axis, true, true, device};
  }();
  return make_gpu_kernel(
      [plan](const KernelArguments& run, Encoder& encoder) {
        plan.encode(encoder, run.inputs[0], run.outputs[0], run.scratch);
      },
      plan.scratch_bytes());
}

}  // namespace metal_candle::backend::gpu
