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

Tolerance tolerance_for(const Op& op, DType dtype) {
  const bool on_gpu = !(default_device() == Device::cpu());
  const double intermediate =
      on_gpu ? std::max(op.intermediate, op.gpu_intermediate) : op.intermediate;
  switch (dtype) {
    case DType::kF32:
      return op.tolerance;
    case DType::kF16:  // 2^-10, and 2^-24 among the subnormals.
      return {op.tolerance.relative + 9.8e-4, op.tolerance.absolute + 6e-8 + 9.8e-4 * intermediate};
    case DType::kBF16:  // 2^-7.
      return {op.tolerance.relative + 7.9e-3, op.tolerance.absolute + 7.9e-3 * intermediate};
    default:
      return {};
  }
}

}  // namespace metal_candle::testing
