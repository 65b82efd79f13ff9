// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Scaled-dot-product attention, tile by tile with a running softmax (Dao et al., "FlashAttention",
// 2022), so that no matrix of all scores exists. Few rows over many keys, as in decoding, are split
// over the keys as well, and the parts joined afterwards.
//
// Inputs: q, k and v kDenseRows, mask and key_length kAny. Nothing may be overwritten.
#include "metal_candle/backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "metal_candle/backend/cpu/batch.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/rows.h"
#include "metal_candle/backend/cpu/workspace.h"

namespace metal_candle::backend::cpu {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Keys of a split, and the least number of units of work to split for.
constexpr std::int64_t kSplitKeys = 512;
constexpr std::int64_t kManyUnits = 16;

struct ForwardPlan {
  AttentionPlan attention;
  std::int64_t splits = 1;

  [[nodiscard]] std::int64_t units() const {
    return attention.batch * attention.key_heads * attention.row_tiles();
  }
  // A row of a part: maximum, sum, weighted values.
  [[nodiscard]] std::int64_t part_width() const { return attention.value_width + 2; }
  [[nodiscard]] std::int64_t all_rows() const {
    return attention.batch * attention.heads * attention.queries;
  }
};

// Rows [row, row + rows) of a group over keys within [first, last): weighted values, not yet
// divided by the sums.
void attend(const AttentionPlan& plan, const AttentionGroup& group, std::int64_t row,
            std::int64_t rows, KeyRange keys, RunningSoftmax* running, float* values) {
  Workspace workspace;
  float* const query_rows = workspace.take<float>(rows * plan.width);
  float* const scores = workspace.take<float>(rows * kKeyTile);
  const Matrix queries = group.queries(row, row + rows, query_rows);
  std::fill_n(running, rows, RunningSoftmax{kLowest, 0});
  std::fill_n(values, rows * plan.value_width, 0.0f);
  for (std::int64_t j = keys.begin; j < keys.end; j += kKeyTile) {
    const std::int64_t count = std::min(kKeyTile, keys.end - j);
    group.scores(queries, row, rows, j, count, scores);
    for (std::int64_t r = 0; r < rows; ++r) {
      const float correction = softmax_piece(scores + r * kKeyTile, count, running[r]);
      if (correction != 1) scale_row(values + r * plan.value_width, plan.value_width, correction);
    }
    gemm_block({scores, DType::kF32, kKeyTile, 1}, group.value(j), rows, plan.value_width, count,
               values, plan.value_width, true);
  }
}

void write_row(const AttentionPlan& plan, std::int64_t number, RunningSoftmax running,
               const float* values, const KernelArguments& arguments) {
  if (arguments.outputs[0]) {
    narrow_row(values, plan.value_width, running.sum == 0 ? 0.0f : 1.0f / running.sum, plan.dtype,
               offset_data(arguments.outputs[0], number * plan.value_width, plan.dtype));
  }
  if (arguments.outputs[1]) {
    static_cast<float*>(arguments.outputs[1])[number] =
        running.sum == 0 ? kLowest : running.max + std::log(running.sum);
  }
}

// Computes unit = (batch, key head, tile of rows), or the part of it that `split` says.
void run_unit(const ForwardPlan& plan, const KernelArguments& arguments, std::int64_t unit,
              std::int64_t split) {
  const AttentionPlan& p = plan.attention;
  const std::int64_t tiles = p.row_tiles();
  const std::int64_t head = unit / tiles % p.key_heads, batch = unit / tiles / p.key_heads;
  const AttentionGroup group(p, arguments, batch, head);
  const std::int64_t row = unit % tiles * kRowTile;
  const std::int64_t rows = std::min(kRowTile, p.rows() - row);
  KeyRange keys = group.range_of_rows(row, row + rows);
  if (plan.splits > 1) {
    keys = {std::max(keys.begin, split * kSplitKeys), std::min(keys.end, (split + 1) * kSplitKeys)};
  }
  Workspace workspace;
  auto* const running = workspace.take<RunningSoftmax>(rows);
  float* const values = workspace.take<float>(rows * p.value_width);
  attend(p, group, row, rows, keys, running, values);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t number = group.row_number(row + r);
    const float* const line = values + r * p.value_width;
    if (plan.splits == 1) {
      write_row(p, number, running[r], line, arguments);
      continue;
    }
    float* const part =
        static_cast<float*>(arguments.scratch) + (number * plan.splits + split) * plan.part_width();
    part[0] = running[r].max;
    part[1] = running[r].sum;
    std::copy_n(line, p.value_width, part + 2);
  }
}

void join_parts(const ForwardPlan& plan, const KernelArguments& arguments, std::int64_t number) {
  const std::int64_t width = plan.attention.value_width;
  const float* const parts =
      static_cast<const float*>(arguments.scratch) + number * plan.splits * plan.part_width();
  RunningSoftmax running{kLowest, 0};
  for (std::int64_t s = 0; s < plan.splits; ++s) {
    running.max = std::max(running.max, parts[s * plan.part_width()]);
  }
  Workspace workspace;
  float* const values = workspace.take<float>(width);
  std::fill_n(values, width, 0.0f);
  for (std::int64_t s = 0; s < plan.splits; ++s) {
    const float* const part = parts + s * plan.part_width();
    if (part[0] == kLowest) continue;
    const float weight = std::exp(part[0] - running.max);
    running.sum += weight * part[1];
    for (std::int64_t i = 0; i < width; ++i) values[i] += weight * part[2 + i];
  }
  write_row(plan.attention, number, running, values, arguments);
}

void run_attention(const ForwardPlan& plan, const KernelArguments& arguments) {
  parallel_for(plan.units() * plan.splits, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      run_unit(plan, arguments, i / plan.splits, i % plan.splits);
    }
  });
  if (plan.splits == 1) return;
  constexpr std::int64_t kRowsPerChunk = 64;
  parallel_for(plan.all_rows(), kRowsPerChunk, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t number = begin; number < end; ++number) join_parts(plan, arguments, number);
  });
}

}  // namespace

std::unique_ptr<Kernel> make_attention(const KernelRequest& request) {
  if (std::holds_alternative<op::AttentionBackward>(request.operation)) {
    return make_attention_backward(request);
  }
  const auto& operation = std::get<op::Attention>(request.operation);
  ForwardPlan plan{AttentionPlan(operation, request.inputs, 3)};
  std::size_t scratch = 0;
  if (plan.attention.rows() <= 16 && plan.units() < kManyUnits) {
    plan.splits = std::max<std::int64_t>(1, (plan.attention.keys + kSplitKeys - 1) / kSplitKeys);
  }
  if (plan.splits > 1) {
    scratch =
        static_cast<std::size_t>(plan.all_rows() * plan.splits * plan.part_width()) * sizeof(float);
  }
  return make_cpu_kernel(
      [plan](const KernelArguments& arguments) { run_attention(plan, arguments); }, scratch);
}

}  // namespace metal_candle::backend::cpu
