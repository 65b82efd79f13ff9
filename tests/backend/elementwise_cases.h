// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the tests of elementwise kernels of every backend share.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/host_tensor.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle::testing {

inline constexpr DType kAllDTypes[] = {DType::kBool, DType::kU8,   DType::kI8,
                                       DType::kI32,  DType::kU32,  DType::kI64,
                                       DType::kF16,  DType::kBF16, DType::kF32};

// Ordinary values, mostly; edge values of the dtype now and then.
inline HostTensor random_tensor(const Shape& shape, DType dtype, std::mt19937& random,
                                double scale = 3.0) {
  HostTensor host(shape, dtype);
  constexpr double kEdges[] = {0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, NAN, 1e-7, 60000.0};
  for (double& value : host.real) {
    value = std::normal_distribution<>(0, scale)(random);
    if (random() % 16 == 0) value = kEdges[random() % std::size(kEdges)];
    value = round_to(value, dtype);
  }
  for (std::int64_t& value : host.integer) {
    value = wrap_to(static_cast<std::int64_t>(random() % 21) - 10, dtype);
    if (random() % 8 == 0) value = wrap_to(std::int64_t{1} << (random() % 64), dtype);
    if (random() % 8 == 0) value = wrap_to(static_cast<std::int64_t>(random()) << 32, dtype);
    if (dtype == DType::kBool) value = static_cast<std::int64_t>(random() % 2);
  }
  return host;
}

inline HostTensor reference(const Operation& operation, std::span<const HostTensor* const> inputs,
                            const TensorSpec& spec) {
  return interpret_operation(operation, inputs, spec, Rounding::kEveryOperation)[0];
}

inline bool is_float_only(UnaryKind kind) {
  return kind >= UnaryKind::kExp && kind <= UnaryKind::kSilu && kind != UnaryKind::kFloor &&
         kind != UnaryKind::kCeil && kind != UnaryKind::kRound && kind != UnaryKind::kTrunc;
}
inline bool is_float_only(BinaryKind kind) {
  return kind == BinaryKind::kDivide || kind == BinaryKind::kAtan2 ||
         kind == BinaryKind::kLogAddExp || kind == BinaryKind::kHypot ||
         kind == BinaryKind::kCopysign;
}
inline bool is_integer_only(BinaryKind kind) {
  return kind >= BinaryKind::kBitwiseAnd && kind <= BinaryKind::kShiftRight;
}

inline Tolerance elementwise_tolerance(DType dtype) {
  // f32: what vector_math-inl.h states, with its absolute bounds; half precision: one rounding that
  // may go the other way.
  if (dtype == DType::kF32) return {1e-6, 5e-7};
  if (dtype == DType::kF16) return {0x1p-10, 0x1p-22};
  if (dtype == DType::kBF16) return {0x1p-7, 1e-6};
  return {};
}

// A random program over the operands; every instruction takes registers of one dtype.
inline ElementwiseProgram random_program(std::vector<DType> inputs, int length,
                                         std::mt19937& random) {
  ElementwiseProgram program{std::move(inputs), {}};
  std::vector<DType> dtypes = program.inputs;
  const auto pick = [&] { return static_cast<std::int32_t>(random() % dtypes.size()); };
  const auto pick_of = [&](DType dtype) {
    std::int32_t r = pick();
    while (dtypes[static_cast<std::size_t>(r)] != dtype) r = pick();
    return r;
  };
  constexpr UnaryKind kUnary[] = {UnaryKind::kAbs, UnaryKind::kNegative, UnaryKind::kSquare,
                                  UnaryKind::kSign, UnaryKind::kFloor};
  constexpr BinaryKind kBinary[] = {BinaryKind::kAdd,      BinaryKind::kSubtract,
                                    BinaryKind::kMultiply, BinaryKind::kMaximum,
                                    BinaryKind::kLess,     BinaryKind::kEqual};
  for (int i = 0; i < length; ++i) {
    const std::int32_t a = pick();
    const DType dtype = dtypes[static_cast<std::size_t>(a)];
    ElementwiseInstruction next{op::Cast{}, dtype, {a}};
    switch (random() % 5) {
      case 0:
        next.operation = op::Unary{kUnary[random() % std::size(kUnary)]};
        break;
      case 1:
        next.dtype = kAllDTypes[random() % std::size(kAllDTypes)];
        break;
      case 2:
        next.operation = op::Full{Scalar::from_real(1.5)};
        next.arguments.clear();
        break;
      case 3:
        if (std::find(dtypes.begin(), dtypes.end(), DType::kBool) != dtypes.end()) {
          next.operation = op::Select{};
          next.arguments = {pick_of(DType::kBool), a, pick_of(dtype)};
          break;
        }
        [[fallthrough]];
      default: {
        const BinaryKind kind = kBinary[random() % std::size(kBinary)];
        next.operation = op::Binary{kind};
        next.arguments = {a, pick_of(dtype)};
        if (is_predicate(kind)) next.dtype = DType::kBool;
      }
    }
    dtypes.push_back(next.dtype);
    program.instructions.push_back(std::move(next));
  }
  return program;
}

}  // namespace metal_candle::testing
