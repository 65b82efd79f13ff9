// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How an operation along one axis walks its operands: along rows when the axis is the dense one,
// else down columns, many of them side by side.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "metal_candle/backend/cpu/row_map.h"

namespace metal_candle::backend::cpu {

/// Operands of one shape, split into `outer` groups of `columns` neighbours, each n long along the
/// axis.
struct AxisPlan {
  static constexpr std::size_t kMaxOperands = 3;

  std::int64_t n = 0;
  std::int64_t outer = 0;
  std::int64_t columns = 1;
  bool rows = false;  // columns is 1, and neighbours along the axis are neighbours in memory.
  std::array<std::optional<RowMap>, kMaxOperands> maps;  // Of `outer`, for each operand.
  std::array<std::int64_t, kMaxOperands> axis_strides{};

  [[nodiscard]] std::int64_t offset(std::size_t operand, std::int64_t outer_index) const {
    return (*maps[operand])(outer_index);
  }
};

inline AxisPlan plan_axis(std::span<const TensorLayout> operands, int axis) {
  AxisPlan plan;
  plan.n = operands[0].shape[axis];
  Dims sizes = RowMap::without(operands[0].shape, axis);
  std::array<Dims, AxisPlan::kMaxOperands> strides;
  const std::span<Dims> used(strides.data(), operands.size());
  plan.rows = true;
  bool dense_columns = true;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    strides[i] = RowMap::without(operands[i].strides, axis);
    plan.axis_strides[i] = operands[i].strides[axis];
    plan.rows = plan.rows && plan.axis_strides[i] == 1;
  }
  collapse_axes(sizes, used);
  for (const Dims& s : used) dense_columns = dense_columns && !s.empty() && s.back() == 1;
  if (!plan.rows && dense_columns) {
    plan.columns = sizes.back();
    sizes = RowMap::without(sizes, sizes.rank() - 1);
    for (Dims& s : used) s = RowMap::without(s, s.rank() - 1);
  }
  plan.outer = num_elements(sizes);
  for (std::size_t i = 0; i < operands.size(); ++i) plan.maps[i].emplace(sizes, strides[i]);
  return plan;
}

/// The layout that reads as `layout` does but writes one element for all of `axis`.
inline TensorLayout reduced_layout(const TensorLayout& layout, int axis) {
  Shape kept = RowMap::without(layout.shape, axis);
  Strides strides = contiguous_strides(kept);
  strides.insert(axis, 1);
  return {layout.shape, strides, layout.dtype};
}

}  // namespace metal_candle::backend::cpu
