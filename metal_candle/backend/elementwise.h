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

/// Of f16 and bf16, values in the middle of a program are f32, and are rounded where they are
/// stored; but constants, and conversions that the program has, are what they say they are.
inline bool rounds_inside(const Operation& operation) {
  return std::holds_alternative<op::Cast>(operation) || std::holds_alternative<op::Full>(operation);
}

}  // namespace metal_candle::backend
