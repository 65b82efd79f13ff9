// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a decoder's config.json says, for the model families that share one implementation.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "metal_candle/core/dtype.h"
#include "metal_candle/io/json_object.h"

namespace metal_candle {

/// How rotary positions are stretched beyond the context a model was trained with.
struct RopeScaling {
  enum class Kind : std::uint8_t { kNone, kLinear, kDynamic, kLlama3 };
  Kind kind = Kind::kNone;
  double factor = 1;
  // Of Llama 3: wavelengths above original / low_freq_factor are stretched, those below
  // original / high_freq_factor are not, and those between are in between.
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  // Positions before any stretching.
  std::int64_t original_max_position_embeddings = 0;

  friend bool operator==(const RopeScaling&, const RopeScaling&) = default;
};

/// The shape of a decoder of the Llama family. Names are those of config.json.
struct DecoderConfig {
  std::string model_type;
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;     // Of the projections to queries, keys and values.
  bool output_bias = false;  // Of the projection after attention.
  bool mlp_bias = false;
  bool qk_norm = false;  // RMS norms over each head of queries and keys.
  // By layer: how many of the last positions a query sees; 0 for all.
  std::vector<int> windows;
  // The dtype the weights were saved in; kF32 if config.json does not say.
  DType dtype = DType::kF32;
  std::vector<std::int64_t> eos_token_ids;

  /// Parameters of the whole model; a tied embedding counts once.
  [[nodiscard]] std::int64_t num_parameters() const;
  /// The longest sequence: max_position_embeddings, stretched by dynamic scaling (by other kinds,
  /// it is so in config.json).
  [[nodiscard]] std::int64_t context_length() const;

  friend bool operator==(const DecoderConfig&, const DecoderConfig&) = default;
};

/// Reads a config.json whose model_type is registered. Throws FormatError naming the file and the
/// key for an unknown model_type (and lists the known ones), for missing or impossible values, and
/// for a field that is set but not known to be without influence on the result.
[[nodiscard]] DecoderConfig read_decoder_config(const std::string& path);
[[nodiscard]] DecoderConfig read_decoder_config(const JsonObject& json);

/// Fills what a family of models has beyond read_common_fields().
using DecoderConfigReader = std::function<DecoderConfig(const JsonObject&)>;

/// Adds a model_type, or replaces one. Thread safe.
void register_model_type(std::string model_type, DecoderConfigReader reader);
/// The known model types, sorted: "llama", "mistral", "qwen2", "qwen3" and what was registered.
[[nodiscard]] std::vector<std::string> model_types();

/// What a family means where config.json leaves a field out.
struct FieldDefaults {
  std::int64_t num_key_value_heads = 0;  // 0: num_attention_heads.
  std::int64_t head_dim = 0;             // 0: hidden_size / num_attention_heads.
  std::int64_t max_position_embeddings = 2048;
};
/// The fields that all families have, checked; for readers. Biases, qk_norm and windows are left at
/// their defaults (windows all 0).
[[nodiscard]] DecoderConfig read_common_fields(const JsonObject& json,
                                               const FieldDefaults& defaults = {});

}  // namespace metal_candle
