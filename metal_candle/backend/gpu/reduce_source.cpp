// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See reduce_source.h.
#include "metal_candle/backend/gpu/reduce_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "metal_candle/backend/gpu/axes_text.h"
#include "metal_candle/backend/gpu/element_text.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::int64_t kMostPositions = std::int64_t{1} << 31;

std::int64_t distinct_elements(const Shape& shape, const Strides& strides) {
  std::int64_t count = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (strides[axis] != 0) count *= shape[axis];
  }
  return count;
}

std::int64_t reach(const Shape& shape, const Strides& strides) {
  std::int64_t most = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    most += std::max<std::int64_t>(shape[axis] - 1, 0) * std::abs(strides[axis]);
  }
  return most;
}

bool all_zero(const Strides& strides) {
  return std::all_of(strides.begin(), strides.end(), [](std::int64_t s) { return s == 0; });
}

/// Drops the last axis.
void drop_last(Dims& dims) { dims.erase(dims.rank() - 1); }

}  // namespace

ReduceLoop::ReduceLoop(std::span<const TensorLayout> inputs, const Shape& shape, DType result,
                       const op::Reduce& reduce)
    : kind(reduce.kind), dtype(result) {
  std::vector<Strides> strides;
  for (const TensorLayout& input : inputs) strides.push_back(broadcast_strides(input, shape));
  const auto size = [&](const Strides& s) { return distinct_elements(shape, s); };
  const Strides& largest =
      *std::max_element(strides.begin(), strides.end(),
                        [&](const Strides& a, const Strides& b) { return size(a) < size(b); });

  std::vector<int> kept_axes, reduced_axes;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool is_reduced =
        std::find(reduce.axes.begin(), reduce.axes.end(), axis) != reduce.axes.end();
    (is_reduced ? reduced_axes : kept_axes).push_back(axis);
  }
  // In whatever order: as the largest operand lies.
  std::stable_sort(reduced_axes.begin(), reduced_axes.end(),
                   [&](int a, int b) { return std::abs(largest[a]) > std::abs(largest[b]); });
  const auto choose = [](const Dims& dims, const std::vector<int>& axes) {
    Dims chosen;
    for (const int axis : axes) chosen.push_back(dims[axis]);
    return chosen;
  };
  std::vector<Strides> kept_strides, reduced_strides;
  for (const Strides& s : strides) {
    kept_strides.push_back(choose(s, kept_axes));
    reduced_strides.push_back(choose(s, reduced_axes));
  }
  kept = choose(shape, kept_axes);
  reduced = choose(shape, reduced_axes);
  outputs = num_elements(kept);
  collapse_axes(kept, kept_strides);
  collapse_axes(reduced, reduced_strides);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    operands.push_back({inputs[k].dtype, kept_strides[k], reduced_strides[k]});
  }

  const Operand& lead = operands[static_cast<std::size_t>(&largest - strides.data())];
  by_columns = lead.reduced.back() != 1 && lead.kept.back() == 1;
  if (!by_columns) return;
  columns = kept.back();
  drop_last(kept);
  for (Operand& operand : operands) {
    operand.column = operand.kept.back();
    drop_last(operand.kept);
  }
  if (kept.empty()) {
    kept = {1};
    for (Operand& operand : operands) operand.kept = {0};
  }
}

ReduceLoop::Walk ReduceLoop::walk(std::size_t operand) const {
  const Operand& o = operands[operand];
  Walk walk;
  const auto add = [&](std::int64_t size, std::int64_t stride) {
    walk.shape.push_back(stride == 0 ? 1 : size);
    walk.strides.push_back(stride);
  };
  for (int axis = 0; axis < kept.rank(); ++axis) add(kept[axis], o.kept[axis]);
  for (int axis = 0; axis < reduced.rank(); ++axis) add(reduced[axis], o.reduced[axis]);
  if (by_columns) add(columns, o.column);
  return walk;
}

void ReduceLoop::make_dense(std::size_t operand) {
  Operand& o = operands[operand];
  const Strides dense = contiguous_strides(walk(operand).shape);
  int next = 0;
  const auto place = [&](std::int64_t& stride) {
    stride = stride == 0 ? 0 : dense[next];
    ++next;
  };
  for (std::int64_t& stride : o.kept) place(stride);
  for (std::int64_t& stride : o.reduced) place(stride);
  if (by_columns) place(o.column);
}

void ReduceLoop::choose_packets() {
  const auto along = [&](const Operand& o) { return by_columns ? o.column : o.reduced.back(); };
  std::int64_t widest = 0;
  std::int64_t fits = by_columns ? columns : reduced.back();
  for (const Operand& o : operands) {
    if (along(o) != 1) continue;
    widest = std::max(widest, static_cast<std::int64_t>(size_of(o.dtype)));
    for (const std::int64_t s : o.kept) fits = std::gcd(fits, s);
    const int outer = o.reduced.rank() - (by_columns ? 0 : 1);
    for (int axis = 0; axis < outer; ++axis) fits = std::gcd(fits, o.reduced[axis]);
  }
  packet = widest == 0 ? 1 : static_cast<int>(std::gcd(16 / widest, fits));
  wide = false;
  for (Operand& o : operands) {
    if (all_zero(o.kept) && all_zero(o.reduced) && o.column == 0) {
      o.access = PacketAccess::kScalar;
    } else if (along(o) == 0) {
      o.access = PacketAccess::kRepeat;
    } else {
      o.access = packet > 1 && along(o) == 1 ? PacketAccess::kDense : PacketAccess::kGather;
    }
    const std::int64_t across = std::max<std::int64_t>(columns - 1, 0) * std::abs(o.column);
    wide = wide || reach(kept, o.kept) + reach(reduced, o.reduced) + across >= kMostPositions;
  }
}

bool ReduceLoop::is_aligned(std::span<const void* const> inputs) const {
  for (std::size_t k = 0; k < operands.size(); ++k) {
    if (operands[k].access != PacketAccess::kDense) continue;
    const std::size_t bytes = static_cast<std::size_t>(packet) * size_of(operands[k].dtype);
    if (reinterpret_cast<std::uintptr_t>(inputs[k]) % bytes != 0) return false;
  }
  return true;
}

namespace {

/// Writes the source of elements.
class SourceText {
 public:
  SourceText(const op::ElementwiseReduce& operation, const ReduceLoop& loop, bool aligned)
      : operation_(operation),
        loop_(loop),
        aligned_(aligned ? "true" : "false"),
        kept_('k', loop.kept, 1, loop.outputs >= kMostPositions, loop.wide),
        reduced_('r', loop.reduced, loop.by_columns ? 1 : loop.packet,
                 num_elements(loop.reduced) >= kMostPositions, loop.wide) {
    arguments_.add("MC_GLOBAL void*", "out", std::uint64_t{0});
    for (std::size_t k = 0; k < loop.operands.size(); ++k) {
      arguments_.add("const MC_GLOBAL void*", fmt::format("in{}", k), std::uint64_t{0});
    }
    arguments_.add("int64_t", "outputs", loop.outputs);
  }

  ArgumentStruct& arguments() { return arguments_; }

  /// `loop`: reduce_rows_of or reduce_columns_of.
  ReduceSource finish(std::string_view loop, std::int64_t group_bytes) {
    kept_.add_sizes(arguments_);
    reduced_.add_sizes(arguments_);
    std::vector<DType> dtypes;
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      const ReduceLoop::Operand& o = loop_.operands[k];
      dtypes.push_back(o.dtype);
      kept_.add_strides(arguments_, k, o.kept);
      reduced_.add_strides(arguments_, k, o.reduced);
      if (has_column_field(o)) arguments_.add("int64_t", column_field(k), o.column);
    }
    const ElementText element(operation_, dtypes, loop_.dtype, arguments_);
    const std::string text = arguments_.text() + element.function("uint32_t") +
                             source(packets_in_flight(bytes_of_a_packet(), element.instructions()));
    ReduceSource result;
    result.name = name_with_hash(
        fmt::format("{}_{}_{}", short_name(operation_), ::metal_candle::name(loop_.dtype),
                    loop_.by_columns ? "columns" : "rows"),
        text);
    result.text = fmt::format("{}{}MC_KERNEL_MERGED({}, Arguments, {}, {}, {}<{}, {}, Source>);\n",
                              reduction_text(), text, result.name, kReduceThreads, group_bytes,
                              loop, stored_type(loop_.dtype), static_cast<int>(loop_.kind));
    result.arguments = arguments_.bytes();
    return result;
  }

 private:
  static bool has_column_field(const ReduceLoop::Operand& o) {
    return o.column != 0 && o.column != 1;
  }
  static std::string column_field(std::size_t k) { return fmt::format("column_stride{}", k); }

  [[nodiscard]] bool is(std::size_t k, PacketAccess access) const {
    return loop_.operands[k].access == access;
  }
  /// One element a packet.
  [[nodiscard]] bool is_single(std::size_t k) const {
    return is(k, PacketAccess::kRepeat) || (is(k, PacketAccess::kGather) && loop_.packet == 1);
  }
  [[nodiscard]] std::int64_t bytes_of_a_packet() const {
    std::int64_t bytes = 0;
    for (const ReduceLoop::Operand& o : loop_.operands) {
      if (o.access == PacketAccess::kScalar) continue;
      const std::int64_t elements = o.access == PacketAccess::kRepeat ? 1 : loop_.packet;
      bytes += elements * static_cast<std::int64_t>(size_of(o.dtype));
    }
    return bytes;
  }

  [[nodiscard]] std::string begin() const {
    std::string text =
        fmt::format("  MC_FUNCTION void begin(MC_CONSTANT Arguments& a, {}) {{\n",
                    loop_.by_columns ? "uint32_t group, int64_t column" : "uint32_t output");
    text += kept_.coordinates(loop_.by_columns ? "group" : "output");
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      const ReduceLoop::Operand& o = loop_.operands[k];
      const std::string base =
          fmt::format("static_cast<const MC_GLOBAL {}*>(a.in{})", stored_type(o.dtype), k);
      if (is(k, PacketAccess::kScalar)) {
        text += fmt::format("    s{} = {};\n", k, load_text(o.dtype, base + "[0]"));
        continue;
      }
      text += fmt::format("    x{} = {}", k, base);
      const std::string offset = kept_.offset_of(k, o.kept);
      if (!offset.empty()) text += fmt::format(" + ({})", offset);
      if (o.column != 0) text += " + column" + times_column(k);
      text += ";\n";
    }
    return text + "  }\n";
  }
  [[nodiscard]] std::string times_column(std::size_t k) const {
    return has_column_field(loop_.operands[k]) ? " * a." + column_field(k) : "";
  }

  [[nodiscard]] std::string load() const {
    std::string text =
        "  MC_FUNCTION Elements load(MC_CONSTANT Arguments& a, uint32_t unit) const {\n";
    text += reduced_.coordinates("unit") + "    Elements e;\n";
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      const ReduceLoop::Operand& o = loop_.operands[k];
      if (is(k, PacketAccess::kScalar)) continue;
      std::string at = reduced_.offset_of(k, o.reduced);
      if (at.empty()) at = "0";
      if (is_single(k)) {
        text += fmt::format("    e.p{0} = x{0}[{1}];\n", k, at);
      } else if (is(k, PacketAccess::kDense)) {
        text += fmt::format("    e.p{0} = load_packet<{1}, {2}>(x{0} + ({3}));\n", k, loop_.packet,
                            aligned_, at);
      } else {
        const std::string times = loop_.by_columns
                                      ? times_column(k)
                                      : reduced_.times_stride(k, o.reduced, o.reduced.rank() - 1);
        text += fmt::format(
            "    MC_UNROLL\n    for (int i = 0; i < {1}; ++i) e.p{0}.values[i] = x{0}[{2} + "
            "i{3}];\n",
            k, loop_.packet, at, times);
      }
    }
    return text + "    return e;\n  }\n";
  }

  [[nodiscard]] std::string value() const {
    std::string values;
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      if (is(k, PacketAccess::kScalar)) {
        values += fmt::format(", s{}", k);
        continue;
      }
      values += ", " + load_text(loop_.operands[k].dtype,
                                 fmt::format("e.p{}{}", k, is_single(k) ? "" : ".values[i]"));
    }
    return fmt::format(
        "  MC_FUNCTION {} value(MC_CONSTANT Arguments& a, MC_THREAD const Elements& e, int i) "
        "const {{\n    return element(a, 0{});\n  }}\n",
        value_type(loop_.dtype), values);
  }

  [[nodiscard]] std::string source(int in_flight) const {
    std::string elements, members;
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      const DType dtype = loop_.operands[k].dtype;
      if (is(k, PacketAccess::kScalar)) {
        members += fmt::format("  {} s{};\n", value_type(dtype), k);
        continue;
      }
      members += fmt::format("  const MC_GLOBAL {}* x{};\n", stored_type(dtype), k);
      elements += is_single(k) ? fmt::format("    {} p{};\n", stored_type(dtype), k)
                               : fmt::format("    Packet<{}, {}> p{};\n", stored_type(dtype),
                                             loop_.packet, k);
    }
    return fmt::format(
               "struct Source {{\n  enum {{ width = {}, in_flight = {} }};\n"
               "  struct Elements {{\n{}  }};\n{}",
               loop_.packet, in_flight, elements, members) +
           begin() + load() + value() + "};\n";
  }

  const op::ElementwiseReduce& operation_;
  const ReduceLoop& loop_;
  const std::string_view aligned_;
  const AxesText kept_, reduced_;
  ArgumentStruct arguments_;
};

}  // namespace

ReduceSource write_reduce(const op::ElementwiseReduce& operation, const ReduceLoop& loop,
                          const RowsGrid& grid, bool aligned) {
  SourceText text(operation, loop, aligned);
  text.arguments().add("uint32_t", "units", grid.units);
  text.arguments().add("uint32_t", "chunk", grid.chunk);
  text.arguments().add("uint32_t", "chunks", grid.chunks);
  text.arguments().add("uint32_t", "team_shift", grid.team_shift);
  text.arguments().add("uint32_t", "whole_group", grid.whole_group);
  constexpr std::int64_t kMostWarps = 32;
  return text.finish("reduce_rows_of",
                     kMostWarps * static_cast<std::int64_t>(sizeof(std::int64_t)));
}

ReduceSource write_reduce(const op::ElementwiseReduce& operation, const ReduceLoop& loop,
                          const ColumnsGrid& grid, bool aligned) {
  SourceText text(operation, loop, aligned);
  text.arguments().add("int64_t", "columns", loop.columns);
  text.arguments().add("uint32_t", "rows", grid.rows);
  text.arguments().add("uint32_t", "chunk", grid.chunk);
  text.arguments().add("uint32_t", "chunks", grid.chunks);
  text.arguments().add("uint32_t", "tile_shift", grid.tile_shift);
  const auto accumulator = static_cast<std::int64_t>(accumulator_bytes(loop.dtype));
  return text.finish("reduce_columns_of", kReduceThreads * loop.packet * accumulator);
}

}  // namespace metal_candle::backend::gpu
