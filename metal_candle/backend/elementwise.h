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

/// Whether operands that half precision holds give a result that it holds.
inline bool is_exact(const Operation& operation) {
  if (const auto* unary = std::get_if<op::Unary>(&operation)) {
    switch (unary->kind) {
      case UnaryKind::kAbs:
      case UnaryKind::kNegative:
      case UnaryKind::kSign:
      case UnaryKind::kFloor:
      case UnaryKind::kCeil:
      case UnaryKind::kRound:
      case UnaryKind::kTrunc:
      case UnaryKind::kRelu:
        return true;
      default:
        return is_predicate(unary->kind);
    }
  }
  if (const auto* binary = std::get_if<op::Binary>(&operation)) {
    return binary->kind == BinaryKind::kMaximum || binary->kind == BinaryKind::kMinimum ||
           binary->kind == BinaryKind::kCopysign || is_predicate(binary->kind);
  }
  return std::holds_alternative<op::Select>(operation);
}

}  // namespace metal_candle::backend
