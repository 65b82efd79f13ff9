// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How the operations that fixtures name are called, and how closely they are to be met.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "metal_candle/graph/ops.h"
#include "tests/support/fixture.h"

namespace metal_candle::testing {

using Tensors = std::vector<Tensor>;
/// Calls the operation with the attributes of the case.
using OpFunction = std::function<Tensors(const FixtureCase&, const Tensors& inputs)>;

struct Op {
  OpFunction call;
  /// Of f32 results; f16 and bf16 ones are rounded once on top of it.
  Tolerance tolerance;
  /// Size of the intermediate results that are rounded too, where it is several operations.
  double intermediate = 0;
  /// The same of those that GPUs round besides, because their matrix units multiply 16-bit numbers.
  double gpu_intermediate = 0;
};
using OpTable = std::map<std::string, Op>;

// One a family of fixtures, each in a file of its own.
[[nodiscard]] OpTable elementwise_ops();
[[nodiscard]] OpTable reduce_ops();
[[nodiscard]] OpTable layout_ops();
[[nodiscard]] OpTable index_ops();
[[nodiscard]] OpTable linalg_ops();
[[nodiscard]] OpTable nn_ops();
[[nodiscard]] OpTable random_ops();

/// The table of a family; all of them together for "gradients".
[[nodiscard]] const OpTable& ops_of(const std::string& family);

/// The operations that cases of the family name.
[[nodiscard]] std::vector<std::string> ops_in_fixture(const std::string& family);

/// What results of this dtype may differ by: the tolerance of f32, the unit in the last place, and
/// those of intermediate results, which have that dtype or the first input's.
[[nodiscard]] Tolerance tolerance_for(const Op& op, const FixtureCase& c, DType dtype);

}  // namespace metal_candle::testing
