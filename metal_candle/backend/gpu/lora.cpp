// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Lora and LoraLinear. A few rows take one launch of our own, after the library's product with the
// weight if there is one; more rows in f32, two of our own, as the library reaches a third of the
// memory's rate with such narrow matrices, and has to be asked how for each shape; others take the
// library's products, and so does who wants the product with a.
//
// Inputs: x kContiguous; weight, a and b kMatrix; bias kContiguous.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "metal_candle/backend/batch.h"
#include "metal_candle/backend/gpu/gpu_kernel.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/rows.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kThreads = 256;  // Of adding a bias.
// As kernels/lora.h has it.
constexpr std::int64_t kMaxRank = 16;
constexpr std::int64_t kMostRowsThreads = 512;
constexpr std::uint32_t kRowsGroupBytes = kMostRowsThreads / 32 * kMaxRank * sizeof(float);
// Beyond this many rows the library's products are quicker than making x @ a in every group.
constexpr std::int64_t kFewRows = 8;
constexpr std::size_t kScratchAlignment = 256;
// Of a grid in its second dimension, 16-bit unsigned.
constexpr std::int64_t kMostGroups = 65535;
// As kernels/lora_many.h has them.
constexpr std::int64_t kLoraRankAtOnce = 8, kLoraMaxManyRank = 64;
constexpr std::uint32_t kLoraDownThreads = 256, kLoraUpThreads = 256;
constexpr std::int64_t kLoraUpPackets = 64, kLoraUpLanes = kLoraUpThreads / kLoraUpPackets;

struct LoraPlan {
  std::int64_t rows, depth, columns, rank;
  DType dtype;
  MatmulDescription::Matrix a, b, weight;
  float scale;
  bool has_weight, has_bias;
  // Which inputs a and b are.
  std::size_t a_input, b_input;
};

MatmulDescription::Matrix matrix_of(const TensorLayout& layout) {
  return {layout.strides[0], layout.strides[1], 0};
}

LoraPlan make_plan(const KernelRequest& request) {
  LoraPlan plan{};
  const TensorLayout& x = request.inputs[0];
  if (const auto* linear = std::get_if<op::LoraLinear>(&request.operation)) {
    plan.has_weight = true;
    plan.has_bias = linear->has_bias;
    plan.scale = linear->scale;
    plan.weight = matrix_of(request.inputs[1]);
    plan.a_input = 2;
  } else {
    plan.scale = std::get<op::Lora>(request.operation).scale;
    plan.a_input = 1;
  }
  plan.b_input = plan.a_input + 1;
  const TensorLayout& a = request.inputs[plan.a_input];
  const TensorLayout& b = request.inputs[plan.b_input];
  plan.a = matrix_of(a);
  plan.b = matrix_of(b);
  plan.rows = num_elements(leading(x.shape, 1));
  plan.depth = x.shape.back();
  plan.rank = a.shape[1];
  plan.columns = b.shape[1];
  plan.dtype = x.dtype;
  return plan;
}

MatmulDescription product_of(const LoraPlan& plan, std::int64_t depth, std::int64_t columns,
                             const MatmulDescription::Matrix& right) {
  MatmulDescription d;
  d.m = plan.rows;
  d.n = columns;
  d.k = depth;
  d.a = {depth, 1, 0};
  d.b = right;
  d.out_row_stride = columns;
  d.operands = plan.dtype;
  d.out = plan.dtype;
  return d;
}

// x @ weight + bias, by the library, or where it does not add the bias, f32 sums in scratch to
// which a kernel does.
class Base {
 public:
  Base(const LoraPlan& plan, GpuDevice& device) : has_bias_(plan.has_bias) {
    if (!plan.has_weight) return;
    MatmulDescription d = product_of(plan, plan.depth, plan.columns, plan.weight);
    d.has_bias = has_bias_;
    product_ = device.make_matmul(d);
    if (product_) return;
    d.has_bias = false;
    if (has_bias_) {
      d.out = DType::kF32;
      add_bias_ = &device.function(fmt::format("finish_product_{}", name(plan.dtype)));
      finish_.count = plan.rows * plan.columns;
      finish_.columns = plan.columns;
      sums_bytes_ =
          round_up(static_cast<std::size_t>(finish_.count) * sizeof(float), kScratchAlignment);
    }
    product_ = require_matmul(device, d, "lora");
  }

  /// There is a weight.
  explicit operator bool() const { return product_ != nullptr; }
  [[nodiscard]] std::size_t scratch_bytes() const {
    return product_ ? sums_bytes_ + product_->scratch_bytes() : 0;
  }
  void encode(const KernelArguments& arguments, void* scratch, Encoder& encoder) const {
    void* const out = add_bias_ != nullptr ? scratch : arguments.outputs[0];
    const void* const bias = has_bias_ ? arguments.inputs[4] : nullptr;
    encoder.matmul(*product_, {.a = arguments.inputs[0],
                               .b = arguments.inputs[1],
                               .bias = add_bias_ != nullptr ? nullptr : bias,
                               .c = out,
                               .out = out,
                               .scratch = static_cast<std::byte*>(scratch) + sums_bytes_});
    if (add_bias_ == nullptr) return;
    FinishProductArguments finish = finish_;
    finish.sums = scratch;
    finish.bias = bias;
    finish.out = arguments.outputs[0];
    encoder.dispatch(*add_bias_, {groups_for(finish.count, 4 * kThreads)}, kThreads, finish);
  }

 private:
  bool has_bias_;
  std::shared_ptr<const Matmul> product_;
  const Function* add_bias_ = nullptr;
  FinishProductArguments finish_{};
  std::size_t sums_bytes_ = 0;
};

// lora_rows, in one of the ways to read a.
struct RowsLaunch {
  const Function* function;
  std::uint32_t threads;
};

RowsLaunch rows_launch(const LoraPlan& plan, LoraForm form, GpuDevice& device) {
  const std::int64_t width = packet_width(plan.dtype);
  std::string_view name_of_form = "any";
  // Of loads that a thread has under way at once.
  std::int64_t steps = plan.depth;
  if (form == LoraForm::kColumns) {
    name_of_form = "columns";
    steps = plan.depth / width;
  } else if (form == LoraForm::kPackets) {
    name_of_form = "packets";
    steps = plan.depth * plan.rank / width / 4;
  }
  const std::int64_t most = std::min<std::int64_t>(kMostRowsThreads, device.limits().max_threads);
  const std::int64_t threads = std::clamp((steps + 31) / 32 * 32, std::int64_t{128}, most);
  const int max_rank = plan.rank <= 8 ? 8 : 16;
  return {
      &device.function(fmt::format("lora_rows_{}_{}_{}", name_of_form, max_rank, name(plan.dtype))),
      static_cast<std::uint32_t>(threads)};
}

// How a may be read if it, and x, begin where a packet may.
LoraForm form_of(const LoraPlan& plan) {
  const std::int64_t width = packet_width(plan.dtype);
  if (plan.a.row_stride == 1 && plan.depth % width == 0 && plan.a.column_stride % width == 0) {
    return LoraForm::kColumns;
  }
  const bool dense = plan.a.column_stride == 1 && plan.a.row_stride == plan.rank;
  const std::int64_t packets = plan.rank / width;  // Of a row.
  const bool divides = packets == 1 || packets == 2 || packets == 4;
  return dense && plan.rank % width == 0 && divides ? LoraForm::kPackets : LoraForm::kAny;
}

std::unique_ptr<Kernel> make_few_rows(const LoraPlan& plan, GpuDevice& device) {
  const Base base(plan, device);
  const RowsLaunch aligned = rows_launch(plan, form_of(plan), device);
  const RowsLaunch unaligned = rows_launch(plan, LoraForm::kAny, device);
  return make_gpu_kernel(
      [plan, base, aligned, unaligned](const KernelArguments& arguments, Encoder& encoder) {
        if (base) base.encode(arguments, arguments.scratch, encoder);
        const void* const x = arguments.inputs[0];
        const void* const a = arguments.inputs[plan.a_input];
        const RowsLaunch& launch = is_aligned(x) && is_aligned(a) ? aligned : unaligned;
        const LoraRowsArguments rows{.x = x,
                                     .a = a,
                                     .b = arguments.inputs[plan.b_input],
                                     .base = base ? arguments.outputs[0] : nullptr,
                                     .out = arguments.outputs[0],
                                     .a_row_stride = plan.a.row_stride,
                                     .a_column_stride = plan.a.column_stride,
                                     .b_row_stride = plan.b.row_stride,
                                     .b_column_stride = plan.b.column_stride,
                                     .depth = checked_count(plan.depth),
                                     .columns = checked_count(plan.columns),
                                     .scale = plan.scale,
                                     .rank = static_cast<std::uint32_t>(plan.rank)};
        encoder.dispatch(
            *launch.function,
            {groups_for(plan.columns, launch.threads), static_cast<std::uint32_t>(plan.rows)},
            launch.threads, rows, kRowsGroupBytes);
      },
      base.scratch_bytes());
}

std::unique_ptr<Kernel> make_many_rows(const LoraPlan& plan, bool wants_low, GpuDevice& device) {
  const Base base(plan, device);
  MatmulDescription d = product_of(plan, plan.depth, plan.rank, plan.a);
  d.alpha = plan.scale;
  const std::shared_ptr<const Matmul> down = require_matmul(device, d, "lora");
  d = product_of(plan, plan.rank, plan.columns, plan.b);
  d.beta = base ? 1.0f : 0.0f;
  const std::shared_ptr<const Matmul> up = require_matmul(device, d, "lora");
  const std::size_t low_bytes =
      wants_low ? 0
                : round_up(static_cast<std::size_t>(plan.rows * plan.rank) * size_of(plan.dtype),
                           kScratchAlignment);
  const std::size_t library =
      std::max({base.scratch_bytes(), down->scratch_bytes(), up->scratch_bytes()});
  return make_gpu_kernel(
      [plan, base, down, up, wants_low, low_bytes](const KernelArguments& arguments,
                                                   Encoder& encoder) {
        void* const low = wants_low ? arguments.outputs[1] : arguments.scratch;
        void* const scratch = static_cast<std::byte*>(arguments.scratch) + low_bytes;
        if (base) base.encode(arguments, scratch, encoder);
        encoder.matmul(*down, {.a = arguments.inputs[0],
                               .b = arguments.inputs[plan.a_input],
                               .c = low,
                               .out = low,
                               .scratch = scratch});
        encoder.matmul(*up, {.a = low,
                             .b = arguments.inputs[plan.b_input],
                             .c = arguments.outputs[0],
                             .out = arguments.outputs[0],
                             .scratch = scratch});
      },
      low_bytes + library);
}

// What our kernels of many rows can do, and are quicker with: f32, matrices that lie either way.
// They read x again for every eight columns of a.
bool suits_our_kernels(const LoraPlan& plan) {
  constexpr std::int64_t kRowsOfAnyRank = 256;
  const auto lies = [](const MatmulDescription::Matrix& m) {
    return m.row_stride == 1 || m.column_stride == 1;
  };
  return plan.dtype == DType::kF32 && plan.rank > 0 && plan.rank <= kLoraMaxManyRank &&
         (plan.rank <= kMaxRank || plan.rows <= kRowsOfAnyRank) && plan.depth > 0 && lies(plan.a) &&
         lies(plan.b);
}

// lora_down and lora_up, with few rows a group where more would leave the device idle.
class ManyRowsLaunch {
 public:
  ManyRowsLaunch(const LoraPlan& plan, GpuDevice& device) : plan_(plan) {
    const auto device_groups = static_cast<std::int64_t>(device.limits().multiprocessors);
    const std::uint32_t ranks = groups_for(plan.rank, kLoraRankAtOnce);
    rows_down_ = groups_for(plan.rows, 8) * ranks >= device_groups ? 8 : 2;
    down_grid_ = {groups_for(plan.rows, rows_down_), ranks, 1};
    const std::int64_t groups = std::int64_t{down_grid_.x} * ranks;
    const std::int64_t wanted = kGroupsOfMultiprocessor * device_groups / groups;
    const std::int64_t most = std::min(plan.depth / kLeastPart, kMostParts);
    const std::int64_t parts = std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(most, 1));
    chunk_ = round_up(groups_for(plan.depth, parts), 4);
    down_grid_.z = groups_for(plan.depth, static_cast<std::int64_t>(chunk_));

    const std::uint32_t tiles = groups_for(plan.columns, 4 * kLoraUpPackets);
    rows_up_ =
        std::int64_t{tiles} * groups_for(plan.rows, 4 * kLoraUpLanes) >= device_groups ? 4 : 1;
    up_grid_ = {tiles, groups_for(plan.rows, rows_up_ * kLoraUpLanes), 1};

    down_any_ = &down(device, "any");
    const auto packets = [](std::int64_t elements) { return elements % 4 == 0; };
    if (packets(plan.depth) && plan.a.row_stride == 1 && packets(plan.a.column_stride)) {
      down_aligned_ = &down(device, "columns");
    } else if (packets(plan.depth) && plan.a.column_stride == 1 && packets(plan.rank) &&
               packets(plan.a.row_stride)) {
      down_aligned_ = &down(device, "packets");
    }
    up_any_ = &up(device, "any");
    if (plan.b.column_stride == 1 && packets(plan.b.row_stride) && packets(plan.columns)) {
      up_aligned_ = &up(device, "packets");
    }
  }

  [[nodiscard]] std::size_t scratch_bytes() const {
    return static_cast<std::size_t>(plan_.rows * plan_.rank) * down_grid_.z * sizeof(float);
  }

  /// adds: to what is in the output.
  void encode(const KernelArguments& run, void* low, bool adds, Encoder& encoder) const {
    const LoraManyArguments arguments{.x = static_cast<const float*>(run.inputs[0]),
                                      .a = static_cast<const float*>(run.inputs[plan_.a_input]),
                                      .b = static_cast<const float*>(run.inputs[plan_.b_input]),
                                      .low = static_cast<float*>(low),
                                      .out = static_cast<float*>(run.outputs[0]),
                                      .a_row_stride = plan_.a.row_stride,
                                      .a_column_stride = plan_.a.column_stride,
                                      .b_row_stride = plan_.b.row_stride,
                                      .b_column_stride = plan_.b.column_stride,
                                      .rows = checked_count(plan_.rows),
                                      .depth = checked_count(plan_.depth),
                                      .columns = checked_count(plan_.columns),
                                      .adds = adds ? 1u : 0u,
                                      .parts = down_grid_.z,
                                      .chunk = static_cast<std::uint32_t>(chunk_),
                                      .scale = plan_.scale,
                                      .rank = static_cast<std::uint32_t>(plan_.rank)};
    const bool reads_packets = is_aligned(arguments.x) && is_aligned(arguments.a);
    encoder.dispatch(reads_packets && down_aligned_ ? *down_aligned_ : *down_any_, down_grid_,
                     kLoraDownThreads, arguments);
    const bool writes_packets = is_aligned(arguments.b) && is_aligned(arguments.out);
    encoder.dispatch(writes_packets && up_aligned_ ? *up_aligned_ : *up_any_, up_grid_,
                     kLoraUpThreads, arguments);
  }

 private:
  static constexpr std::int64_t kGroupsOfMultiprocessor = 4;
  static constexpr std::int64_t kLeastPart = 512;  // Of the depth.
  static constexpr std::int64_t kMostParts = 16;

  const Function& down(GpuDevice& device, std::string_view form) const {
    return device.function(fmt::format("lora_down_{}_{}", form, rows_down_));
  }
  const Function& up(GpuDevice& device, std::string_view form) const {
    return device.function(fmt::format("lora_up_{}_{}", form, rows_up_));
  }

  LoraPlan plan_;
  std::int64_t rows_down_, rows_up_;
  std::size_t chunk_;
  Grid down_grid_, up_grid_;
  const Function* down_any_;
  const Function* down_aligned_ = nullptr;
  const Function* up_any_;
  const Function* up_aligned_ = nullptr;
};

}  // namespace

std::unique_ptr<Kernel> make_lora(const KernelRequest& request, GpuDevice& device) {
  const LoraPlan plan = make_plan(request);
  const bool wants_low = request.outputs.size() > 1 && request.needed[1];
  if (plan.rows == 0 || (plan.columns == 0 && !wants_low)) {
    return make_gpu_kernel([](const KernelArguments&, Encoder&) {});
  }
  const bool counts_fit = plan.depth * kMaxRank <= INT32_MAX && plan.columns <= INT32_MAX;
  if (plan.rows <= kFewRows && plan.rank <= kMaxRank && counts_fit && !wants_low) {
    return make_few_rows(plan, device);
  }
  if (suits_our_kernels(plan) && counts_fit && plan.rows <= kMostGroups && !wants_low) {
    const ManyRowsLaunch launch(plan, device);
    const Base base(plan, device);
    const std::size_t base_bytes = round_up(base.scratch_bytes(), kScratchAlignment);
    return make_gpu_kernel(
        [launch, base, base_bytes](const KernelArguments& run, Encoder& encoder) {
          const bool adds{base};
          if (adds) base.encode(run, run.scratch, encoder);
          launch.encode(run, static_cast<std::byte*>(run.scratch) + base_bytes, adds, encoder);
        },
        base_bytes + launch.scratch_bytes());
  }
  return make_many_rows(plan, wants_low, device);
}

}  // namespace metal_candle::backend::gpu
