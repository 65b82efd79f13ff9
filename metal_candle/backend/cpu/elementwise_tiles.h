// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// An elementwise operation over the elements of a shape, in row-major order: what its program is
// given for operands that broadcast or lie in memory in any other way. For kernels that store its
// results and for those that go on with them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "metal_candle/backend/cpu/copy.h"
#include "metal_candle/backend/cpu/elementwise_program.h"
#include "metal_candle/backend/cpu/workspace.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::backend::cpu {

/// Immutable after construction.
class ElementwiseTiles {
 public:
  /// `inputs` broadcast to the shape of `output`. Throws DTypeError when a dtype does not have an
  /// operation.
  ElementwiseTiles(const Operation& operation, std::span<const TensorLayout> inputs,
                   const TensorSpec& output);

  [[nodiscard]] std::int64_t elements() const { return elements_; }
  [[nodiscard]] const TileProgram& program() const { return program_; }
  /// Elements that are cut into tiles together: a long last axis, on which operands with a dense
  /// row are read where they lie, or everything.
  [[nodiscard]] std::int64_t row() const { return row_; }
  /// Elements of a full tile.
  [[nodiscard]] std::int64_t tile() const { return tile_; }

  /// Memory that copied() writes to, a multiple of 64 bytes.
  [[nodiscard]] std::size_t copied_bytes() const { return copied_bytes_; }
  /// The inputs with those that lie transposed copied to `memory`: element by element they would
  /// cost a cache line each. Uses parallel_for(); `addresses` holds the result, if there are any.
  [[nodiscard]] std::span<const void* const> copied(std::span<const void* const> inputs,
                                                    void* memory,
                                                    std::vector<const void*>& addresses) const;

  /// Computes elements, for one thread. The inputs are those of copied().
  class Reader {
   public:
    Reader(const ElementwiseTiles& tiles, std::span<const void* const> inputs);
    /// Elements [first, first + count), any number, to `out`; past the caches if `stream`.
    void compute(std::int64_t first, std::int64_t count, void* out, bool stream = false) const;
    [[nodiscard]] Workspace& workspace() { return workspace_; }

   private:
    void load_operand(int index, std::int64_t first, std::int64_t count) const;

    const ElementwiseTiles& tiles_;
    std::span<const void* const> inputs_;
    Workspace workspace_;
    TileProgram::Frame frame_;
  };

 private:
  struct Operand {
    OperandAccess access;
    std::size_t bytes;  // Of an element.
    Strides strides;    // On the collapsed axes.
  };
  // An operand that is copied, transposed, before the tiles are computed.
  struct TransposedOperand {
    std::size_t index;
    StridedCopy copy;
    std::size_t offset;  // In the memory for copies.
  };
  struct Analysis;
  ElementwiseTiles(const Operation& operation, Analysis analysis, DType output);

  TileProgram program_;
  Shape shape_;  // On the collapsed axes.
  std::vector<Operand> operands_;
  std::vector<TransposedOperand> transposed_;
  std::size_t copied_bytes_;
  std::int64_t elements_, row_, tile_;
  std::int64_t output_bytes_;  // Of an element.
};

}  // namespace metal_candle::backend::cpu
