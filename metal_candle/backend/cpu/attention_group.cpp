// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Where attention's operands lie, and the scores of a tile.
#include <algorithm>
#include <cstring>
#include <limits>

#include "metal_candle/backend/cpu/attention.h"
#include "metal_candle/backend/cpu/batch.h"
#include "metal_candle/backend/cpu/rows.h"

namespace metal_candle::backend::cpu {
namespace {

constexpr float kUnseen = -std::numeric_limits<float>::infinity();

Matrix head_matrix(const void* data, const Strides& strides, DType dtype, std::int64_t batch,
                   std::int64_t head) {
  return {offset_data(data, batch * strides[0] + head * strides[1], dtype), dtype, strides[2], 1};
}

}  // namespace

AttentionPlan::AttentionPlan(const op::Attention& attention, std::span<const TensorLayout> inputs,
                             int optional)
    : operation(attention),
      dtype(inputs[0].dtype),
      batch(inputs[0].shape[0]),
      heads(inputs[0].shape[1]),
      key_heads(inputs[1].shape[1]),
      queries(inputs[0].shape[2]),
      keys(inputs[1].shape[2]),
      width(inputs[0].shape[3]),
      value_width(inputs[2].shape[3]),
      q(inputs[0].strides),
      k(inputs[1].strides),
      v(inputs[2].strides) {
  if (attention.has_mask) {
    mask_input = optional++;
    const TensorLayout& layout = inputs[static_cast<std::size_t>(mask_input)];
    mask = broadcast_strides(layout, {batch, heads, queries, keys});
    mask_dtype = layout.dtype;
  }
  if (attention.has_key_length) {
    length_input = optional;
    length = broadcast_strides(inputs[static_cast<std::size_t>(length_input)], {batch});
  }
}

AttentionGroup::AttentionGroup(const AttentionPlan& plan, const KernelArguments& arguments,
                               std::int64_t batch, std::int64_t key_head)
    : plan_(plan),
      batch_(batch),
      key_head_(key_head),
      length_(plan.keys),
      q_(arguments.inputs[0]),
      mask_(plan.mask_input < 0 ? nullptr
                                : arguments.inputs[static_cast<std::size_t>(plan.mask_input)]),
      k_(head_matrix(arguments.inputs[1], plan.k, plan.dtype, batch, key_head)),
      v_(head_matrix(arguments.inputs[2], plan.v, plan.dtype, batch, key_head)) {
  if (plan.length_input >= 0) {
    const auto* lengths = static_cast<const std::int32_t*>(
        arguments.inputs[static_cast<std::size_t>(plan.length_input)]);
    length_ = std::clamp<std::int64_t>(lengths[batch * plan.length[0]], 0, plan.keys);
  }
}

const void* AttentionGroup::row_of(const void* data, const Strides& strides, DType dtype,
                                   std::int64_t row) const {
  return offset_data(
      data, batch_ * strides[0] + head_of(row) * strides[1] + row % plan_.queries * strides[2],
      dtype);
}

KeyRange AttentionGroup::range_of_row(std::int64_t row) const {
  if (!plan_.operation.causal) return {0, length_};
  const std::int64_t position = length_ - plan_.queries + row % plan_.queries;
  const std::int64_t window = plan_.operation.window;
  const std::int64_t end = std::max<std::int64_t>(position + 1, 0);
  return {window > 0 ? std::max<std::int64_t>(end - window, 0) : 0, end};
}

KeyRange AttentionGroup::range_of_rows(std::int64_t begin, std::int64_t end) const {
  KeyRange range{plan_.keys, 0};
  for (std::int64_t row = begin; row < end; ++row) {
    const KeyRange one = range_of_row(row);
    if (one.begin >= one.end) continue;
    range = {std::min(range.begin, one.begin), std::max(range.end, one.end)};
  }
  return range;
}

Matrix AttentionGroup::dense_rows(const void* data, const Strides& strides, std::int64_t width,
                                  std::int64_t begin, std::int64_t end, float* to) const {
  const std::size_t bytes = static_cast<std::size_t>(width) * size_of(plan_.dtype);
  auto* out = reinterpret_cast<char*>(to);
  for (std::int64_t row = begin; row < end; ++row, out += bytes) {
    std::memcpy(out, row_of(data, strides, plan_.dtype, row), bytes);
  }
  return {to, plan_.dtype, width, 1};
}

void AttentionGroup::apply_mask(std::int64_t row, std::int64_t j, std::int64_t count,
                                float* scores) const {
  const std::int64_t stride = plan_.mask[3];
  const std::int64_t offset = batch_ * plan_.mask[0] + head_of(row) * plan_.mask[1] +
                              row % plan_.queries * plan_.mask[2] + j * stride;
  const void* const mask = offset_data(mask_, offset, plan_.mask_dtype);
  const auto add = [&](const auto* values) {
    for (std::int64_t i = 0; i < count; ++i) scores[i] += static_cast<float>(values[i * stride]);
  };
  switch (plan_.mask_dtype) {
    case DType::kBF16:
      return add(static_cast<const BFloat16*>(mask));
    case DType::kF16:
      return add(static_cast<const Float16*>(mask));
    case DType::kF32:
      return add(static_cast<const float*>(mask));
    default:
      for (std::int64_t i = 0; i < count; ++i) {
        if (!static_cast<const bool*>(mask)[i * stride]) scores[i] = kUnseen;
      }
  }
}

void AttentionGroup::scores(const Matrix& queries, std::int64_t row, std::int64_t rows,
                            std::int64_t j, std::int64_t count, float* to) const {
  gemm_block(queries, key(j).transposed(), rows, count, plan_.width, to, kKeyTile, false);
  for (std::int64_t r = 0; r < rows; ++r) {
    float* const line = to + r * kKeyTile;
    scale_row(line, count, plan_.operation.scale);
    const KeyRange seen = range_of_row(row + r);
    if (mask_) apply_mask(row + r, j, count, line);
    const std::int64_t begin = std::clamp<std::int64_t>(seen.begin - j, 0, count);
    const std::int64_t end = std::clamp<std::int64_t>(seen.end - j, begin, count);
    std::fill(line, line + begin, kUnseen);
    std::fill(line + end, line + count, kUnseen);
  }
}

}  // namespace metal_candle::backend::cpu
