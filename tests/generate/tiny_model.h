// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A decoder small enough to run hundreds of times in a test, with grouped heads and biases.
#pragma once

#include <cstdint>
#include <vector>

#include "metal_candle/graph/ops/random.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle::testing {

inline DecoderConfig tiny_config(std::int64_t vocab = 97) {
  DecoderConfig config;
  config.model_type = "qwen2";
  config.vocab_size = vocab;
  config.hidden_size = 24;
  config.intermediate_size = 40;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 6;
  config.max_position_embeddings = 400;
  config.tie_word_embeddings = true;
  config.qkv_bias = true;
  config.windows = {0, 0};
  return config;
}

/// With weights large enough that its logits differ.
inline Decoder tiny_decoder(const DecoderConfig& config = tiny_config(), std::uint64_t seed = 1) {
  return Decoder::random(config, random::key(seed), DType::kF32, 0.3);
}

inline std::vector<std::int32_t> tiny_prompt(std::int64_t length, std::int64_t vocab = 97) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < length; ++i) {
    tokens.push_back(static_cast<std::int32_t>((i * i + 3 * i + 5) % vocab));
  }
  return tokens;
}

}  // namespace metal_candle::testing
