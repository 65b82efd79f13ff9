// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How well a decoder predicts given texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "metal_candle/models/decoder.h"

namespace metal_candle {

/// A text to be predicted.
struct ScoredSequence {
  std::vector<std::int32_t> tokens;
  /// The first token whose prediction counts: after a prompt, say. 0 counts as 1, since nothing
  /// predicts the first token.
  std::size_t first_target = 1;
};

struct EvaluateOptions {
  std::int64_t batch_size = 4;
  /// Called after each batch with the number of sequences done.
  std::function<void(std::size_t)> progress = {};
  /// Ends the evaluation early, with what was done until then.
  std::stop_token cancellation = {};
};

struct Evaluation {
  double summed_loss = 0;    // Of the targets: natural logarithms.
  std::int64_t targets = 0;  // Tokens that were predicted.
  std::size_t sequences = 0;
  double seconds = 0;

  /// The mean over targets; NaN if there are none.
  [[nodiscard]] double loss() const;
  /// exp(loss()).
  [[nodiscard]] double perplexity() const;
  [[nodiscard]] double targets_per_second() const;
};

/// The cross entropy of the model's predictions, each token counting alike. Sequences of like
/// length go through the model together, padded. Throws Error naming the sequence that is longer
/// than the model's context or has a token that is not in its vocabulary; and if there is no target
/// at all.
[[nodiscard]] Evaluation evaluate(const Decoder& model, std::span<const ScoredSequence> sequences,
                                  const EvaluateOptions& options = {});

}  // namespace metal_candle
