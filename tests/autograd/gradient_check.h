// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Compares gradients with central differences. Both sides are evaluated by the reference
// interpreter in double precision, so the tolerance is tight and no kernel takes part.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "metal_candle/autograd/differentiation.h"
#include "tests/support/host_tensor.h"

namespace metal_candle::testing {

/// A function and where to differentiate it. Arguments of integer dtypes are held fixed.
struct GradientCase {
  std::string name;
  std::vector<HostTensor> arguments;
  TensorFunction fn;
  bool second_order = true;
};
inline void PrintTo(const GradientCase& c, std::ostream* out) { *out << c.name; }
inline std::string case_name(const ::testing::TestParamInfo<GradientCase>& info) {
  return info.param.name;
}

/// Reproducible values, uniform in [low, high) and exact in the dtype.
[[nodiscard]] HostTensor uniform(const Shape& shape, double low = -2, double high = 2,
                                 std::uint64_t seed = 1, DType dtype = DType::kF32);

/// Adapts a function of one, two or three tensors to the form of GradientCase.
template <typename Fn>
TensorFunction of_tensors(Fn fn) {
  return [fn](const std::vector<Tensor>& x) -> std::vector<Tensor> {
    if constexpr (std::is_invocable_v<Fn, Tensor>) {
      return {fn(x[0])};
    } else if constexpr (std::is_invocable_v<Fn, Tensor, Tensor>) {
      return {fn(x[0], x[1])};
    } else {
      return {fn(x[0], x[1], x[2])};
    }
  };
}

/// The gradient of sum(output * cotangent), cotangents random, against differences; each floating
/// argument differentiated alone against all of them together.
void check_first_order(const GradientCase& c);
/// Outputs and gradients, evaluated as users do in every execution mode, against the interpreter.
void check_executed(const GradientCase& c);
/// As check_first_order(), for the gradient itself, as a function of the arguments and cotangents.
void check_second_order(const GradientCase& c);

}  // namespace metal_candle::testing
