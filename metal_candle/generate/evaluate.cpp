// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Batches of sequences and their loss.
#include "metal_candle/generate/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

constexpr std::int32_t kIgnored = -100;
// Batches are as long as a multiple of this, so that few plans are made.
constexpr std::size_t kLengthStep = 32;

std::size_t first_target(const ScoredSequence& sequence) {
  return std::max<std::size_t>(sequence.first_target, 1);
}

std::size_t num_targets(const ScoredSequence& sequence) {
  const std::size_t first = first_target(sequence);
  return sequence.tokens.size() > first ? sequence.tokens.size() - first : 0;
}

void check(const DecoderConfig& config, std::span<const ScoredSequence> sequences) {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::vector<std::int32_t>& tokens = sequences[i].tokens;
    // The last token is not fed.
    if (static_cast<std::int64_t>(tokens.size()) > config.context_length() + 1) {
      throw Error(
          fmt::format("evaluate: sequence {} has {} tokens, but the model's context holds {}", i,
                      tokens.size(), config.context_length()));
    }
    for (const std::int32_t token : tokens) {
      if (token < 0 || token >= config.vocab_size) {
        throw Error(fmt::format("evaluate: sequence {} has token {}, but the model's vocabulary {}",
                                i, token, config.vocab_size));
      }
    }
  }
}

// The sequences that have targets, from the shortest to the longest.
std::vector<const ScoredSequence*> by_length(std::span<const ScoredSequence> sequences) {
  std::vector<const ScoredSequence*> order;
  for (const ScoredSequence& sequence : sequences) {
    if (num_targets(sequence) > 0) order.push_back(&sequence);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return a->tokens.size() < b->tokens.size();
  });
  return order;
}

double batch_loss(const Decoder& model, std::span<const ScoredSequence* const> batch) {
  // The longest is last, and without its last token.
  const std::size_t length =
      (batch.back()->tokens.size() - 1 + kLengthStep - 1) / kLengthStep * kLengthStep;
  std::vector<std::int32_t> tokens(batch.size() * length, 0);
  std::vector<std::int32_t> targets(batch.size() * length, kIgnored);
  for (std::size_t row = 0; row < batch.size(); ++row) {
    const std::vector<std::int32_t>& sequence = batch[row]->tokens;
    const auto begin = static_cast<std::ptrdiff_t>(row * length);
    std::copy(sequence.begin(), sequence.end() - 1, tokens.begin() + begin);
    const auto first = static_cast<std::ptrdiff_t>(first_target(*batch[row]));
    std::copy(sequence.begin() + first, sequence.end(), targets.begin() + begin + first - 1);
  }
  const Shape shape = {static_cast<std::int64_t>(batch.size()), static_cast<std::int64_t>(length)};
  const Device device = model.device();
  const Tensor loss =
      model.summed_loss(Tensor(tokens, shape).to(device), Tensor(targets, shape).to(device));
  return static_cast<double>(loss.item<float>());
}

}  // namespace

double Evaluation::loss() const {
  return targets == 0 ? std::nan("") : summed_loss / static_cast<double>(targets);
}
double Evaluation::perplexity() const { return std::exp(loss()); }
double Evaluation::targets_per_second() const {
  return seconds > 0 ? static_cast<double>(targets) / seconds : 0;
}

Evaluation evaluate(const Decoder& model, std::span<const ScoredSequence> sequences,
                    const EvaluateOptions& options) {
  if (options.batch_size < 1) {
    throw Error(fmt::format("evaluate: batch_size is {}, not positive", options.batch_size));
  }
  check(model.config(), sequences);
  const std::vector<const ScoredSequence*> order = by_length(sequences);
  if (order.empty()) throw Error("evaluate: no sequence has a token to predict");
  const auto start = std::chrono::steady_clock::now();
  Evaluation result;
  for (std::size_t begin = 0; begin < order.size();) {
    if (options.cancellation.stop_requested()) break;
    const auto batch = std::span(order).subspan(
        begin, std::min(order.size() - begin, static_cast<std::size_t>(options.batch_size)));
    result.summed_loss += batch_loss(model, batch);
    for (const ScoredSequence* sequence : batch) {
      result.targets += static_cast<std::int64_t>(num_targets(*sequence));
    }
    begin += batch.size();
    result.sequences = begin;
    if (options.progress) options.progress(begin);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace metal_candle
