// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Low-rank adapters of decoders: which layers get one, and attaching them to a model. Names and
// meanings are PEFT's.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "metal_candle/autograd/tree.h"
#include "metal_candle/graph/tensor.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle {

/// Which linear layers are adapted, and how.
struct LoraConfig {
  std::int64_t rank = 8;
  double alpha = 16;    // The update is alpha / rank * b @ a.
  double dropout = 0;   // In [0, 1), of the update's input, when training.
  bool rslora = false;  // alpha / sqrt(rank) instead (Kalajdzievski, 2023).
  /// A layer is adapted if its path is one of these or ends in "." and one of these, as in "q_proj"
  /// or "self_attn.q_proj", or if one of these is "all-linear".
  std::vector<std::string> target_modules = {"q_proj", "v_proj"};
  /// Instead of target_modules, unless empty: a regular expression (ECMAScript) for the whole path.
  std::string target_pattern = {};
  /// Only the last so many blocks; -1 for all.
  std::int64_t num_layers = -1;
  /// Exceptions from rank and alpha: the key is a path, or what one ends in after a ".".
  std::map<std::string, std::int64_t> rank_pattern = {};
  std::map<std::string, double> alpha_pattern = {};

  /// Whether the linear layer at `path`, in block `block` of `num_blocks`, is adapted. Throws
  /// FormatError for a target_pattern that is no regular expression.
  [[nodiscard]] bool targets(const std::string& path, std::int64_t block,
                             std::int64_t num_blocks) const;
  [[nodiscard]] std::int64_t rank_of(const std::string& path) const;
  /// What the product b @ a is multiplied by.
  [[nodiscard]] float scale_of(const std::string& path) const;
};

/// A trained update: its configuration, and for every adapted path
/// ("model.layers.0.self_attn.q_proj") a dictionary of "lora_a" [rank, in] and "lora_b" [out,
/// rank].
struct Adapter {
  LoraConfig config;
  Tree weights;

  [[nodiscard]] std::int64_t num_parameters() const;
};

/// An update that changes nothing yet: lora_a uniform in +-1 / sqrt(in) (as PEFT draws it), lora_b
/// 0; f32, evaluated. Throws Error naming the configuration when it targets no layer, its rank is
/// not positive or its dropout not in [0, 1).
[[nodiscard]] Adapter make_adapter(const Decoder& model, const LoraConfig& config,
                                   const Tensor& key);

/// The model with the update beside its weights; they are shared with `model`, and any update it
/// had is gone. Throws Error naming a path that the model does not have, ShapeError naming path and
/// shapes that do not fit the layer or the configured rank.
[[nodiscard]] Decoder with_adapter(const Decoder& model, const Adapter& adapter);

/// The model with the update added into its weights, evaluated: new weights where there is one,
/// shared ones elsewhere.
[[nodiscard]] Decoder merge_adapter(const Decoder& model, const Adapter& adapter);

}  // namespace metal_candle
