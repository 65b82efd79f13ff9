// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Kernels that reduce what an elementwise program computes, written as text of the dialect
// (dialect.h): a Source of kernels/reduce_loops.h for the program and a class of layouts. As with
// elementwise kernels (elementwise_source.h), sizes, strides and scalar attributes are arguments.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "metal_candle/backend/gpu/elementwise_source.h"
#include "metal_candle/backend/gpu/reduce.h"

namespace metal_candle::backend::gpu {

/// How the elements of a program are walked: what is kept of them and what is reduced, each with
/// its axes merged as far as all operands allow; along rows, or down columns that lie side by side,
/// by how the largest operand lies.
struct ReduceLoop {
  /// `shape` and `result`: of what the program gives.
  ReduceLoop(std::span<const TensorLayout> inputs, const Shape& shape, DType result,
             const op::Reduce& reduce);

  struct Operand {
    DType dtype;
    Strides kept, reduced;
    std::int64_t column = 0;  // From a column to the next.
    PacketAccess access = PacketAccess::kGather;
  };
  /// An operand as it is walked, without what it is repeated over, and what it would be if it lay
  /// in that order.
  struct Walk {
    Shape shape;
    Strides strides;
  };
  [[nodiscard]] Walk walk(std::size_t operand) const;
  /// Makes the operand one that lies in the order of its walk.
  void make_dense(std::size_t operand);
  /// Once operands lie as they will: what can be loaded together.
  void choose_packets();
  /// Whether packets of dense operands lie at multiples of their size.
  [[nodiscard]] bool is_aligned(std::span<const void* const> inputs) const;

  ReduceKind kind;
  DType dtype;
  bool by_columns = false;
  Shape kept, reduced;       // Down columns, `kept` is of groups of columns.
  std::int64_t columns = 1;  // In a group.
  std::int64_t outputs = 1;
  std::vector<Operand> operands;
  int packet = 1;     // Elements, along the last reduced axis or the columns, which it divides.
  bool wide = false;  // Offsets need 64 bits.
};

/// The struct begins with the addresses of the output and of the inputs, which are 0.
struct ReduceSource {
  std::string name, text;
  std::vector<std::byte> arguments;
};

/// For addresses of which is_aligned() says `aligned`. `grid`: of the loop's form.
[[nodiscard]] ReduceSource write_reduce(const op::ElementwiseReduce& operation,
                                        const ReduceLoop& loop, const RowsGrid& grid, bool aligned);
[[nodiscard]] ReduceSource write_reduce(const op::ElementwiseReduce& operation,
                                        const ReduceLoop& loop, const ColumnsGrid& grid,
                                        bool aligned);

}  // namespace metal_candle::backend::gpu
