// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Text of the dialect (dialect.h) that finds where operands have their element at a position of
// several axes. Which axes there are, and along which of them an operand does not move or moves by
// 1, is part of the text; sizes and other strides are arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "metal_candle/backend/gpu/element_text.h"
#include "metal_candle/core/shape.h"

namespace metal_candle::backend::gpu {

/// Axes that a kernel walks in row-major order, some elements of the last at a time.
class AxesText {
 public:
  /// `letter` begins the names of all that belongs to these axes. wide_positions: a position may
  /// need 64 bits; else it is below 2^31. wide_offsets: so may what strides multiply to.
  AxesText(char letter, const Shape& shape, int packet, bool wide_positions, bool wide_offsets);

  /// The types of positions and of offsets.
  [[nodiscard]] std::string_view index() const { return wide_positions_ ? "uint64_t" : "uint32_t"; }
  [[nodiscard]] std::string_view offset() const { return wide_offsets_ ? "int64_t" : "int32_t"; }

  /// Adds a field of either type.
  void add_index(ArgumentStruct& arguments, const std::string& name, std::int64_t value) const;
  void add_offset(ArgumentStruct& arguments, const std::string& name, std::int64_t value) const;
  /// Adds what coordinates() needs.
  void add_sizes(ArgumentStruct& arguments) const;
  /// Adds what offset_of(operand) needs.
  void add_strides(ArgumentStruct& arguments, std::size_t operand, const Strides& strides) const;

  /// Statements that make coordinates of the position that variable `position` holds.
  [[nodiscard]] std::string coordinates(std::string_view position) const;
  /// The operand's offset there; empty if it is the same everywhere.
  [[nodiscard]] std::string offset_of(std::size_t operand, const Strides& strides) const;
  /// " * stride" of an axis; empty for 1.
  [[nodiscard]] std::string times_stride(std::size_t operand, const Strides& strides,
                                         int axis) const;

 private:
  [[nodiscard]] std::string field(std::string_view what, int axis) const;
  [[nodiscard]] std::string stride_field(std::size_t operand, int axis) const;

  char letter_;
  Shape shape_;
  int packet_;
  bool wide_positions_, wide_offsets_;
};

}  // namespace metal_candle::backend::gpu
