// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise functions by name.
#include "tests/ops/op_table.h"

namespace metal_candle::testing {
namespace {

// Eight units in the last place, and results that may be flushed to zero.
constexpr Tolerance kFunction{1e-6, 2e-37};
constexpr Tolerance kExact{};

using UnaryFunction = Tensor (*)(const Tensor&);
using BinaryFunction = Tensor (*)(const Operand&, const Operand&);

Op unary(UnaryFunction fn, Tolerance tolerance = kFunction) {
  return {[fn](const FixtureCase&, const Tensors& in) { return Tensors{fn(in[0])}; }, tolerance};
}
Op binary(BinaryFunction fn, Tolerance tolerance = kExact) {
  return {[fn](const FixtureCase&, const Tensors& in) { return Tensors{fn(in[0], in[1])}; },
          tolerance};
}

Tensor with_scalar(const FixtureCase& c, const std::function<Tensor(const Operand&)>& fn) {
  const auto& scalar = c.attributes.at("scalar");
  return scalar.is_number_integer() ? fn(scalar.get<int>()) : fn(scalar.get<double>());
}

OpTable unary_functions() {
  return {{"abs", unary(abs, kExact)},
          {"negative", unary(negative, kExact)},
          {"sign", unary(sign, kExact)},
          {"square", unary(square)},
          {"floor", unary(floor, kExact)},
          {"ceil", unary(ceil, kExact)},
          {"round", unary(round, kExact)},
          {"trunc", unary(trunc, kExact)},
          {"relu", unary(relu, kExact)},
          {"exp", unary(exp)},
          {"expm1", unary(expm1)},
          {"log", unary(log)},
          {"log1p", unary(log1p)},
          {"log2", unary(log2)},
          {"log10", unary(log10)},
          {"sqrt", unary(sqrt)},
          {"rsqrt", unary(rsqrt)},
          {"reciprocal", unary(reciprocal)},
          {"sin", unary(sin)},
          {"cos", unary(cos)},
          {"tan", unary(tan)},
          {"asin", unary(asin)},
          {"acos", unary(acos)},
          {"atan", unary(atan)},
          {"sinh", unary(sinh)},
          {"cosh", unary(cosh)},
          {"tanh", unary(tanh)},
          {"asinh", unary(asinh)},
          {"acosh", unary(acosh)},
          {"atanh", unary(atanh)},
          {"erf", unary(erf)},
          {"erfinv", unary(erfinv)},
          {"sigmoid", unary(sigmoid)},
          {"silu", unary(silu)},
          // 1 + erf(x) cancels for negative x: an error of 2^-22 |x|, in [-5, 5].
          {"gelu", unary(gelu, {1e-6, 1.3e-6})},
          {"gelu_tanh", unary(gelu_tanh, {1e-6, 1.3e-6})},
          {"isnan", unary(isnan)},
          {"isinf", unary(isinf)},
          {"isfinite", unary(isfinite)},
          {"logical_not", unary(logical_not)},
          {"bitwise_invert", unary(bitwise_invert)}};
}

OpTable binary_functions() {
  return {{"add", binary(add, {1e-7, 0})},
          {"subtract", binary(subtract, {1e-7, 0})},
          {"multiply", binary(multiply, {1e-7, 2e-38})},
          {"divide", binary(divide, {2e-7, 2e-38})},
          {"floor_divide", binary(floor_divide)},
          {"remainder", binary(remainder)},
          {"power", binary(power, {2e-6, 0})},
          {"maximum", binary(maximum)},
          {"minimum", binary(minimum)},
          {"atan2", binary(atan2, kFunction)},
          {"logaddexp", binary(logaddexp, {1e-6, 1.2e-7})},
          {"hypot", binary(hypot, kFunction)},
          {"copysign", binary(copysign)},
          {"bitwise_and", binary(bitwise_and)},
          {"bitwise_or", binary(bitwise_or)},
          {"bitwise_xor", binary(bitwise_xor)},
          {"left_shift", binary(left_shift)},
          {"right_shift", binary(right_shift)},
          {"equal", binary(equal)},
          {"not_equal", binary(not_equal)},
          {"less", binary(less)},
          {"less_equal", binary(less_equal)},
          {"greater", binary(greater)},
          {"greater_equal", binary(greater_equal)},
          {"logical_and", binary(logical_and)},
          {"logical_or", binary(logical_or)},
          {"logical_xor", binary(logical_xor)}};
}

OpTable other_functions() {
  OpTable ops;
  ops["add_scalar"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{with_scalar(c, [&](const Operand& s) { return add(in[0], s); })};
      },
      kExact};
  ops["scalar_subtract"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{with_scalar(c, [&](const Operand& s) { return subtract(s, in[0]); })};
      },
      kExact};
  ops["multiply_scalar"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{with_scalar(c, [&](const Operand& s) { return multiply(in[0], s); })};
      },
      kExact};
  ops["astype"] = {[](const FixtureCase& c, const Tensors& in) {
                     return Tensors{astype(in[0], parse_dtype(c.get<std::string>("dtype")))};
                   },
                   kExact};
  ops["where"] = {
      [](const FixtureCase&, const Tensors& in) { return Tensors{where(in[0], in[1], in[2])}; },
      kExact};
  ops["clip"] = {
      [](const FixtureCase&, const Tensors& in) { return Tensors{clip(in[0], in[1], in[2])}; },
      kExact};
  ops["isclose"] = {[](const FixtureCase& c, const Tensors& in) {
                      return Tensors{isclose(in[0], in[1], 1e-5, 1e-8, c.get<bool>("equal_nan"))};
                    },
                    kExact};
  ops["allclose"] = {[](const FixtureCase& c, const Tensors& in) {
                       return Tensors{allclose(in[0], in[1], 1e-5, 1e-8, c.get<bool>("equal_nan"))};
                     },
                     kExact};
  ops["swiglu"] = {
      [](const FixtureCase&, const Tensors& in) { return Tensors{swiglu(in[0], in[1])}; },
      {1e-6, 1e-7}};
  return ops;
}

}  // namespace

OpTable elementwise_ops() {
  OpTable ops = unary_functions();
  ops.merge(binary_functions());
  ops.merge(other_functions());
  return ops;
}

}  // namespace metal_candle::testing
