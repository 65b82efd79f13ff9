// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Copies between strided places in memory: the part that kernels of kernels/copy.h leave to the
// host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "metal_candle/backend/gpu/gpu_device.h"
#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/core/dtype.h"
#include "metal_candle/core/shape.h"

namespace metal_candle::backend::gpu {

/// A block of elements, copied in row-major order. Immutable.
class StridedCopy {
 public:
  /// A block whose place in the input or in the output is a tensor of starts, clamped so that it
  /// fits.
  struct Place {
    Axes axes;            // What the starts move along.
    Dims largest_starts;  // Along each of them.
    Dims strides;         // Of the input or output, along each.
    bool wide = false;    // i64, not i32.
    bool in_output = false;
  };

  StridedCopy(GpuDevice& device, const Shape& shape, const Strides& in, const Strides& out,
              std::size_t element_bytes, const std::optional<Place>& place = {});

  /// The addresses are those of the block's first element, or what the starts move it from.
  void encode(Encoder& encoder, const void* in, void* out, const void* starts = nullptr) const;

  /// Whether the last axis of the input is not the dense one, so that reading in row-major order
  /// would touch a sector of memory for each element.
  static bool is_transposed(const Shape& shape, const Strides& strides);

 private:
  const Function* function_ = nullptr;
  Grid grid_;
  std::variant<CopyArguments, TransposeArguments> arguments_;
};

/// The same element at every place of a block. Immutable.
class StridedFill {
 public:
  /// `value` points to an element.
  StridedFill(GpuDevice& device, const Shape& shape, const Strides& out, const void* value,
              std::size_t element_bytes);
  void encode(Encoder& encoder, void* out) const;

 private:
  const Function& function_;
  Grid grid_;
  CopyArguments arguments_;
};

/// Operands of a kernel that are copied to its scratch, transposed, before it computes with them.
class TransposedOperands {
 public:
  /// Adds operand `index`, which the kernel walks in row-major order of `shape`, if reading it as
  /// it lies would touch a sector of memory for each element; it is dense in that order then.
  /// Returns whether it did.
  bool add_if_worth_it(GpuDevice& device, std::size_t index, const Shape& shape,
                       const Strides& strides, DType dtype);
  [[nodiscard]] std::size_t scratch_bytes() const { return scratch_bytes_; }
  /// Copies to `scratch`, and makes those of `inputs` point there.
  void encode(Encoder& encoder, std::span<const void*> inputs, void* scratch) const;

 private:
  struct Operand {
    std::size_t index;
    StridedCopy copy;
    std::size_t offset;  // In the scratch.
  };
  std::vector<Operand> operands_;
  std::size_t scratch_bytes_ = 0;
};

/// `address` moved by `elements` elements.
inline const void* element_address(const void* address, std::int64_t elements,
                                   std::size_t element_bytes) {
  return static_cast<const std::byte*>(address) +
         elements * static_cast<std::int64_t>(element_bytes);
}
inline void* element_address(void* address, std::int64_t elements, std::size_t element_bytes) {
  return static_cast<std::byte*>(address) + elements * static_cast<std::int64_t>(element_bytes);
}

}  // namespace metal_candle::backend::gpu
