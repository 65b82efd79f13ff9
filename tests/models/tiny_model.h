// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Decoders with random weights that are small enough for anything.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "metal_candle/graph/ops.h"
#include "metal_candle/io/json_object.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle::testing {

/// A config.json of two layers, with more fields or others: `fields` is JSON without braces.
inline std::string tiny_json(const std::string& fields = "") {
  nlohmann::json json = nlohmann::json::parse(R"({
    "model_type": "llama", "vocab_size": 37, "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
    "max_position_embeddings": 64})");
  json.update(nlohmann::json::parse("{" + fields + "}"));
  return json.dump();
}

inline DecoderConfig tiny_config(const std::string& fields = "") {
  return read_decoder_config(JsonObject::parse(tiny_json(fields), "config.json"));
}

/// Weights far enough from 0 that every part of the model shows in its logits, norms and biases
/// too.
inline Decoder tiny_decoder(const std::string& fields = "", DType dtype = DType::kF32,
                            std::uint64_t seed = 1) {
  Decoder model = Decoder::random(tiny_config(fields), random::key(seed), dtype, 0.2);
  Tree weights;
  std::uint32_t index = 1000;
  model.for_each_parameter([&](const std::string& name, Tensor& tensor) {
    if (tensor.rank() > 1) return;
    const Tensor key = random::fold_in(random::key(seed), index++);
    weights[name] = (tensor + random::normal(tensor.shape(), key, dtype) * 0.2f).eval();
  });
  return model.with_parameters(weights);
}

/// i32 [batch, length], reproducible.
inline Tensor tiny_tokens(std::int64_t batch, std::int64_t length, std::int64_t vocab = 37,
                          std::uint64_t seed = 7) {
  return random::randint(0, vocab, {batch, length}, random::key(seed)).eval();
}

}  // namespace metal_candle::testing
