// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What backends share about elementwise operations.
#pragma once

#include <cstring>
#include <type_traits>
#include <variant>

#include "metal_candle/core/dtype.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend {

/// Writes the value of a scalar attribute as one element of dtype.
inline void store_scalar(const Scalar& value, DType dtype, void* out) {
  dispatch_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    T element;
    if constexpr (is_floating(dtype_of<T>())) {
      element = static_cast<T>(static_cast<float>(value.real));
    } else if constexpr (std::is_same_v<T, bool>) {
      element = value.integer != 0;
    } else {
      element = static_cast<T>(value.integer);
    }
    std::memcpy(out, &element, sizeof(T));
  });
}

/// Whether a result of f16 or bf16 is rounded in the middle of a program: constants are what they
/// say, and so are conversions that the program has. Others are f32 until they are stored.
inline bool rounds_inside(const Operation& operation) {
  return std::holds_alternative<op::Cast>(operation) || std::holds_alternative<op::Full>(operation);
}

}  // namespace metal_candle::backend
