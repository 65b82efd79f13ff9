// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Composites of neural networks by name.
#include "tests/ops/op_table.h"

namespace metal_candle::testing {
namespace {

Tensors call_rope(const FixtureCase& c, const Tensors& in) {
  RopeOptions options;
  options.dims = c.get<int>("dims", 0);
  options.interleaved = c.get<bool>("interleaved", false);
  options.scale = c.get<float>("scale", 1);
  options.base = c.get<double>("base", 10000);
  if (in.size() > 2) options.frequencies = in[2];
  return {rope(in[0], in[1], options)};
}

Tensors call_attention(const FixtureCase& c, const Tensors& in) {
  AttentionOptions options;
  if (c.has("scale")) options.scale = c.get<float>("scale");
  options.causal = c.get<bool>("causal", false);
  options.window = c.get<int>("window", 0);
  std::size_t next = 3;
  if (c.get<bool>("has_mask")) options.mask = in.at(next++);
  if (c.get<bool>("has_key_length")) options.key_length = in.at(next++);
  return {scaled_dot_product_attention(in[0], in[1], in[2], options)};
}

CrossEntropyOptions loss_options(const FixtureCase& c) {
  const auto reduction = c.get<std::string>("reduction");
  return {c.get<std::int64_t>("ignore_index"), reduction == "none"  ? Reduction::kNone
                                               : reduction == "sum" ? Reduction::kSum
                                                                    : Reduction::kMean};
}

}  // namespace

OpTable nn_ops() {
  constexpr Tolerance kNorm{3e-6, 3e-6};
  OpTable ops;
  ops["softmax"] = {[](const FixtureCase& c, const Tensors& in) {
                      return Tensors{softmax(in[0], c.get<int>("axis"))};
                    },
                    {2e-6, 1e-10}};
  ops["log_softmax"] = {[](const FixtureCase& c, const Tensors& in) {
                          return Tensors{log_softmax(in[0], c.get<int>("axis"))};
                        },
                        {1e-6, 2e-6}};
  ops["rms_norm"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{rms_norm(in[0], in.size() > 1 ? in[1] : Tensor(), c.get<float>("eps"))};
      },
      kNorm};
  ops["layer_norm"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{layer_norm(in[0], in.size() > 1 ? in[1] : Tensor(),
                                  in.size() > 2 ? in[2] : Tensor(), c.get<float>("eps"))};
      },
      kNorm};
  // Frequencies and angles are f32.
  ops["rope"] = {call_rope, {2e-6, 4e-6}};
  ops["scaled_dot_product_attention"] = {call_attention, {2e-6, 2e-6}, 0, 1};
  ops["cross_entropy"] = {[](const FixtureCase& c, const Tensors& in) {
                            return Tensors{cross_entropy(in[0], in[1], loss_options(c))};
                          },
                          {2e-6, 4e-6}};
  ops["linear_cross_entropy"] = {
      [](const FixtureCase& c, const Tensors& in) {
        return Tensors{linear_cross_entropy(in[0], in[1], in[2], loss_options(c))};
      },
      {2e-6, 4e-6},
      0,
      5};  // Logits of up to 10.
  return ops;
}

}  // namespace metal_candle::testing
