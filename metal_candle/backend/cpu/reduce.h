// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How a reduction over any axes of a strided tensor is brought to one of two forms: along dense
// rows, or down columns, many side by side. Work is cut by shape alone and joined in a fixed order,
// so that the result does not depend on the number of threads. What is reduced lies in memory, or
// is computed as it is needed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>

#include "hwy/base.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/elementwise_tiles.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/backend/cpu/row_map.h"

namespace metal_candle::backend::cpu {

std::unique_ptr<Kernel> make_arg_reduce(const KernelRequest& request);
std::unique_ptr<Kernel> make_cumulative(const KernelRequest& request);

/// `outer` groups, each giving `columns` neighbouring outputs (1 in the form along rows). A group
/// reduces `rows` runs: of row_length elements row_stride apart, or of `columns` elements.
struct ReducePlan {
  ReduceKind kind;
  DType dtype;  // Of the elements.
  bool by_columns = false;
  std::int64_t base = 0;  // Offset of the first element.
  std::int64_t outer = 1, columns = 1;
  std::int64_t rows = 1, row_length = 1, row_stride = 1;
  RowMap kept, reduced;

  // Runs in a unit of work and units in a group; along rows, a long run is cut into pieces instead.
  std::int64_t pieces = 1, unit_rows = 1, units = 1;
  std::int64_t cost = 1;  // Of an element, in what it takes to read one.

  [[nodiscard]] bool is_empty() const { return rows == 0 || row_length == 0; }
};

inline constexpr std::int64_t kReduceChunk = 16384;  // Elements of a unit along rows.
inline constexpr std::int64_t kReducePanel = 1024;   // Columns reduced side by side.
inline constexpr std::int64_t kReduceBlock = 256;    // Rows added up before they join a total.

ReducePlan plan_reduce(const TensorLayout& x, const op::Reduce& op);

/// What is reduced: elements from x on, or those of `computed`, of which a plan for dense memory
/// has the numbers where it has offsets.
struct ReduceSource {
  const void* x = nullptr;
  const ElementwiseTiles* computed = nullptr;
  std::span<const void* const> inputs = {};  // Of `computed`.
};

/// Runs a plan. `partials` is scratch of partial_bytes().
void reduce(const ReducePlan& plan, const ReduceSource& source, void* out, void* partials);
[[nodiscard]] std::size_t partial_bytes(const ReducePlan& plan);

/// Throws DTypeError if a reduction does not give `output` of elements of plan.dtype.
void require_reduced_dtype(const ReducePlan& plan, DType output);

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

template <class Policy, class Address>
void add_rows_at(Address at, std::int64_t row, std::int64_t last, std::int64_t columns,
                 typename Policy::Accumulator* total) {
  for (; row + 4 <= last; row += 4) {
    Policy::add_four_rows(total, at(row), at(row + 1), at(row + 2), at(row + 3), columns);
  }
  for (; row < last; ++row) Policy::add_row(total, at(row), columns);
}

// The elements of a plan, for one thread: kPanel, the columns that are reduced side by side, and
//   fold(offset, length, stride, limit), the accumulator of a run; if it is followed by others of
// its length that will be asked for, `limit` is where they end;
//   add_rows(offset, first, last, columns, total), which adds rows [first, last) of the panel at
// `offset` to accumulators.

template <class Policy>
class StridedElements {
 public:
  static constexpr std::int64_t kPanel = kReducePanel;
  using Accumulator = typename Policy::Accumulator;

  StridedElements(const ReducePlan& plan, const ReduceSource& source)
      : plan_(plan), x_(static_cast<const typename Policy::Element*>(source.x) + plan.base) {}

  Accumulator fold(std::int64_t offset, std::int64_t length, std::int64_t stride,
                   std::int64_t /*limit*/) const {
    return Policy::fold_run(x_ + offset, length, stride);
  }
  void add_rows(std::int64_t offset, std::int64_t first, std::int64_t last, std::int64_t columns,
                Accumulator* total) const {
    const auto* const x = x_ + offset;
    add_rows_at<Policy>([x, reduced = plan_.reduced](std::int64_t row) { return x + reduced(row); },
                        first, last, columns, total);
  }

 private:
  const ReducePlan& plan_;
  const typename Policy::Element* x_;
};

template <class Policy>
class ComputedElements {
 public:
  // Operands are best read from one end to the other: rows are not cut until the accumulators get
  // too many for the first-level cache.
  static constexpr std::int64_t kPanel = 4096;
  using Accumulator = typename Policy::Accumulator;

  ComputedElements(const ReducePlan& plan, const ReduceSource& source)
      : plan_(plan), reader_(*source.computed, source.inputs), tile_(source.computed->tile()) {
    buffer_ = reader_.workspace().template take<Element>(std::max(kBuffer, tile_));
  }

  /// The stride is 1, or there is one element.
  Accumulator fold(std::int64_t offset, std::int64_t length, std::int64_t /*stride*/,
                   std::int64_t limit) {
    if (length > tile_) return fold_tiles(offset, length);
    if (offset < begin_ || offset + length > end_) load_runs(offset, length, limit);
    return Policy::fold_run(buffer_ + (offset - begin_), length, 1);
  }

  void add_rows(std::int64_t offset, std::int64_t first, std::int64_t last, std::int64_t columns,
                Accumulator* total) {
    // Narrow rows follow each other. Wide ones are computed in parts that stay in the first-level
    // cache until they are added.
    const std::int64_t part = std::min(columns, kPart);
    const bool narrow = columns == plan_.columns && columns == part;
    const std::int64_t most = narrow ? kBuffer / columns : 1;
    for (std::int64_t row = first; row < last; row += most) {
      const std::int64_t count = std::min(last - row, most);
      const std::int64_t begin = offset + plan_.reduced(row);
      for (std::int64_t c = 0; c < columns; c += part) {
        const std::int64_t width = std::min(part, columns - c);
        const Element* const rows = buffer_;
        reader_.compute(begin + c, count * width, buffer_);
        add_rows_at<Policy>([rows, width](std::int64_t i) { return rows + i * width; }, 0, count,
                            width, total + c);
      }
    }
  }

 private:
  using Element = typename Policy::Element;
  static constexpr std::int64_t kPart = 1024, kBuffer = 4 * kPart;

  /// In halves, as Policy::fold_run() joins its blocks.
  HWY_NOINLINE Accumulator fold_tiles(std::int64_t offset, std::int64_t length) {
    if (length <= tile_) return fold(offset, length, 1, offset + length);
    const std::int64_t half = (length / 2 + tile_ - 1) / tile_ * tile_;
    const Accumulator first = fold_tiles(offset, half);
    return Policy::join(first, fold_tiles(offset + half, length - half));
  }
  /// Computes a run and as many of those after it, until `limit`, as have room in a tile.
  HWY_NOINLINE void load_runs(std::int64_t offset, std::int64_t length, std::int64_t limit) {
    const std::int64_t whole = (std::min(limit, offset + tile_) - offset) / length;
    begin_ = offset;
    end_ = offset + std::max<std::int64_t>(whole, 1) * length;
    reader_.compute(begin_, end_ - begin_, buffer_);
  }

  const ReducePlan& plan_;
  ElementwiseTiles::Reader reader_;
  std::int64_t tile_;
  Element* buffer_;
  std::int64_t begin_ = 0, end_ = 0;  // The elements in the buffer, along rows.
};

/// Units until `limit` that are not cut into pieces follow each other.
template <class Policy, class Elements>
typename Policy::Accumulator reduce_unit(const ReducePlan& plan, Elements& elements,
                                         std::int64_t group, std::int64_t unit,
                                         std::int64_t limit) {
  if (plan.pieces > 1) {
    const std::int64_t start = unit % plan.pieces * kReduceChunk;
    const std::int64_t offset = group + plan.reduced(unit / plan.pieces) + start * plan.row_stride;
    const std::int64_t length = std::min(kReduceChunk, plan.row_length - start);
    return elements.fold(offset, length, plan.row_stride, offset + length);
  }
  auto total = Policy::identity();
  const std::int64_t last = std::min(plan.rows, (unit + 1) * plan.unit_rows);
  for (std::int64_t row = unit * plan.unit_rows; row < last; ++row) {
    total = Policy::join(
        total, elements.fold(group + plan.reduced(row), plan.row_length, plan.row_stride, limit));
  }
  return total;
}

template <class Policy, class Elements>
void reduce_rows(const ReducePlan& plan, const ReduceSource& source, typename Policy::Output* out,
                 typename Policy::Accumulator* partials) {
  const std::int64_t units = plan.units;
  const std::int64_t grain =
      row_grain(std::min(kReduceChunk, plan.unit_rows * plan.row_length) * plan.cost);
  parallel_for(plan.outer * units, grain, [&](std::int64_t begin, std::int64_t end) {
    Elements elements(plan, source);
    const std::int64_t limit = end * plan.row_length;
    for (std::int64_t i = begin; i < end; ++i) {
      const auto value =
          reduce_unit<Policy>(plan, elements, plan.kept(i / units), i % units, limit);
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

/// Adds rows [first, last) of the panel of columns at `offset` up into total.
template <class Policy, class Elements>
void reduce_panel(Elements& elements, std::int64_t offset, std::int64_t first, std::int64_t last,
                  std::int64_t columns, typename Policy::Accumulator* total) {
  using A = typename Policy::Accumulator;
  A block[Elements::kPanel];
  std::fill_n(total, columns, Policy::identity());
  for (std::int64_t start = first; start < last; start += kReduceBlock) {
    const std::int64_t stop = std::min(last, start + kReduceBlock);
    std::fill_n(block, columns, Policy::identity());
    elements.add_rows(offset, start, stop, columns, block);
    for (std::int64_t c = 0; c < columns; ++c) total[c] = Policy::join(total[c], block[c]);
  }
}

template <class Policy, class Elements>
void reduce_columns(const ReducePlan& plan, const ReduceSource& source,
                    typename Policy::Output* out, typename Policy::Accumulator* partials) {
  using A = typename Policy::Accumulator;
  const std::int64_t width = plan.columns, units = plan.units;
  constexpr std::int64_t kPanel = Elements::kPanel;
  const std::int64_t panels = (width + kPanel - 1) / kPanel;
  const std::int64_t grain = row_grain(std::min(width, kPanel) * plan.unit_rows * plan.cost);
  parallel_for(plan.outer * units * panels, grain, [&](std::int64_t begin, std::int64_t end) {
    Elements elements(plan, source);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t column = i % panels * kPanel;
      const std::int64_t unit = i / panels % units, group = i / panels / units;
      const std::int64_t count = std::min(kPanel, width - column);
      const std::int64_t first = unit * plan.unit_rows;
      const std::int64_t last = std::min(plan.rows, first + plan.unit_rows);
      const std::int64_t offset = plan.kept(group) + column;
      if (units > 1) {
        reduce_panel<Policy>(elements, offset, first, last, count,
                             partials + (group * units + unit) * width + column);
        continue;
      }
      A total[Elements::kPanel];
      reduce_panel<Policy>(elements, offset, first, last, count, total);
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

template <class Policy, class Elements>
void reduce_elements(const ReducePlan& plan, const ReduceSource& source,
                     typename Policy::Output* out, typename Policy::Accumulator* partials) {
  if (plan.by_columns) {
    reduce_columns<Policy, Elements>(plan, source, out, partials);
  } else {
    reduce_rows<Policy, Elements>(plan, source, out, partials);
  }
}

template <class Policy>
void run_reduce(const ReducePlan& plan, const ReduceSource& source, void* output, void* scratch) {
  auto* out = static_cast<typename Policy::Output*>(output);
  auto* partials = static_cast<typename Policy::Accumulator*>(scratch);
  if (plan.is_empty()) {
    std::fill_n(out, plan.outer * plan.columns, Policy::finish(Policy::identity()));
  } else if (source.computed != nullptr) {
    reduce_elements<Policy, ComputedElements<Policy>>(plan, source, out, partials);
  } else {
    reduce_elements<Policy, StridedElements<Policy>>(plan, source, out, partials);
  }
}

}  // namespace metal_candle::backend::cpu
