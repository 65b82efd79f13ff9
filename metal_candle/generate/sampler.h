// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The choice of the next token, as part of the graph that computes its logits.
#pragma once

#include <cstdint>
#include <span>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// How tokens are chosen. The filters are those of Hugging Face's transformers and apply in its
/// order: repetition penalty, temperature, top-k, top-p, min-p. (mlx-lm filters before it divides
/// by the temperature, so at a temperature of 1 both agree.) A filter keeps all tokens that are as
/// likely as the least likely one it has to keep.
struct SamplingOptions {
  float temperature = 0;   // Logits are divided by it; 0: always the most likely token.
  std::int64_t top_k = 0;  // Only the k most likely tokens; 0: all.
  float top_p = 1;         // Only tokens before which less than p of the probability lies; 1: all.
  float min_p = 0;         // Only tokens at least p times as likely as the most likely one.
  // Logits of tokens that occurred are divided by it if positive, else multiplied (Keskar et al.,
  // "CTRL", 2019); 1: left alone. Counted are the last repetition_context tokens, prompt included;
  // 0: all.
  float repetition_penalty = 1;
  std::int64_t repetition_context = 20;
  std::uint64_t seed = 0;  // The same seed gives the same tokens.

  /// Throws Error naming an option that is out of its range.
  void validate() const;
};

/// Builds the choice of tokens into graphs. Options are attributes of the graph, and what changes
/// from step to step is a tensor, so one plan serves every step. A value; const methods are thread
/// safe.
class Sampler {
 public:
  /// What one step hands to the next.
  struct State {
    // i32 [batch, n]: the last n tokens, vocab in the place of those that are not there yet. Empty
    // without a repetition penalty. To be evaluated together with the token.
    Tensor recent;
    std::uint32_t step = 0;  // Steps built so far: each has random numbers of its own.
  };

  /// Throws Error for options out of range.
  Sampler(const SamplingOptions& options, std::int64_t vocab, Device device = default_device());

  /// The state before the first token of one sequence (batch 1). `max_length` is how many tokens
  /// there will be at most, prompt included.
  [[nodiscard]] State start(std::span<const std::int32_t> prompt, std::int64_t max_length) const;

  /// logits [batch, vocab] of any floating dtype -> i32 [batch]: the tokens that follow; -1 where a
  /// logit is NaN, or where there are no probabilities because one is infinite or all are
  /// -infinity.
  [[nodiscard]] Tensor next(const Tensor& logits, State& state) const;

  /// The logits with penalty, temperature and filters applied, f32 [batch, vocab]: -infinity for
  /// tokens that cannot be chosen; the others have probabilities softmax(scores). With temperature
  /// 0, the penalty alone.
  [[nodiscard]] Tensor scores(const Tensor& logits, const State& state) const;

 private:
  SamplingOptions options_;
  std::int64_t vocab_;
  Device device_;
};

}  // namespace metal_candle
