// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention. A kernel sums each row's dout * out; then one goes over blocks of
// queries for dq, and one over blocks of keys for dk and dv, both computing scores again, so that
// each sum is made in one order. Where there are fewer blocks of keys than multiprocessors, the
// query heads of a key head are divided, and their parts summed in order.
//
// Inputs: q, k, v, output and doutput kDenseRows, logsumexp kContiguous, mask and key_length kAny.
// Nothing may be overwritten. Rows of dv may lie anywhere.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/gpu/attention.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = 128;
constexpr std::uint32_t kStatisticsRows = 32;  // Of a group of twice kThreads.
constexpr std::uint32_t kSumThreads = 256;

// attention_gradient.h, by width: rows of a group.
struct RowKernel {
  std::int64_t width, rows;
};
constexpr RowKernel kRowKernels[] = {{64, 4}, {128, 4}, {256, 4}, {512, 2}};
// attention_gradient_tiles.h and attention_gradient_wide.h: rows of a group, and streamed rows of a
// load, in how many buffers.
struct TileKernel {
  std::int64_t width, rows, stream, stages;
  enum class Kind : std::uint32_t {
    kGeneral,
    kSmall,  // Only there for devices with kLeastGroupBytes.
    kWide,   // Only there for devices with wide products; takes no mask, and rows of packets.
  } kind = Kind::kGeneral;
  std::uint32_t threads = kThreads;
  bool apart = false;  // dk and dv are kernels of their own.

  [[nodiscard]] bool is(Kind which) const { return kind == which; }
  [[nodiscard]] std::int64_t group_bytes(bool has_mask) const {
    if (is(Kind::kWide)) return 1024 + 4 * width * (rows + stages * stream) + 8 * stages * stream;
    const std::int64_t columns = std::min<std::int64_t>(stream, 32);
    return 4 * (width + 8) * (rows + stages * stream) + 8 * stages * stream +
           (has_mask ? 4 * rows * columns : 0);
  }
};
constexpr TileKernel kTileKernels[] = {
    {64, 64, 64, 2, TileKernel::Kind::kWide},
    {64, 128, 64, 2},
    {64, 64, 16, 1, TileKernel::Kind::kSmall},
    {128, 64, 64, 2, TileKernel::Kind::kWide},
    {128, 64, 32, 2},
    {128, 32, 16, 1, TileKernel::Kind::kSmall, 64, true},
    {256, 64, 16, 1, TileKernel::Kind::kGeneral, kThreads, true}};
// Groups of a wide kernel that there should be for each multiprocessor, which has two or three at
// a time: more, since their work differs.
constexpr std::int64_t kWideGroups = 6;

struct BackwardPlan {
  AttentionPlan attention;
  HeadStrides dout_strides{}, dk_strides{}, dv_strides{};
  bool needed[3] = {};
  bool in_packets = false;  // Kernels are for rows of packets.
  std::int64_t rows = 0;    // Of a group.
  std::uint32_t threads = kThreads;
  std::uint32_t group_bytes = 0;
  std::int64_t splits = 1;
  const Function* statistics = nullptr;
  // Null where nothing is left for them to do.
  const Function* dq = nullptr;
  const Function* keys[2] = {};  // dk and dv, together or one each.
  const Function* sum = nullptr;

  [[nodiscard]] std::int64_t key_groups() const {
    const AttentionProblem& p = attention.problem;
    return attention.shares() * ((p.keys + rows - 1) / rows) * splits;
  }
  /// Elements of dk (0) or dv (1).
  [[nodiscard]] std::int64_t elements(int which) const {
    const AttentionProblem& p = attention.problem;
    return attention.shares() * p.keys * (which == 0 ? p.width : p.value_width);
  }
  [[nodiscard]] std::size_t statistics_bytes() const {
    return round_up(static_cast<std::size_t>(attention.rows()) * 2 * sizeof(float), 256);
  }
  /// Of the parts of dk or dv.
  [[nodiscard]] std::size_t part_bytes(int which) const {
    if (splits == 1 || !needed[1 + which]) return 0;
    return round_up(static_cast<std::size_t>(splits * elements(which)) * sizeof(float), 256);
  }
  [[nodiscard]] std::size_t scratch_bytes() const {
    return statistics_bytes() + part_bytes(0) + part_bytes(1);
  }
};

const TileKernel* find_tile_kernel(const AttentionPlan& plan, const DeviceLimits& limits,
                                   bool in_packets) {
  if (size_of(plan.dtype) != 2) return nullptr;
  for (const TileKernel& kernel : kTileKernels) {
    if (std::max(plan.problem.width, plan.problem.value_width) > kernel.width) continue;
    if (kernel.is(TileKernel::Kind::kSmall) && limits.max_group_bytes > kLeastGroupBytes) continue;
    if (kernel.is(TileKernel::Kind::kWide) &&
        (!limits.wide_products || plan.mask_input >= 0 || !in_packets)) {
      continue;
    }
    if (kernel.group_bytes(plan.mask_input >= 0) <= limits.max_group_bytes) return &kernel;
    if (limits.max_group_bytes > kLeastGroupBytes) return nullptr;
  }
  return nullptr;
}

// 16-bit types have the widest of the kernels without tensor cores only, except where groups are
// small.
const RowKernel& find_row_kernel(const AttentionPlan& plan, const DeviceLimits& limits) {
  if (plan.dtype != DType::kF32 && limits.max_group_bytes > kLeastGroupBytes) {
    return std::end(kRowKernels)[-1];
  }
  return *std::find_if(std::begin(kRowKernels), std::end(kRowKernels), [&](const auto& kernel) {
    return std::max(plan.problem.width, plan.problem.value_width) <= kernel.width;
  });
}

void choose_kernels(BackwardPlan& plan, GpuDevice& device, bool in_packets) {
  const std::string_view type = name(plan.attention.dtype);
  const auto function = [&](std::string_view what, std::string_view kind, std::int64_t width) {
    return &device.function(fmt::format("attention_{}_{}_{}_{}", what, kind, width, type));
  };
  plan.statistics = &device.function(fmt::format("attention_statistics_{}", type));
  const bool keys_needed = plan.needed[1] || plan.needed[2];
  const TileKernel* tiles = find_tile_kernel(plan.attention, device.limits(), in_packets);
  if (tiles == nullptr) {
    const RowKernel& kernel = find_row_kernel(plan.attention, device.limits());
    plan.rows = kernel.rows;
    if (plan.needed[0]) plan.dq = function("dq", "rows", kernel.width);
    if (keys_needed) plan.keys[0] = function("dkv", "rows", kernel.width);
    return;
  }
  plan.rows = tiles->rows;
  plan.threads = tiles->threads;
  plan.group_bytes = static_cast<std::uint32_t>(tiles->group_bytes(plan.attention.mask_input >= 0));
  const bool small = tiles->is(TileKernel::Kind::kSmall);
  const bool wide = tiles->is(TileKernel::Kind::kWide);
  const std::string_view kind = wide ? "wide" : "tiles";
  plan.in_packets = wide;
  if (plan.needed[0]) plan.dq = function(small ? "small_dq" : "dq", kind, tiles->width);
  if (!keys_needed) return;
  if (!tiles->apart) {
    plan.keys[0] = function(small ? "small_dkv" : "dkv", kind, tiles->width);
  } else {
    if (plan.needed[1]) plan.keys[0] = function(small ? "small_dk" : "dk", kind, tiles->width);
    if (plan.needed[2]) plan.keys[1] = function(small ? "small_dv" : "dv", kind, tiles->width);
  }
  const std::int64_t heads = plan.attention.problem.heads / plan.attention.problem.key_heads;
  const std::int64_t groups = std::max<std::int64_t>(plan.key_groups(), 1);
  const std::int64_t wanted = device.limits().multiprocessors * (wide ? kWideGroups : 1);
  plan.splits = std::min(heads, (wanted + groups - 1) / groups);
  if (plan.splits > 1) plan.sum = &device.function(fmt::format("attention_sum_parts_{}", type));
}

void encode_backward(const BackwardPlan& plan, const KernelArguments& run, Encoder& encoder) {
  const AttentionPlan& attention = plan.attention;
  AttentionGradientArguments arguments{};
  arguments.problem = attention.with(run.inputs);
  arguments.out = run.inputs[3];
  arguments.logsumexp = run.inputs[4];
  arguments.dout = run.inputs[5];
  arguments.out_strides = attention.out_strides;
  arguments.dout_strides = plan.dout_strides;
  auto* scratch = static_cast<std::byte*>(run.scratch);
  arguments.statistics = scratch;
  arguments.dk_parts = scratch + plan.statistics_bytes();
  arguments.dv_parts = scratch + plan.statistics_bytes() + plan.part_bytes(0);
  arguments.dq = run.outputs[0];
  arguments.dk = run.outputs[1];
  arguments.dv = run.outputs[2];
  arguments.dv_strides = plan.dv_strides;
  arguments.splits = static_cast<std::int32_t>(plan.splits);
  encoder.dispatch(*plan.statistics, {groups_for(attention.rows(), kStatisticsRows)}, 2 * kThreads,
                   arguments);
  encoder.concurrently(true);
  if (plan.dq != nullptr) {
    encoder.dispatch(*plan.dq, {static_cast<std::uint32_t>(attention.row_groups(plan.rows))},
                     plan.threads, arguments, plan.group_bytes);
  }
  for (const Function* keys : plan.keys) {
    if (keys == nullptr) continue;
    encoder.dispatch(*keys, {static_cast<std::uint32_t>(plan.key_groups())}, plan.threads,
                     arguments, plan.group_bytes);
  }
  encoder.concurrently(false);
  if (plan.splits == 1) return;
  encoder.concurrently(true);
  for (int which = 0; which < 2; ++which) {
    if (!plan.needed[1 + which]) continue;
    const std::int64_t elements = plan.elements(which);
    const AttentionProblem& p = attention.problem;
    const SumPartsArguments sum{which == 0 ? arguments.dk_parts : arguments.dv_parts,
                                run.outputs[static_cast<std::size_t>(1 + which)],
                                which == 0 ? plan.dk_strides : plan.dv_strides,
                                elements,
                                arguments.splits,
                                p.key_heads,
                                p.keys,
                                which == 0 ? p.width : p.value_width};
    encoder.dispatch(*plan.sum, {groups_for(elements, kSumThreads)}, kSumThreads, sum);
  }
  encoder.concurrently(false);
}

}  // namespace

std::unique_ptr<Kernel> make_attention_backward(const KernelRequest& request, GpuDevice& device) {
  const auto& operation = std::get<op::AttentionBackward>(request.operation);
  BackwardPlan plan{AttentionPlan(operation.forward, request.inputs, 6)};
  plan.attention.out_strides = head_strides(request.inputs[3].strides);
  plan.dk_strides = head_strides(request.outputs[1].strides);
  plan.dv_strides = head_strides(request.outputs[2].strides);
  plan.dout_strides = head_strides(request.inputs[5].strides);
  std::copy_n(request.needed.begin(), 3, plan.needed);
  if (plan.attention.empty()) {
    std::size_t bytes[3];
    for (std::size_t i = 0; i < 3; ++i) {
      bytes[i] = TensorSpec{request.outputs[i].shape, request.outputs[i].dtype}.bytes();
    }
    return make_gpu_kernel(
        [bytes = std::to_array(bytes), plan](const KernelArguments& run, Encoder& encoder) {
          for (std::size_t i = 0; i < 3; ++i) {
            if (plan.needed[i]) encoder.zero(run.outputs[i], bytes[i]);
          }
        });
  }
  BackwardPlan any = plan;
  choose_kernels(any, device, false);
  choose_kernels(
      plan, device,
      plan.attention.in_packets() && in_packets(plan.dout_strides, plan.attention.dtype));
  const std::size_t scratch = std::max(plan.scratch_bytes(), any.scratch_bytes());
  return make_gpu_kernel(
      [plan, any](const KernelArguments& run, Encoder& encoder) {
        const bool aligned = std::all_of(run.inputs.begin(), run.inputs.begin() + 3, is_aligned) &&
                             is_aligned(run.inputs[5]);
        encode_backward(plan.in_packets && !aligned ? any : plan, run, encoder);
      },
      scratch);
}

}  // namespace metal_candle::backend::gpu
