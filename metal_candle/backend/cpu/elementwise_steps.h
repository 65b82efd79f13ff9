// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The steps that elementwise programs are made of: loops over a few dense arrays. Values of f16 and
// bf16 are held as f32 between steps, and rounded by a step of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

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

/// What a chain does to its value: most with an operand y, on one side of it or the other.
enum class Link : std::uint8_t {
  kNone,
  kAdd,
  kSubtract,
  kSubtractFrom,  // y - value.
  kMultiply,
  kDivide,
  kDivideInto,  // y / value.
  kMaximum,
  kMaximumOf,        // maximum(y, value).
  kMaximumOfNumber,  // maximum(value, y), y being no NaN.
  kMinimum,
  kMinimumOf,        // minimum(y, value).
  kMinimumOfNumber,  // minimum(value, y), y being no NaN.
  kAbs,
  kNegative,
  kSquare,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kRelu,
  kExp,
  kLog,
  kTanh,
  kSigmoid,
  kSilu,
  kGelu,
  kGeluTanh,
  kRoundF16,  // To the nearest f32 that half precision has.
  kRoundBF16,
};
/// kNone if no chain has it, which its step computes then. `second`: the value is the second
/// operand.
[[nodiscard]] Link link_of(UnaryKind kind);
[[nodiscard]] Link link_of(BinaryKind kind, bool second);

struct LinkCall {
  Link link;
  DType dtype = DType::kF32;      // Of y in memory: f32, f16 or bf16.
  const void* operand = nullptr;  // y, if the link has one.
};

/// A step, or several at once, each of which works on the result of the one before it: a few
/// vectors of it stay in registers from the first to the last. Gives the steps' results, to the
/// bit, but for which NaN a sum or product of two is.
struct ChainArguments {
  const void* in;
  DType in_dtype;  // f32, f16 or bf16, as out_dtype.
  std::span<const LinkCall> links;
  void* out;
  DType out_dtype;
  std::size_t count;
  // Writes past the caches, as stream_copy() does. Of an `out` aligned to 64 bytes.
  bool stream = false;
};

using ChainFn = void (*)(const ChainArguments& arguments);
/// The version of it for the instruction set of this machine.
[[nodiscard]] ChainFn chain_function();

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
