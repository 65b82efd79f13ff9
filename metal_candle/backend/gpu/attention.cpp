// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Scaled-dot-product attention, tile by tile with a running softmax (Dao et al., "FlashAttention",
// 2022), so that no matrix of all scores exists. Few rows, as in decoding, are split over the keys
// as well, by the length that the device knows, and the parts joined by a second kernel.
//
// Inputs: q, k and v kDenseRows, mask and key_length kAny. Nothing may be overwritten. Rows of the
// output may lie anywhere.
#include "metal_candle/backend/gpu/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

// attention_rows.h: rows of a group and keys of its step, by width.
struct RowKernel {
  std::int64_t width, rows, keys;
};
constexpr RowKernel kRowKernels[] = {{64, 8, 64}, {128, 8, 32}, {256, 4, 16}, {512, 2, 8}};
// attention_tiles.h: the same, and the 16-row tiles of a warp. The larger of a width come first.
struct TileKernel {
  std::int64_t width, tiles, keys;
  bool small = false;  // Only there for devices with kLeastGroupBytes.

  [[nodiscard]] std::int64_t rows() const { return 64 * tiles; }
  [[nodiscard]] std::int64_t group_bytes(bool has_mask) const {
    return 2 * (width + 8) * (rows() + 2 * keys) + (has_mask ? 4 * rows() * keys : 0);
  }
};
constexpr TileKernel kTileKernels[] = {{64, 2, 64},  {64, 1, 64},  {64, 1, 32, true},
                                       {128, 2, 32}, {128, 1, 64}, {128, 1, 16, true},
                                       {256, 1, 32}};
// attention_wide.h: its widths, the rows of a group, and how many blocks of so many it holds.
constexpr std::int64_t kWideWidths[] = {64, 128};
constexpr std::int64_t kWideRows = 64;
constexpr std::int64_t kWideBlocks = 5;
// With fewer queries most of a tile would be empty, and splitting the keys matters more.
constexpr std::int64_t kLeastTileQueries = 16;
constexpr std::uint32_t kTileThreads = 128;
constexpr std::uint32_t kRowThreads = 128;
constexpr std::uint32_t kOneThreads = 256;  // attention_one.h
constexpr std::int64_t kOneKeys = 1024;
constexpr std::uint32_t kJoinThreads = 256;
constexpr std::int64_t kMaxSplits = 256;

int mask_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kMaskF32;
    case DType::kF16:
      return kMaskF16;
    case DType::kBF16:
      return kMaskBF16;
    default:
      return kMaskBool;
  }
}

std::unique_ptr<Kernel> make_row_attention(const AttentionPlan& plan, GpuDevice& device) {
  const auto& shape =
      *std::find_if(std::begin(kRowKernels), std::end(kRowKernels), [&](const RowKernel& kernel) {
        return std::max(plan.problem.width, plan.problem.value_width) <= kernel.width;
      });
  const std::int64_t groups = plan.row_groups(shape.rows);
  // Enough groups that each multiprocessor has two.
  const std::int64_t each = device.tuning().get(
      Tunable::kGpuAttentionGroups,
      ShapeClass::of(plan.dtype, {groups, plan.problem.keys, plan.problem.width}), 2);
  const std::int64_t wanted = each * std::int64_t{device.limits().multiprocessors};
  const std::int64_t most = (plan.problem.keys + shape.keys - 1) / shape.keys;
  const std::int64_t splits =
      std::clamp<std::int64_t>(std::min(wanted / groups, most), 1, kMaxSplits);
  AttentionArguments base{};
  base.splits = static_cast<std::int32_t>(splits);
  base.split_unit = static_cast<std::int32_t>(shape.keys);
  base.tile_rows = static_cast<std::int32_t>(shape.rows);
  const Function& rows =
      device.function(fmt::format("attention_rows_{}_{}", shape.width, name(plan.dtype)));
  const Function& join = device.function(fmt::format("attention_join_{}", name(plan.dtype)));
  const std::size_t scratch =
      splits == 1
          ? 0
          : static_cast<std::size_t>(plan.rows() * splits * (plan.problem.value_width + 2)) *
                sizeof(float);
  return make_gpu_kernel(
      [plan, base, groups, &rows, &join](const KernelArguments& run, Encoder& encoder) {
        AttentionArguments arguments = base;
        arguments.problem = plan.with(run.inputs);
        arguments.out = run.outputs[0];
        arguments.out_strides = plan.out_strides;
        arguments.logsumexp = run.outputs[1];
        arguments.parts = run.scratch;
        encoder.dispatch(rows, {static_cast<std::uint32_t>(groups * base.splits)}, kRowThreads,
                         arguments);
        if (base.splits == 1) return;
        encoder.dispatch(join, {static_cast<std::uint32_t>(plan.rows())}, kJoinThreads, arguments);
      },
      scratch);
}

// One query a head and not many keys, in rows of packets but for where they begin.
bool suits_one(const AttentionPlan& plan, const DeviceLimits& limits) {
  const AttentionProblem& p = plan.problem;
  return p.queries == 1 && plan.mask_input < 0 && p.keys <= kOneKeys &&
         (p.width == 64 || p.width == 128) && p.value_width == p.width && plan.in_packets() &&
         plan.rows() <= 4 * std::int64_t{limits.multiprocessors};
}

// `preferred` but where an operand begins in the middle of a packet.
std::unique_ptr<Kernel> make_packet_kernel(std::unique_ptr<Kernel> preferred,
                                           std::unique_ptr<Kernel> other) {
  const std::size_t scratch = std::max(preferred->scratch_bytes(), other->scratch_bytes());
  return make_gpu_kernel(
      [preferred = std::shared_ptr<const Kernel>(std::move(preferred)),
       other = std::shared_ptr<const Kernel>(std::move(other))](const KernelArguments& run,
                                                                Encoder& encoder) {
        const bool aligned = std::all_of(run.inputs.begin(), run.inputs.begin() + 3, is_aligned);
        static_cast<const GpuKernel&>(aligned ? *preferred : *other).encode(run, encoder);
      },
      scratch);
}

std::unique_ptr<Kernel> make_one_attention(const AttentionPlan& plan, GpuDevice& device) {
  const Function& function =
      device.function(fmt::format("attention_one_{}_{}", plan.problem.width, name(plan.dtype)));
  return make_gpu_kernel([=, &function](const KernelArguments& run, Encoder& encoder) {
    AttentionArguments arguments{};
    arguments.problem = plan.with(run.inputs);
    arguments.out = run.outputs[0];
    arguments.out_strides = plan.out_strides;
    arguments.logsumexp = run.outputs[1];
    encoder.dispatch(function, {static_cast<std::uint32_t>(plan.rows())}, kOneThreads, arguments);
  });
}

// The kernel of attention_tiles.h for this; null if there is none.
const TileKernel* find_tile_kernel(const AttentionPlan& plan, const DeviceLimits& limits) {
  const AttentionProblem& p = plan.problem;
  if (size_of(plan.dtype) != 2 || p.queries < kLeastTileQueries) return nullptr;
  const TileKernel* best = nullptr;
  for (const TileKernel& kernel : kTileKernels) {
    if (std::max(p.width, p.value_width) > kernel.width) continue;
    if (best != nullptr && kernel.width > best->width) break;
    if (kernel.small && (best != nullptr || limits.max_group_bytes > kLeastGroupBytes)) continue;
    if (kernel.group_bytes(plan.mask_input >= 0) > limits.max_group_bytes) continue;
    best = &kernel;
    // Rows of larger groups share more of what is read; but each multiprocessor needs a group.
    if (plan.row_groups(kernel.rows()) >= limits.multiprocessors) break;
  }
  return best;
}

// The width of the kernel of attention_wide.h for this; 0 if there is none.
std::int64_t find_wide_width(const AttentionPlan& plan, const DeviceLimits& limits) {
  const AttentionProblem& p = plan.problem;
  if (!limits.wide_products || size_of(plan.dtype) != 2 || p.queries < kLeastTileQueries ||
      plan.mask_input >= 0 || !plan.in_packets()) {
    return 0;
  }
  for (const std::int64_t width : kWideWidths) {
    if (std::max(p.width, p.value_width) <= width) return width;
  }
  return 0;
}

// A kernel whose groups each have `rows` rows and `group_bytes` of memory.
std::unique_ptr<Kernel> make_block_attention(const AttentionPlan& plan, const Function& function,
                                             std::int64_t rows, std::int64_t group_bytes) {
  const auto groups = static_cast<std::uint32_t>(plan.row_groups(rows));
  const auto bytes = static_cast<std::uint32_t>(group_bytes);
  return make_gpu_kernel(
      [plan, groups, bytes, &function](const KernelArguments& run, Encoder& encoder) {
        AttentionArguments arguments{};
        arguments.problem = plan.with(run.inputs);
        arguments.out = run.outputs[0];
        arguments.out_strides = plan.out_strides;
        arguments.logsumexp = run.outputs[1];
        encoder.dispatch(function, {groups}, kTileThreads, arguments, bytes);
      });
}

std::unique_ptr<Kernel> make_wide_attention(const AttentionPlan& plan, std::int64_t width,
                                            GpuDevice& device) {
  const Function& function =
      device.function(fmt::format("attention_wide_{}_{}", width, name(plan.dtype)));
  constexpr std::int64_t kAlignment = 1024;
  return make_block_attention(plan, function, kWideRows,
                              kAlignment + kWideBlocks * 2 * width * kWideRows);
}

std::unique_ptr<Kernel> make_tile_attention(const AttentionPlan& plan, const TileKernel& kernel,
                                            GpuDevice& device) {
  const Function& function =
      device.function(fmt::format("attention_{}tiles_{}_{}_{}", kernel.small ? "small_" : "",
                                  kernel.width, kernel.tiles, name(plan.dtype)));
  return make_block_attention(plan, function, kernel.rows(),
                              kernel.group_bytes(plan.mask_input >= 0));
}

}  // namespace

HeadStrides head_strides(const Strides& strides) { return {strides[0], strides[1], strides[2]}; }

bool in_packets(const HeadStrides& strides, DType dtype) {
  const auto packet = static_cast<std::int64_t>(16 / size_of(dtype));
  return strides.batch % packet == 0 && strides.head % packet == 0 && strides.row % packet == 0;
}

AttentionPlan::AttentionPlan(const op::Attention& attention, std::span<const TensorLayout> inputs,
                             int optional)
    : dtype(inputs[0].dtype) {
  const Shape& q = inputs[0].shape;
  const Shape& k = inputs[1].shape;
  const auto narrow = [](std::int64_t n) { return static_cast<std::int32_t>(n); };
  problem.batch = narrow(q[0]);
  problem.heads = narrow(q[1]);
  problem.key_heads = narrow(k[1]);
  problem.queries = narrow(q[2]);
  problem.keys = narrow(k[2]);
  problem.width = narrow(q[3]);
  problem.value_width = narrow(inputs[2].shape[3]);
  problem.q_strides = head_strides(inputs[0].strides);
  problem.k_strides = head_strides(inputs[1].strides);
  problem.v_strides = head_strides(inputs[2].strides);
  problem.causal = attention.causal ? 1 : 0;
  problem.window = attention.window;
  problem.scale = attention.scale;
  if (attention.has_mask) {
    mask_input = optional++;
    const TensorLayout& layout = inputs[static_cast<std::size_t>(mask_input)];
    const Strides strides = broadcast_strides(layout, {q[0], q[1], q[2], k[2]});
    problem.mask_strides = head_strides(strides);
    problem.mask_key_stride = strides[3];
    problem.mask_type = mask_type(layout.dtype);
  }
  if (attention.has_key_length) {
    length_input = optional;
    problem.key_length_stride =
        broadcast_strides(inputs[static_cast<std::size_t>(length_input)], {q[0]})[0];
  }
}

AttentionProblem AttentionPlan::with(std::span<void* const> inputs) const {
  AttentionProblem p = problem;
  p.q = inputs[0];
  p.k = inputs[1];
  p.v = inputs[2];
  if (mask_input >= 0) p.mask = inputs[static_cast<std::size_t>(mask_input)];
  if (length_input >= 0) p.key_length = inputs[static_cast<std::size_t>(length_input)];
  return p;
}

bool AttentionPlan::in_packets() const {
  const auto packet = static_cast<std::int64_t>(16 / size_of(dtype));
  return problem.width % packet == 0 && problem.value_width % packet == 0 &&
         gpu::in_packets(problem.q_strides, dtype) && gpu::in_packets(problem.k_strides, dtype) &&
         gpu::in_packets(problem.v_strides, dtype);
}

bool AttentionPlan::empty() const {
  return problem.batch == 0 || problem.heads == 0 || problem.queries == 0;
}

std::unique_ptr<Kernel> make_attention(const KernelRequest& request, GpuDevice& device) {
  if (std::holds_alternative<op::AttentionBackward>(request.operation)) {
    return make_attention_backward(request, device);
  }
  AttentionPlan plan(std::get<op::Attention>(request.operation), request.inputs, 3);
  plan.out_strides = head_strides(request.outputs[0].strides);
  if (plan.empty()) return make_gpu_kernel([](const KernelArguments&, Encoder&) {});
  if (suits_one(plan, device.limits())) {
    return make_packet_kernel(make_one_attention(plan, device), make_row_attention(plan, device));
  }
  const TileKernel* tiles = find_tile_kernel(plan, device.limits());
  std::unique_ptr<Kernel> any = tiles != nullptr ? make_tile_attention(plan, *tiles, device)
                                                 : make_row_attention(plan, device);
  if (const std::int64_t width = find_wide_width(plan, device.limits()); width > 0) {
    return make_packet_kernel(make_wide_attention(plan, width, device), std::move(any));
  }
  return any;
}

}  // namespace metal_candle::backend::gpu
