// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reduce, over any axes of any strides, brought to one of two forms: along rows, or down columns
// that lie side by side. Floating values accumulate in f32. Where there are fewer outputs than
// would fill the device, each is cut in chunks, by shape and device alone.
//
// Inputs: kAny.
#include "metal_candle/backend/gpu/reduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kTileShift = 5;  // Packets side by side in a group's tile, as a power of 2.

// The element type whose kernels do it: bool is reduced as bytes, which any() and all() give.
std::string_view kernel_dtype(DType dtype) { return dtype == DType::kBool ? "u8" : name(dtype); }

// What is reduced and what is kept, each with its axes merged.
struct ReducePlan {
  ReduceKind kind = ReduceKind::kSum;
  DType dtype = DType::kF32;
  std::int64_t base = 0;  // Offset of the first element.
  Dims kept, kept_strides, reduced, reduced_strides;
  std::int64_t outputs = 1;

  [[nodiscard]] bool by_columns() const {
    return reduced_strides.back() != 1 && kept_strides.back() == 1;
  }
};

ReducePlan make_plan(const TensorLayout& x, const op::Reduce& op) {
  ReducePlan plan;
  plan.kind = op.kind;
  plan.dtype = x.dtype;
  for (int axis = 0; axis < x.shape.rank(); ++axis) {
    const bool is_reduced = std::find(op.axes.begin(), op.axes.end(), axis) != op.axes.end();
    (is_reduced ? plan.reduced : plan.kept).push_back(x.shape[axis]);
    (is_reduced ? plan.reduced_strides : plan.kept_strides).push_back(x.strides[axis]);
  }
  plan.outputs = num_elements(plan.kept);
  if (num_elements(plan.reduced) > 0)
    plan.base = order_by_stride(plan.reduced, plan.reduced_strides);
  collapse_axes(plan.kept, {&plan.kept_strides, 1});
  collapse_axes(plan.reduced, {&plan.reduced_strides, 1});
  return plan;
}

// Whether packets of `width` may be loaded if the address is aligned.
bool has_packets(const ReducePlan& plan, std::int64_t width) {
  // What there are kernels for.
  const bool common = plan.kind == ReduceKind::kSum || plan.kind == ReduceKind::kMax ||
                      plan.kind == ReduceKind::kMin;
  if (!is_floating(plan.dtype) || !common) return false;
  const bool columns = plan.by_columns();
  const Dims& along = columns ? plan.kept : plan.reduced;
  const Dims& dense = columns ? plan.kept_strides : plan.reduced_strides;
  if (dense.back() != 1 || along.back() % width != 0) return false;
  for (const Dims* strides : {&plan.kept_strides, &plan.reduced_strides}) {
    const int outer_axes = strides->rank() - (strides == &dense ? 1 : 0);
    for (int axis = 0; axis < outer_axes; ++axis) {
      if ((*strides)[axis] % width != 0) return false;
    }
  }
  return true;
}

// The kernel with its grid, for packets of one width.
struct RowsForm {
  const Function* function = nullptr;
  RowsGrid grid;
  ReduceRowsArguments arguments{};
};
struct ColumnsForm {
  const Function* function = nullptr;
  ColumnsGrid grid;
  ReduceColumnsArguments arguments{};
};

RowsForm rows_form(const ReducePlan& plan, std::int64_t width, GpuDevice& device) {
  RowsForm form;
  Dims packets = plan.reduced, strides = plan.reduced_strides;
  packets.back() /= width;
  strides.back() *= width;
  form.grid = rows_grid(device, plan.dtype, plan.outputs, num_elements(packets));
  ReduceRowsArguments& a = form.arguments;
  a.kept = row_map(plan.kept, plan.kept_strides);
  a.reduced = row_map(packets, strides);
  a.outputs = plan.outputs;
  a.units = form.grid.units;
  a.chunk = form.grid.chunk;
  a.chunks = form.grid.chunks;
  a.team_shift = form.grid.team_shift;
  a.whole_group = form.grid.whole_group;
  a.kind = static_cast<std::uint32_t>(plan.kind);
  form.function = &device.function(
      fmt::format("reduce_rows_{}{}", kernel_dtype(plan.dtype), width > 1 ? "_packets" : ""));
  return form;
}

ColumnsForm columns_form(const ReducePlan& plan, std::int64_t width, GpuDevice& device) {
  ColumnsForm form;
  ReduceColumnsArguments& a = form.arguments;
  a.columns = plan.kept.back();
  a.kept = row_map(leading(plan.kept, 1), leading(plan.kept_strides, 1));
  a.reduced = row_map(plan.reduced, plan.reduced_strides);
  a.outputs = plan.outputs;
  form.grid = columns_grid(device, plan.dtype, num_elements(leading(plan.kept, 1)), a.columns,
                           width, num_elements(plan.reduced));
  a.rows = form.grid.rows;
  a.chunk = form.grid.chunk;
  a.chunks = form.grid.chunks;
  a.tile_shift = form.grid.tile_shift;
  a.kind = static_cast<std::uint32_t>(plan.kind);
  form.function = &device.function(
      fmt::format("reduce_columns_{}{}", kernel_dtype(plan.dtype), width > 1 ? "_packets" : ""));
  return form;
}

void run_form(const RowsForm& form, const ReduceRowsArguments& arguments, Encoder& encoder) {
  encoder.dispatch(*form.function, {form.grid.groups}, form.grid.threads, arguments);
}
void run_form(const ColumnsForm& form, const ReduceColumnsArguments& arguments, Encoder& encoder) {
  encoder.dispatch(*form.function, {form.grid.groups}, kReduceThreads, arguments);
}

// `make_form` gives the form for a width. Addresses decide at each run which is taken.
template <typename MakeForm>
std::unique_ptr<Kernel> make_kernel(const ReducePlan& plan, MakeForm make_form, GpuDevice& device) {
  using Form = decltype(make_form(plan, std::int64_t{1}, device));
  const std::int64_t width = packet_width(plan.dtype);
  struct Whole {
    Form form;
    PartialReduction finish;
  };
  const auto make = [&](std::int64_t of_width) -> Whole {
    const Form form = make_form(plan, of_width, device);
    return {form,
            PartialReduction(device, plan.kind, plan.dtype, plan.outputs, form.arguments.chunks)};
  };
  const Whole unaligned = make(1), aligned = has_packets(plan, width) ? make(width) : unaligned;
  const std::size_t scratch =
      std::max(unaligned.finish.partial_bytes(), aligned.finish.partial_bytes());
  return make_gpu_kernel(
      [=, base = plan.base, dtype = plan.dtype](const KernelArguments& run, Encoder& encoder) {
        const void* x = offset_data(static_cast<const void*>(run.inputs[0]), base, dtype);
        const Whole& whole = is_aligned(x) ? aligned : unaligned;
        auto arguments = whole.form.arguments;
        const bool partial = arguments.chunks > 1;
        arguments.x = x;
        arguments.out = partial ? run.scratch : run.outputs[0];
        run_form(whole.form, arguments, encoder);
        if (partial) whole.finish.encode(encoder, run.scratch, run.outputs[0]);
      },
      scratch);
}

// Chunks of `units` for each of `groups`, that fill the device, each of at least `least`.
std::uint32_t chunks_for(DType dtype, std::int64_t units, std::int64_t groups, std::int64_t least,
                         const GpuDevice& device) {
  const std::int64_t each =
      device.tuning().get(Tunable::kGpuReduceGroups, ShapeClass::of(dtype, {groups, units}), 4);
  const std::int64_t wanted = each * std::int64_t{device.limits().multiprocessors};
  const std::int64_t count = std::min(wanted / std::max<std::int64_t>(groups, 1), units / least);
  return static_cast<std::uint32_t>(std::max<std::int64_t>(count, 1));
}

}  // namespace

RowsGrid rows_grid(const GpuDevice& device, DType dtype, std::int64_t outputs, std::int64_t units) {
  RowsGrid grid;
  grid.units = grid.chunk = checked_count(units);
  // Short rows are reduced by a part of a warp, two packets a lane; others by a group.
  if (units <= 64 ||
      (units <= 256 && outputs >= 8 * std::int64_t{device.limits().multiprocessors})) {
    const std::uint32_t team = std::min(std::bit_ceil((grid.units + 1) / 2), 32u);
    grid.team_shift = static_cast<std::uint32_t>(std::countr_zero(std::max(team, 1u)));
    grid.groups = groups_for(outputs, kReduceThreads >> grid.team_shift);
    return grid;
  }
  grid.whole_group = 1;
  if (units < 512) grid.threads = 64;
  const std::uint32_t chunks = chunks_for(dtype, units, outputs, 8 * grid.threads, device);
  grid.chunk = groups_for(units, chunks);
  grid.chunks = groups_for(units, grid.chunk);
  grid.groups = checked_count(outputs * grid.chunks);
  return grid;
}

ColumnsGrid columns_grid(const GpuDevice& device, DType dtype, std::int64_t outer,
                         std::int64_t columns, std::int64_t width, std::int64_t rows) {
  ColumnsGrid grid;
  grid.rows = checked_count(rows);
  const std::int64_t across = groups_for(columns, width);
  while (grid.tile_shift < kTileShift && (std::int64_t{1} << grid.tile_shift) < across) {
    ++grid.tile_shift;
  }
  const std::int64_t tiles = groups_for(across, std::int64_t{1} << grid.tile_shift) * outer;
  const std::uint32_t down = kReduceThreads >> grid.tile_shift;
  const std::uint32_t chunks = chunks_for(dtype, rows, tiles, 8 * down, device);
  grid.chunk = groups_for(rows, chunks);
  grid.chunks = rows == 0 ? 1 : groups_for(rows, grid.chunk);
  grid.groups = checked_count(tiles * grid.chunks);
  return grid;
}

PartialReduction::PartialReduction(GpuDevice& device, ReduceKind kind, DType dtype,
                                   std::int64_t outputs, std::uint32_t parts)
    : function_(device.function(fmt::format("reduce_partials_{}", kernel_dtype(dtype)))),
      kind_(kind),
      dtype_(dtype),
      outputs_(outputs),
      parts_(parts) {}

std::size_t PartialReduction::partial_bytes() const {
  return parts_ <= 1 ? 0 : static_cast<std::size_t>(outputs_) * parts_ * accumulator_bytes(dtype_);
}

void PartialReduction::encode(Encoder& encoder, const void* partials, void* out) const {
  ReducePartialsArguments arguments{.partials = partials,
                                    .out = out,
                                    .outputs = outputs_,
                                    .parts = parts_,
                                    .tile_shift = 0,
                                    .kind = static_cast<std::uint32_t>(kind_)};
  while (arguments.tile_shift < kTileShift && (INT64_C(1) << arguments.tile_shift) < outputs_) {
    ++arguments.tile_shift;
  }
  encoder.dispatch(function_, {groups_for(outputs_, INT64_C(1) << arguments.tile_shift)},
                   kReduceThreads, arguments);
}

std::unique_ptr<Kernel> make_reduce(const KernelRequest& request, GpuDevice& device) {
  const ReducePlan plan = make_plan(request.inputs[0], std::get<op::Reduce>(request.operation));
  if (plan.by_columns()) return make_kernel(plan, columns_form, device);
  return make_kernel(plan, rows_form, device);
}

}  // namespace metal_candle::backend::gpu
