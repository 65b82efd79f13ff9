// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Matrix products by name.
#include <algorithm>

#include "tests/ops/op_table.h"

namespace metal_candle::testing {
namespace {

// Sums of up to a thousand products of numbers of size one.
constexpr Tolerance kProduct{1e-6, 2e-5};

using Product = Tensor (*)(const Tensor&, const Tensor&);
Op product(Product fn) {
  return {[fn](const FixtureCase&, const Tensors& in) { return Tensors{fn(in[0], in[1])}; },
          kProduct};
}

Activation activation_of(const FixtureCase& c) {
  static const std::map<std::string, Activation> kNames{{"none", Activation::kNone},
                                                        {"relu", Activation::kRelu},
                                                        {"gelu", Activation::kGelu},
                                                        {"gelu_tanh", Activation::kGeluTanh},
                                                        {"silu", Activation::kSilu}};
  return kNames.at(c.get<std::string>("activation"));
}

Tensors call_linear_epilogue(const FixtureCase& c, const Tensors& in) {
  LinearEpilogue epilogue;
  epilogue.scale = c.get<float>("scale");
  epilogue.activation = activation_of(c);
  std::size_t next = 2;
  for (const auto& operand : c.get<std::vector<std::string>>("operands")) {
    (operand == "bias" ? epilogue.bias : epilogue.residual) = in.at(next++);
  }
  return {linear_epilogue(in[0], in[1], epilogue)};
}

}  // namespace

OpTable linalg_ops() {
  OpTable ops{{"matmul", product(matmul)},
              {"outer", product(outer)},
              {"inner", product(inner)},
              {"dot", product(dot)}};
  ops["linear"] = {[](const FixtureCase&, const Tensors& in) {
                     return Tensors{linear(in[0], in[1], in.size() > 2 ? in[2] : Tensor())};
                   },
                   kProduct};
  ops["addmm"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{addmm(in[0], in[1], in[2], c.get<float>("alpha"), c.get<float>("beta"))};
      },
      kProduct, 16};
  ops["lora"] = {[](const FixtureCase& c, const Tensors& in) {
                   return Tensors{lora(in[0], in[1], in[2], c.get<float>("scale"))};
                 },
                 kProduct, 0, 8};
  ops["lora_linear"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{lora_linear(in[0], in[1], in[2], in[3], c.get<float>("scale"),
                                   in.size() > 4 ? in[4] : Tensor())};
      },
      kProduct, 0, 8};
  ops["linear_epilogue"] = {call_linear_epilogue, kProduct};
  return ops;
}

}  // namespace metal_candle::testing
