// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See rows.h.
#include "metal_candle/backend/gpu/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::gpu {
namespace {

// Of groups whose rows take a part of a warp each.
constexpr std::uint32_t kLaneThreads = 128;

// The form for rows of which all, or none, are aligned.
RowLaunch plan_form(GpuDevice& device, std::string_view family, const AxisPlan& axis,
                    std::span<const std::uint32_t> elements, std::uint32_t max_threads,
                    bool aligned) {
  const DeviceLimits& limits = device.limits();
  max_threads = std::min(aligned ? max_threads : max_threads / 2, limits.max_threads);
  // With few rows, more threads finish each sooner; with many, each thread has more loads in
  // flight.
  const bool many = axis.outer >= 2 * std::int64_t{limits.multiprocessors};
  const auto tuned = static_cast<std::uint32_t>(
      device.tuning().get(Tunable::kGpuRowThreads, ShapeClass::of(axis.dtype, {axis.outer, axis.n}),
                          many ? std::min(max_threads, 256u) : max_threads));
  const std::uint32_t wanted = std::clamp(tuned, 32u, max_threads);
  const auto threads_for = [&](std::uint32_t each) { return groups_for(axis.n, each); };
  // The least that brings a row to so many threads, else the most.
  const auto elements_for = [&](std::uint32_t threads) {
    const auto fits = [&](std::uint32_t each) { return threads_for(each) <= threads; };
    const auto found = std::find_if(elements.begin(), elements.end(), fits);
    return found != elements.end() ? *found : elements.back();
  };
  // A row that a warp can hold is a warp's, if there are enough of them.
  const bool lanes = threads_for(many ? elements.back() : elements.front()) <= 32;
  const std::uint32_t each = elements_for(lanes ? 32 : wanted);
  RowLaunch launch;
  if (threads_for(each) > max_threads) return launch;
  if (lanes) {
    const std::uint32_t team = std::bit_ceil(std::max(threads_for(each), 1u));
    launch.team_shift = static_cast<std::uint32_t>(std::countr_zero(team));
    launch.threads = kLaneThreads;
    launch.groups = groups_for(axis.outer, kLaneThreads / team);
  } else {
    launch.threads = (threads_for(each) + 31) / 32 * 32;
    launch.groups = checked_count(axis.outer);
  }
  launch.function =
      &device.function(fmt::format("{}_{}_{}_{}{}", family, name(axis.dtype),
                                   lanes ? "lanes" : "group", each, aligned ? "" : "_unaligned"));
  return launch;
}

Dims without(const Dims& dims, int axis) {
  Dims rest = dims;
  rest.erase(axis);
  return rest;
}

// Whether every row begins a multiple of `width` elements from the first.
bool has_packet_rows(const RowMap& map, std::int64_t width) {
  for (std::uint32_t axis = 0; axis < map.rank; ++axis) {
    if (map.sizes[axis] > 1 && map.strides[axis] % width != 0) return false;
  }
  return true;
}

}  // namespace

std::uint32_t checked_count(std::int64_t count) {
  if (count > INT32_MAX) throw ShapeError(fmt::format("{} rows or columns are too many", count));
  return static_cast<std::uint32_t>(count);
}

RowMap row_map(const Shape& sizes, const Strides& strides) {
  Shape shape = sizes;
  Strides of_map = strides;
  collapse_axes(shape, {&of_map, 1});
  RowMap map{};
  map.rank = static_cast<std::uint32_t>(shape.rank());
  for (int axis = 0; axis < shape.rank(); ++axis) {
    map.sizes[axis] = checked_count(shape[axis]);
    map.strides[axis] = of_map[axis];
  }
  return map;
}

AxisPlan plan_axis(std::span<const TensorLayout> operands, int axis) {
  AxisPlan plan{.dtype = operands[0].dtype, .n = operands[0].shape[axis]};
  static_cast<void>(checked_count(plan.n));
  Dims sizes = without(operands[0].shape, axis);
  std::array<Dims, 3> strides;
  const std::span<Dims> used(strides.data(), operands.size());
  plan.rows = true;
  bool side_by_side = true;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    strides[i] = without(operands[i].strides, axis);
    plan.strides[i] = operands[i].strides[axis];
    plan.rows = plan.rows && plan.strides[i] == 1;
  }
  collapse_axes(sizes, used);
  for (const Dims& s : used) side_by_side = side_by_side && s.back() == 1;
  if (!plan.rows && side_by_side) {
    plan.columns = sizes.back();
    sizes = leading(sizes, 1);
    for (Dims& s : used) s = leading(s, 1);
  }
  plan.outer = num_elements(sizes);
  plan.packets = plan.rows && plan.n % packet_width(plan.dtype) == 0;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    plan.maps[i] = row_map(sizes, strides[i]);
    plan.packets = plan.packets && has_packet_rows(plan.maps[i], packet_width(plan.dtype));
  }
  return plan;
}

AxisPlan plan_rows_of(std::initializer_list<TensorLayout> operands) {
  std::vector<TensorLayout> dense(operands);
  const int last = dense[0].shape.rank() - 1;
  // An axis of length 1 may have any stride.
  for (TensorLayout& operand : dense) operand.strides[last] = 1;
  return plan_axis(dense, last);
}

ColumnGrid column_grid(const AxisPlan& axis) {
  ColumnGrid grid;
  while (grid.tile_shift < 5 && (std::int64_t{1} << grid.tile_shift) < axis.columns) {
    ++grid.tile_shift;
  }
  const std::int64_t tiles = groups_for(axis.columns, std::int64_t{1} << grid.tile_shift);
  grid.groups = checked_count(tiles * axis.outer);
  return grid;
}

RowLaunches plan_rows(GpuDevice& device, std::string_view family, const AxisPlan& axis,
                      std::span<const std::uint32_t> elements, std::uint32_t max_threads) {
  RowLaunches launches;
  launches.unaligned = plan_form(device, family, axis, elements, max_threads, false);
  if (axis.packets) {
    launches.aligned = plan_form(device, family, axis, elements, max_threads, true);
  }
  return launches;
}

RowChunks plan_chunks(const AxisPlan& axis, const GpuDevice& device) {
  // Enough groups to fill the device, each with enough to do.
  constexpr std::int64_t kLeast = 4096, kMost = 16384;
  const std::int64_t each = device.tuning().get(
      Tunable::kGpuChunkGroups, ShapeClass::of(axis.dtype, {axis.outer, axis.n}), 4);
  const std::int64_t wanted = each * std::int64_t{device.limits().multiprocessors};
  const std::int64_t for_device = (wanted + axis.outer - 1) / std::max<std::int64_t>(axis.outer, 1);
  const std::int64_t count = std::clamp<std::int64_t>(for_device, groups_for(axis.n, kMost),
                                                      std::max(groups_for(axis.n, kLeast), 1u));
  RowChunks chunks;
  chunks.chunk = (groups_for(axis.n, std::max<std::int64_t>(count, 1)) + 15) / 16 * 16;
  chunks.count = groups_for(axis.n, std::max(chunks.chunk, 1u));
  chunks.groups = checked_count(axis.outer * chunks.count);
  // Four packets a thread.
  const std::uint32_t threads = groups_for(chunks.chunk, 4 * packet_width(axis.dtype));
  chunks.threads = std::clamp((threads + 31) / 32 * 32, 32u, 512u);
  return chunks;
}

PacketFunction::PacketFunction(GpuDevice& device, const std::string& name, bool packets)
    : aligned_(packets ? &device.function(name) : nullptr),
      unaligned_(&device.function(name + "_unaligned")) {}

const Function& PacketFunction::choose(std::initializer_list<const void*> addresses) const {
  return aligned_ != nullptr && std::all_of(addresses.begin(), addresses.end(), is_aligned)
             ? *aligned_
             : *unaligned_;
}

ChunkSums::ChunkSums(GpuDevice& device, const AxisPlan& axis)
    : axis_(axis),
      chunks_(plan_chunks(axis, device)),
      function_(device, fmt::format("softmax_chunk_sums_{}", name(axis.dtype)), axis.packets) {}

void ChunkSums::encode(Encoder& encoder, const void* x, void* partials) const {
  const SoftmaxArguments arguments{.x = x,
                                   .out = nullptr,
                                   .partials = static_cast<float*>(partials),
                                   .map = axis_.maps[0],
                                   .rows = checked_count(axis_.outer),
                                   .n = checked_count(axis_.n),
                                   .team_shift = 0,
                                   .mode = SoftmaxMode::kLogSumExp,
                                   .chunk = chunks_.chunk,
                                   .chunks = chunks_.count};
  encoder.dispatch(function_.choose({x}), {chunks_.groups}, chunks_.threads, arguments);
}

}  // namespace metal_candle::backend::gpu
