// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How a reduction over any axes of a strided tensor is brought to one of two forms: along dense
// rows, or down columns, many side by side. Work is cut by shape alone and joined in a fixed order,
// so that the result does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/row_map.h"

namespace metal_candle::backend::cpu {

std::unique_ptr<Kernel> make_arg_reduce(const KernelRequest& request);
std::unique_ptr<Kernel> make_cumulative(const KernelRequest& request);

/// `outer` groups, each giving `columns` neighbouring outputs (1 in the form along rows). A group
/// reduces `rows` runs: of row_length elements row_stride apart, or of `columns` elements.
struct ReducePlan {
  ReduceKind kind;
  DType dtype;
  bool by_columns = false;
  std::int64_t base = 0;  // Offset of the first element.
  std::int64_t outer = 1, columns = 1;
  std::int64_t rows = 1, row_length = 1, row_stride = 1;
  RowMap kept, reduced;

  // Runs in a unit of work and units in a group; along rows, a long run is cut into pieces instead.
  std::int64_t pieces = 1, unit_rows = 1, units = 1;

  [[nodiscard]] bool is_empty() const { return rows == 0 || row_length == 0; }
};

inline constexpr std::int64_t kReduceChunk = 16384;  // Elements of a unit along rows.
inline constexpr std::int64_t kReducePanel = 1024;   // Columns reduced side by side.
inline constexpr std::int64_t kReduceBlock = 256;    // Rows added up before they join a total.

ReducePlan plan_reduce(const TensorLayout& x, const op::Reduce& op);

/// Accumulators of scratch that a plan needs.
inline std::int64_t num_partials(const ReducePlan& plan) {
  return plan.units <= 1 ? 0 : plan.outer * plan.columns * plan.units;
}

/// Joins values step apart, pairwise: the rounding error grows with the logarithm of their number.
template <class Policy>
typename Policy::Accumulator join_all(const typename Policy::Accumulator* values,
                                      std::int64_t count, std::int64_t step) {
  if (count == 1) return values[0];
  const std::int64_t half = count / 2;
  return Policy::join(join_all<Policy>(values, half, step),
                      join_all<Policy>(values + half * step, count - half, step));
}

// A Policy has the types Element, Accumulator and Output, and static functions: identity(),
// join(a, b) and finish(a) of accumulators; fold_run(p, count, stride), the accumulator of a run;
// add_row(accumulators, p, columns) and add_four_rows(accumulators, p0, p1, p2, p3, columns).

template <class Policy>
typename Policy::Accumulator reduce_unit(const ReducePlan& plan,
                                         const typename Policy::Element* group, std::int64_t unit) {
  if (plan.pieces > 1) {
    const std::int64_t start = unit % plan.pieces * kReduceChunk;
    return Policy::fold_run(group + plan.reduced(unit / plan.pieces) + start * plan.row_stride,
                            std::min(kReduceChunk, plan.row_length - start), plan.row_stride);
  }
  auto total = Policy::identity();
  const std::int64_t last = std::min(plan.rows, (unit + 1) * plan.unit_rows);
  for (std::int64_t row = unit * plan.unit_rows; row < last; ++row) {
    total = Policy::join(
        total, Policy::fold_run(group + plan.reduced(row), plan.row_length, plan.row_stride));
  }
  return total;
}

template <class Policy>
void reduce_rows(const ReducePlan& plan, const typename Policy::Element* x,
                 typename Policy::Output* out, typename Policy::Accumulator* partials) {
  const std::int64_t units = plan.units;
  const std::int64_t grain = row_grain(std::min(kReduceChunk, plan.unit_rows * plan.row_length));
  parallel_for(plan.outer * units, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto value = reduce_unit<Policy>(plan, x + plan.kept(i / units), i % units);
      if (units == 1) {
        out[i] = Policy::finish(value);
      } else {
        partials[i] = value;
      }
    }
  });
  if (units == 1) return;
  for (std::int64_t i = 0; i < plan.outer; ++i) {
    out[i] = Policy::finish(join_all<Policy>(partials + i * units, units, 1));
  }
}

/// Adds rows [first, last) of a panel of columns up into total.
template <class Policy>
void reduce_panel(const ReducePlan& plan, const typename Policy::Element* x, std::int64_t first,
                  std::int64_t last, std::int64_t columns, typename Policy::Accumulator* total) {
  using A = typename Policy::Accumulator;
  A block[kReducePanel];
  std::fill_n(total, columns, Policy::identity());
  for (std::int64_t start = first; start < last; start += kReduceBlock) {
    const std::int64_t stop = std::min(last, start + kReduceBlock);
    std::fill_n(block, columns, Policy::identity());
    std::int64_t row = start;
    for (; row + 4 <= stop; row += 4) {
      Policy::add_four_rows(block, x + plan.reduced(row), x + plan.reduced(row + 1),
                            x + plan.reduced(row + 2), x + plan.reduced(row + 3), columns);
    }
    for (; row < stop; ++row) Policy::add_row(block, x + plan.reduced(row), columns);
    for (std::int64_t c = 0; c < columns; ++c) total[c] = Policy::join(total[c], block[c]);
  }
}

template <class Policy>
void reduce_columns(const ReducePlan& plan, const typename Policy::Element* x,
                    typename Policy::Output* out, typename Policy::Accumulator* partials) {
  using A = typename Policy::Accumulator;
  const std::int64_t width = plan.columns, units = plan.units;
  const std::int64_t panels = (width + kReducePanel - 1) / kReducePanel;
  const std::int64_t grain = row_grain(std::min(width, kReducePanel) * plan.unit_rows);
  parallel_for(plan.outer * units * panels, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t column = i % panels * kReducePanel;
      const std::int64_t unit = i / panels % units, group = i / panels / units;
      const std::int64_t count = std::min(kReducePanel, width - column);
      const std::int64_t first = unit * plan.unit_rows;
      const std::int64_t last = std::min(plan.rows, first + plan.unit_rows);
      const auto* from = x + plan.kept(group) + column;
      if (units > 1) {
        reduce_panel<Policy>(plan, from, first, last, count,
                             partials + (group * units + unit) * width + column);
        continue;
      }
      A total[kReducePanel];
      reduce_panel<Policy>(plan, from, first, last, count, total);
      for (std::int64_t c = 0; c < count; ++c) {
        out[group * width + column + c] = Policy::finish(total[c]);
      }
    }
  });
  if (units == 1) return;
  parallel_for(plan.outer * width, row_grain(units), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const A* column = partials + i / width * units * width + i % width;
      out[i] = Policy::finish(join_all<Policy>(column, units, width));
    }
  });
}

template <class Policy>
void run_reduce(const ReducePlan& plan, const KernelArguments& arguments) {
  const auto* x = static_cast<const typename Policy::Element*>(arguments.inputs[0]) + plan.base;
  auto* out = static_cast<typename Policy::Output*>(arguments.outputs[0]);
  auto* partials = static_cast<typename Policy::Accumulator*>(arguments.scratch);
  if (plan.is_empty()) {
    std::fill_n(out, plan.outer * plan.columns, Policy::finish(Policy::identity()));
  } else if (plan.by_columns) {
    reduce_columns<Policy>(plan, x, out, partials);
  } else {
    reduce_rows<Policy>(plan, x, out, partials);
  }
}

}  // namespace metal_candle::backend::cpu
