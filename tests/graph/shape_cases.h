// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Short spellings for tables of operations and their operands.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::shape_cases {

inline TensorSpec f32(const Shape& shape) { return {shape, DType::kF32}; }
inline TensorSpec f16(const Shape& shape) { return {shape, DType::kF16}; }
inline TensorSpec bf16(const Shape& shape) { return {shape, DType::kBF16}; }
inline TensorSpec i32(const Shape& shape) { return {shape, DType::kI32}; }
inline TensorSpec i64(const Shape& shape) { return {shape, DType::kI64}; }
inline TensorSpec u32(const Shape& shape) { return {shape, DType::kU32}; }
inline TensorSpec boolean(const Shape& shape) { return {shape, DType::kBool}; }

inline std::vector<const TensorSpec*> references(const std::vector<TensorSpec>& specs) {
  std::vector<const TensorSpec*> refs;
  for (const TensorSpec& spec : specs) refs.push_back(&spec);
  return refs;
}

/// "add(...) of f32[2, 3], f32[4] as f32[]": what a failing case was.
inline std::string describe(const Operation& operation, const std::vector<TensorSpec>& inputs,
                            const TensorSpec& requested) {
  std::string text = to_string(operation) + " of";
  for (const TensorSpec& input : inputs) {
    text += fmt::format(" {}{}", name(input.dtype), to_string(input.shape));
  }
  return text + fmt::format(" as {}{}", name(requested.dtype), to_string(requested.shape));
}

}  // namespace metal_candle::shape_cases
