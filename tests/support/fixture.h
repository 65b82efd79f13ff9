// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reads tests/fixtures/*.safetensors: operations, their operands, and what NumPy and PyTorch say
// they give. scripts/make_fixtures.py writes them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metal_candle/graph/tensor.h"
#include "tests/support/host_tensor.h"

namespace metal_candle::testing {

/// An operand: a dense tensor seen through views.
struct FixtureOperand {
  Tensor stored;
  nlohmann::json views;  // [["transpose", axes], ...], or null.

  /// Applies the views, lazily.
  [[nodiscard]] Tensor tensor() const;
};

struct FixtureCase {
  std::string op;
  nlohmann::json attributes;  // An object, or null.
  std::vector<FixtureOperand> inputs;
  std::vector<HostTensor> outputs;

  // Gradients of sum(outputs * cotangents), in cases of the family "gradients".
  std::vector<FixtureOperand> cotangents;
  std::vector<int> wrt;  // Numbers of inputs.
  std::vector<HostTensor> gradients;

  /// Operation, attributes and operands, for failures.
  [[nodiscard]] std::string describe() const;
  [[nodiscard]] bool has(const char* attribute) const;
  template <typename T>
  [[nodiscard]] T get(const char* attribute) const {
    return attributes.at(attribute).get<T>();
  }
  template <typename T>
  [[nodiscard]] T get(const char* attribute, T otherwise) const {
    return has(attribute) ? get<T>(attribute) : otherwise;
  }
  [[nodiscard]] Dims dims(const char* attribute) const {
    return Dims(std::span<const std::int64_t>(get<std::vector<std::int64_t>>(attribute)));
  }
};

/// The cases of a family, in the order of the file. Throws FormatError or IoError.
[[nodiscard]] const std::vector<FixtureCase>& fixture_cases(const std::string& family);

}  // namespace metal_candle::testing
