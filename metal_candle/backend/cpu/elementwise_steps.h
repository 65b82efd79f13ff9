// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The steps that elementwise programs are made of: loops over a few dense arrays. Values of f16 and
// bf16 are held as f32 between steps, and rounded by a step of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "metal_candle/backend/elementwise.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::cpu {

/// Dense arrays of `count` elements. `out` may be one of `in` if the element sizes agree.
struct StepArguments {
  const void* in[3];
  void* out;
  std::size_t count;
};
using StepFn = void (*)(const StepArguments&);

/// Steps on f32, vectorised for the instruction set of this machine. Null where f32 has no such
/// operation.
struct FloatSteps {
  StepFn unary[kNumUnaryKinds];
  StepFn binary[kNumBinaryKinds];
  StepFn select;  // (bool, any 4-byte type, the same).
  StepFn swiglu;
  StepFn from_f16, from_bf16;    // Half precision in memory to f32.
  StepFn to_f16, to_bf16;        // And back, rounding to nearest even.
  StepFn round_f16, round_bf16;  // f32 to the nearest f32 that half precision has.
  // Copies `bytes` bytes past the caches, for results too large to stay in them. Call
  // stream_fence() before another thread may read them.
  void (*stream_copy)(const void* from, void* to, std::size_t bytes);
  void (*stream_fence)();
};
[[nodiscard]] const FloatSteps& float_steps();

// Steps on bool and integers. Null where the dtype has no such operation. Arithmetic wraps;
// division by zero gives 0; shifts by more than the width shift everything out; arithmetic on bool
// is that of the integers 0 and 1 with the result compared to 0.
[[nodiscard]] StepFn integer_unary(UnaryKind kind, DType dtype);
[[nodiscard]] StepFn integer_binary(BinaryKind kind, DType dtype);
/// Select for elements of 1 or 8 bytes.
[[nodiscard]] StepFn select_step(std::size_t element_bytes);
/// Conversion between any two dtypes other than f16 and bf16.
[[nodiscard]] StepFn cast_step(DType from, DType to);

/// Writes `count` copies of the element at `value`.
void fill_elements(void* out, const void* value, std::size_t element_bytes, std::size_t count);

}  // namespace metal_candle::backend::cpu
