// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Families by name.
#include "tests/ops/op_table.h"

#include <algorithm>
#include <set>

#include "metal_candle/core/device.h"

namespace metal_candle::testing {
namespace {

std::map<std::string, OpTable> make_tables() {
  std::map<std::string, OpTable> tables{{"elementwise", elementwise_ops()},
                                        {"reduce", reduce_ops()},
                                        {"layout", layout_ops()},
                                        {"index", index_ops()},
                                        {"linalg", linalg_ops()},
                                        {"nn", nn_ops()},
                                        {"random", random_ops()}};
  OpTable all;
  for (const auto& [family, table] : tables) all.insert(table.begin(), table.end());
  tables.emplace("gradients", std::move(all));
  return tables;
}

}  // namespace

const OpTable& ops_of(const std::string& family) {
  static const std::map<std::string, OpTable> tables = make_tables();
  return tables.at(family);
}

std::vector<std::string> ops_in_fixture(const std::string& family) {
  std::set<std::string> names;
  for (const FixtureCase& c : fixture_cases(family)) names.insert(c.op);
  return {names.begin(), names.end()};
}

Tolerance tolerance_for(const Op& op, const FixtureCase& c, DType dtype) {
  const bool on_gpu = !(default_device() == Device::cpu());
  const double intermediate =
      on_gpu ? std::max(op.intermediate, op.gpu_intermediate) : op.intermediate;
  const auto unit = [](DType rounded) {
    return rounded == DType::kF16    ? 9.8e-4
           : rounded == DType::kBF16 ? 7.9e-3
                                     : 0.0;  // 2^-10, 2^-7.
  };
  if (!is_floating(dtype)) return {};
  const DType first = c.inputs.empty() ? dtype : c.inputs[0].stored.dtype();
  const double inside = std::max(unit(first), unit(dtype)) * intermediate;
  const double subnormal = dtype == DType::kF16 ? 6e-8 : 0.0;  // 2^-24.
  return {op.tolerance.relative + unit(dtype), op.tolerance.absolute + subnormal + inside};
}

}  // namespace metal_candle::testing
