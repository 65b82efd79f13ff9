// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The elementwise functions of floats: each a name, and what it is of x, y and z. Said once, for
// two that must agree to the last bit: element_text.cpp writes these expressions into kernels that
// are generated, and kernels/element_program.h computes them one at a time, from a program that it
// is given. Macros, because one of them wants an expression and the other one its text; functions
// that are more than an expression are in kernels/element_functions.h. For the host and for the
// dialect (dialect.h) alike.
#pragma once

#ifndef MC_GLOBAL
#include <cstdint>
#endif

// Names are those of UnaryKind.
#define MC_UNARY_FUNCTIONS(X)                                                     \
  X(Abs, fabsf(x))                                                                \
  X(Negative, -x)                                                                 \
  X(Sign, x == 0.0f || x != x ? x : copysignf(1.0f, x))                           \
  X(Square, x* x)                                                                 \
  X(Exp, expf(x))                                                                 \
  X(Expm1, expm1f(x))                                                             \
  X(Log, logf(x))                                                                 \
  X(Log1p, log1pf(x))                                                             \
  X(Log2, log2f(x))                                                               \
  X(Log10, log10f(x))                                                             \
  X(Sqrt, sqrtf(x))                                                               \
  X(Rsqrt, rsqrtf(x))                                                             \
  X(Reciprocal, 1.0f / x)                                                         \
  X(Sin, sinf(x))                                                                 \
  X(Cos, cosf(x))                                                                 \
  X(Tan, tanf(x))                                                                 \
  X(Asin, asinf(x))                                                               \
  X(Acos, acosf(x))                                                               \
  X(Atan, atanf(x))                                                               \
  X(Sinh, sinhf(x))                                                               \
  X(Cosh, coshf(x))                                                               \
  X(Tanh, tanhf(x))                                                               \
  X(Asinh, asinhf(x))                                                             \
  X(Acosh, acoshf(x))                                                             \
  X(Atanh, atanhf(x))                                                             \
  X(Erf, erff(x))                                                                 \
  X(ErfInv, erfinvf(x))                                                           \
  X(Floor, floorf(x))                                                             \
  X(Ceil, ceilf(x))                                                               \
  X(Round, rintf(x))                                                              \
  X(Trunc, truncf(x))                                                             \
  X(Sigmoid, sigmoid(x))                                                          \
  X(Relu, max_or_nan(x, 0.0f))                                                    \
  X(Gelu, 0.5f * x * (1.0f + erff(x * 0.707106781186547524f)))                    \
  /* (1 + tanh(u)) / 2 is sigmoid(2 u). */                                        \
  X(GeluTanh, x* sigmoid(x*(1.5957691216057308f + 0.07135481627260025f * x * x))) \
  X(Silu, x* sigmoid(x))                                                          \
  X(IsNan, x != x)                                                                \
  X(IsInf, fabsf(x) == INFINITY)                                                  \
  X(IsFinite, fabsf(x) < INFINITY)                                                \
  X(LogicalNot, x == 0)

// Names are those of BinaryKind; predicates are of integers, too.
#define MC_BINARY_FUNCTIONS(X)         \
  X(Add, x + y)                        \
  X(Subtract, x - y)                   \
  X(Multiply, (x * y))                 \
  X(Divide, x / y)                     \
  X(FloorDivide, floor_quotient(x, y)) \
  X(Remainder, floor_modulo(x, y))     \
  X(Power, powf(x, y))                 \
  X(Maximum, max_or_nan(x, y))         \
  X(Minimum, min_or_nan(x, y))         \
  X(Atan2, atan2f(x, y))               \
  X(LogAddExp, log_add_exp(x, y))      \
  X(Hypot, hypotf(x, y))               \
  X(Copysign, copysignf(x, y))         \
  X(Equal, x == y)                     \
  X(NotEqual, x != y)                  \
  X(Less, x < y)                       \
  X(LessEqual, x <= y)                 \
  X(Greater, x > y)                    \
  X(GreaterEqual, x >= y)              \
  X(LogicalAnd, x != 0 && y != 0)      \
  X(LogicalOr, x != 0 || y != 0)       \
  X(LogicalXor, (x != 0) != (y != 0))

// Of 16-bit operands, where two units in the last place of an f32 do not matter: a quarter of the
// instructions.
#define MC_UNARY_FUNCTIONS_OF_16_BITS(X) \
  X(Exp16, fast_exp2(x * 1.44269504f))   \
  X(Sigmoid16, logistic16(x))

#define MC_GATED_FUNCTIONS(X)     \
  X(SwiGlu, (x * sigmoid(x) * y)) \
  X(SwiGlu16, (x * logistic16(x) * y))

#define MC_ROUNDING_FUNCTIONS(X) \
  X(IsNotZero, x != 0)           \
  X(RoundF16, float(half(x)))    \
  X(RoundBF16, float(bfloat(x)))

// Sums of products, which contractions() of element_code.h finds, are rounded once.
#define MC_TERNARY_FUNCTIONS(X)       \
  X(Select, x != 0 ? y : z)           \
  X(MultiplyAdd, fmaf(x, y, z))       \
  X(MultiplySubtract, fmaf(x, y, -z)) \
  X(SubtractProduct, fmaf(-x, y, z))

// What an instruction of a program (kernels/element_program.h) does: one of those, or brings the
// packet's elements of operand z, or takes x as it is.
#define MC_ELEMENT_CODE(name, expression) kElement##name,
enum ElementCode : uint32_t {
  kElementLoadF32,
  kElementLoadF16,
  kElementLoadBF16,
  kElementLoadBool,
  kElementMove,
  MC_UNARY_FUNCTIONS(MC_ELEMENT_CODE)             //
  MC_BINARY_FUNCTIONS(MC_ELEMENT_CODE)            //
  MC_UNARY_FUNCTIONS_OF_16_BITS(MC_ELEMENT_CODE)  //
  MC_GATED_FUNCTIONS(MC_ELEMENT_CODE)             //
  MC_ROUNDING_FUNCTIONS(MC_ELEMENT_CODE)          //
  MC_TERNARY_FUNCTIONS(MC_ELEMENT_CODE)           //
  kNoElementCode
};
#undef MC_ELEMENT_CODE
