// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The tokens of one sequence, one after another: the loop under Generator.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "metal_candle/generate/sampler.h"
#include "metal_candle/models/decoder.h"
#include "metal_candle/models/kv_cache.h"

namespace metal_candle {

/// Runs a decoder over a prompt, then step by step. Few plans serve everything: prompts go in
/// chunks of a few lengths, padded, and the cache has one capacity, so that all steps are alike.
/// Keys and values of a sequence are kept: the next one skips the tokens that it begins with, too.
/// Not thread safe.
class TokenStream {
 public:
  explicit TokenStream(Decoder model);

  struct Request {
    std::span<const std::int32_t> prompt;
    std::int64_t max_tokens = 256;
    SamplingOptions sampling = {};
    std::int64_t prefill_chunk = 512;  // Prompt tokens that go through the model at once, at most.
    std::stop_token cancellation = {};
  };
  /// Begins a sequence. False if it was cancelled. Throws Error if the prompt is empty, longer than
  /// the model's context or has an id that is not in the vocabulary, and for options out of range.
  [[nodiscard]] bool start(const Request& request);
  /// Whether next() gives another token: max_tokens have not come, and there is room for it.
  [[nodiscard]] bool more() const { return count_ < limit_; }
  /// Waits for the next token, having queued the step after it. Throws Error if logits are NaN.
  [[nodiscard]] std::int32_t next();

  /// Whether the sequence ends before max_tokens because the model's context is full.
  [[nodiscard]] bool limited_by_context() const { return limited_by_context_; }
  /// Tokens of the prompt that were in the cache already.
  [[nodiscard]] std::int64_t reused_tokens() const { return reused_; }
  /// Positions of the cache; 0 if there is none yet.
  [[nodiscard]] std::int64_t capacity() const {
    return cache_.layers.empty() ? 0 : cache_.capacity();
  }

  [[nodiscard]] const Decoder& model() const { return model_; }
  /// Goes on with another model of the same shape, such as one with another adapter.
  void set_model(Decoder model);
  /// Frees the cache.
  void reset();

 private:
  void check(const Request& request) const;
  void reserve(std::int64_t capacity);
  bool prefill(const Request& request);
  [[nodiscard]] Tensor choose_token(const Tensor& hidden);
  void queue(const Tensor& token) const;

  Decoder model_;
  KvCache cache_;
  std::vector<std::int32_t> cached_;  // The tokens in the cache, of those that are known.
  std::optional<Sampler> sampler_;
  Sampler::State sampling_;
  Tensor pending_;  // The token that next() returns.
  std::int64_t prompt_tokens_ = 0, reused_ = 0;
  std::int64_t count_ = 0, limit_ = 0;  // Tokens that next() has returned, and will at most.
  bool limited_by_context_ = false;
};

}  // namespace metal_candle
