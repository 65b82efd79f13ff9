// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The gradient of attention. Scores are computed again from logsumexp, tile by tile: once over rows
// for dq, once over keys for dk and dv, so that each sum is made by one thread in one order.
//
// Inputs: q, k, v, output and doutput kDenseRows, logsumexp kContiguous, mask and key_length kAny.
// Nothing may be overwritten.
#include <algorithm>

#include "metal_candle/backend/cpu/attention.h"
#include "metal_candle/backend/cpu/batch.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/rows.h"
#include "metal_candle/backend/cpu/workspace.h"

namespace metal_candle::backend::cpu {
namespace {

struct BackwardPlan {
  AttentionPlan attention;
  Strides output, doutput;

  [[nodiscard]] std::int64_t key_tiles() const {
    return (attention.keys + kKeyTile - 1) / kKeyTile;
  }
};

// Rows of a group with what their gradients need.
class BackwardTile {
 public:
  BackwardTile(const BackwardPlan& plan, const KernelArguments& arguments,
               const AttentionGroup& group, Workspace& workspace)
      : plan_(plan),
        arguments_(arguments),
        group_(group),
        query_rows_(workspace.take<float>(kRowTile * plan.attention.width)),
        gradient_rows_(workspace.take<float>(kRowTile * plan.attention.value_width)),
        p_(workspace.take<float>(kRowTile * kKeyTile)),
        ds_(workspace.take<float>(kRowTile * kKeyTile)) {}

  void load(std::int64_t row, std::int64_t rows) {
    const AttentionPlan& a = plan_.attention;
    row_ = row;
    rows_ = rows;
    queries_ = group_.queries(row, row + rows, query_rows_);
    gradient_ = group_.dense_rows(arguments_.inputs[5], plan_.doutput, a.value_width, row,
                                  row + rows, gradient_rows_);
  }

  // Probabilities, and the gradients of the scores, for keys [j, j + count).
  void compute(std::int64_t j, std::int64_t count, bool needs_scores) {
    const AttentionPlan& a = plan_.attention;
    const auto* const logsumexp = static_cast<const float*>(arguments_.inputs[4]);
    const auto* const delta = static_cast<const float*>(arguments_.scratch);
    group_.scores(queries_, row_, rows_, j, count, p_);
    if (needs_scores) {
      gemm_block(gradient(), group_.value(j).transposed(), rows_, count, a.value_width, ds_,
                 kKeyTile, false);
    }
    for (std::int64_t r = 0; r < rows_; ++r) {
      const std::int64_t number = group_.row_number(row_ + r);
      probabilities(p_ + r * kKeyTile, count, logsumexp[number]);
      if (needs_scores) {
        score_gradient(p_ + r * kKeyTile, count, delta[number], ds_ + r * kKeyTile);
      }
    }
  }

  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] const Matrix& queries() const { return queries_; }
  [[nodiscard]] const Matrix& gradient() const { return gradient_; }  // doutput.
  [[nodiscard]] Matrix p() const { return {p_, DType::kF32, kKeyTile, 1}; }
  [[nodiscard]] Matrix ds() const { return {ds_, DType::kF32, kKeyTile, 1}; }

 private:
  const BackwardPlan& plan_;
  const KernelArguments& arguments_;
  const AttentionGroup& group_;
  std::int64_t row_ = 0, rows_ = 0;
  Matrix queries_, gradient_;
  float* query_rows_;
  float* gradient_rows_;
  float* p_;
  float* ds_;
};

// delta = the sum over a row of doutput * output, which the gradient of each softmax needs.
void compute_delta(const BackwardPlan& plan, const KernelArguments& arguments) {
  const AttentionPlan& a = plan.attention;
  auto* const delta = static_cast<float*>(arguments.scratch);
  const auto at = [&](const Strides& s, std::int64_t number) {
    const std::int64_t head = number / a.queries;
    return head / a.heads * s[0] + head % a.heads * s[1] + number % a.queries * s[2];
  };
  constexpr std::int64_t kRowsPerChunk = 256;
  parallel_for(
      a.batch * a.heads * a.queries, kRowsPerChunk, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          delta[i] = dot_row(offset_data(arguments.inputs[3], at(plan.output, i), a.dtype),
                             offset_data(arguments.inputs[5], at(plan.doutput, i), a.dtype),
                             a.dtype, a.value_width);
        }
      });
}

void query_gradient(const BackwardPlan& plan, const KernelArguments& arguments, std::int64_t unit) {
  const AttentionPlan& a = plan.attention;
  const std::int64_t tiles = a.row_tiles();
  const AttentionGroup group(a, arguments, unit / tiles / a.key_heads, unit / tiles % a.key_heads);
  const std::int64_t row = unit % tiles * kRowTile;
  const std::int64_t rows = std::min(kRowTile, a.rows() - row);
  Workspace workspace;
  float* const dq = workspace.take<float>(rows * a.width);
  std::fill_n(dq, rows * a.width, 0.0f);
  BackwardTile tile(plan, arguments, group, workspace);
  tile.load(row, rows);
  const KeyRange keys = group.range_of_rows(row, row + rows);
  for (std::int64_t j = keys.begin; j < keys.end; j += kKeyTile) {
    const std::int64_t count = std::min(kKeyTile, keys.end - j);
    tile.compute(j, count, true);
    gemm_block(tile.ds(), group.key(j), rows, a.width, count, dq, a.width, true);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    narrow_row(dq + r * a.width, a.width, a.operation.scale, a.dtype,
               offset_data(arguments.outputs[0], group.row_number(row + r) * a.width, a.dtype));
  }
}

void key_gradient(const BackwardPlan& plan, const KernelArguments& arguments, std::int64_t unit) {
  const AttentionPlan& a = plan.attention;
  const std::int64_t tiles = plan.key_tiles(), head = unit / tiles;  // (batch, key head).
  const AttentionGroup group(a, arguments, head / a.key_heads, head % a.key_heads);
  const std::int64_t j = unit % tiles * kKeyTile, count = std::min(kKeyTile, a.keys - j);
  void *const dk_out = arguments.outputs[1], *const dv_out = arguments.outputs[2];
  Workspace workspace;
  float* const dk = workspace.take<float>(count * a.width);
  float* const dv = workspace.take<float>(count * a.value_width);
  std::fill_n(dk, count * a.width, 0.0f);
  std::fill_n(dv, count * a.value_width, 0.0f);
  const std::int64_t existing = std::min(count, group.length() - j);
  BackwardTile tile(plan, arguments, group, workspace);
  for (std::int64_t row = 0; existing > 0 && row < a.rows(); row += kRowTile) {
    const std::int64_t rows = std::min(kRowTile, a.rows() - row);
    const KeyRange keys = group.range_of_rows(row, row + rows);
    if (keys.end <= j || keys.begin >= j + count) continue;
    tile.load(row, rows);
    tile.compute(j, existing, dk_out != nullptr);
    if (dv_out) {
      gemm_block(tile.p().transposed(), tile.gradient(), existing, a.value_width, rows, dv,
                 a.value_width, true);
    }
    if (dk_out) {
      gemm_block(tile.ds().transposed(), tile.queries(), existing, a.width, rows, dk, a.width,
                 true);
    }
  }
  const std::int64_t first = head * a.keys + j;
  if (dk_out) {
    narrow_row(dk, count * a.width, a.operation.scale, a.dtype,
               offset_data(dk_out, first * a.width, a.dtype));
  }
  if (dv_out) {
    narrow_row(dv, count * a.value_width, 1.0f, a.dtype,
               offset_data(dv_out, first * a.value_width, a.dtype));
  }
}

void run_backward(const BackwardPlan& plan, const KernelArguments& arguments) {
  const AttentionPlan& a = plan.attention;
  const bool needs_dk = arguments.outputs[1], needs_dv = arguments.outputs[2];
  if (arguments.outputs[0] || needs_dk) compute_delta(plan, arguments);
  const std::int64_t groups = a.batch * a.key_heads;
  // Both gradients are one list of work, so that no thread waits between them: those that begin
  // with the units of queries, which are smaller, go on with those of keys.
  const std::int64_t query_units = arguments.outputs[0] ? groups * a.row_tiles() : 0;
  const std::int64_t key_units = needs_dk || needs_dv ? groups * plan.key_tiles() : 0;
  parallel_for(query_units + key_units, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      if (unit < key_units) {
        key_gradient(plan, arguments, unit);
      } else {
        query_gradient(plan, arguments, unit - key_units);
      }
    }
  });
}

}  // namespace

std::unique_ptr<Kernel> make_attention_backward(const KernelRequest& request) {
  const auto& operation = std::get<op::AttentionBackward>(request.operation);
  const BackwardPlan plan{AttentionPlan(operation.forward, request.inputs, 6),
                          request.inputs[3].strides, request.inputs[5].strides};
  const AttentionPlan& a = plan.attention;
  const auto scratch = static_cast<std::size_t>(a.batch * a.heads * a.queries) * sizeof(float);
  return make_cpu_kernel(
      [plan](const KernelArguments& arguments) { run_backward(plan, arguments); }, scratch);
}

}  // namespace metal_candle::backend::cpu
