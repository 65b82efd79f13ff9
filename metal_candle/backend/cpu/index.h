// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the indexing kernels share: reading an index, and the families that make_index() hands on
// to.
#pragma once

#include <cstdint>
#include <memory>

#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::cpu {

std::unique_ptr<Kernel> make_scatter(const KernelRequest& request);  // Both ScatterAdds.
std::unique_ptr<Kernel> make_slice_update(
    const KernelRequest& request);  // SliceUpdate, DynamicSlice, DynamicSliceUpdate.

/// A tensor of indices into an axis.
class Indices {
 public:
  /// `op` is the name that errors use, and outlives this. `length` is the axis's.
  Indices(const char* op, DType dtype, std::int64_t length)
      : op_(op), wide_(dtype == DType::kI64), length_(length) {}

  /// Element i, in [0, length). Throws DeviceError if it is out of range.
  [[nodiscard]] std::int64_t read(const void* data, std::int64_t i) const {
    const std::int64_t given = wide_ ? static_cast<const std::int64_t*>(data)[i]
                                     : static_cast<const std::int32_t*>(data)[i];
    const std::int64_t index = given < 0 ? given + length_ : given;
    if (index < 0 || index >= length_) throw_out_of_range(given);
    return index;
  }

 private:
  [[noreturn]] void throw_out_of_range(std::int64_t index) const;

  const char* op_;
  bool wide_;
  std::int64_t length_;
};

}  // namespace metal_candle::backend::cpu
