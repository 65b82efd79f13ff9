// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Text from a decoder, as it comes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/generate/sampler.h"
#include "metal_candle/generate/token_stream.h"
#include "metal_candle/io/tokenizer.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle {

/// How to generate.
struct GenerateOptions {
  std::int64_t max_tokens = 256;
  SamplingOptions sampling = {};
  /// Generation ends before any of these, none of which is ever part of the text.
  std::vector<std::string> stop = {};
  /// Generation ends with any of these; those of the model's configuration if none are given.
  std::optional<std::vector<std::int64_t>> eos_token_ids = {};
  /// Whether a prompt that is text gets the special tokens that the tokenizer puts around a text.
  bool add_special_tokens = true;
  /// How special tokens written out in a prompt that is text are taken.
  SpecialTokensInText special_tokens_in_text = SpecialTokensInText::kRecognized;
  /// Prompt tokens that go through the model at once, at most: more are a little faster and take
  /// more memory.
  std::int64_t prefill_chunk = 512;
  /// Lets any thread end the generation, after the token at hand.
  std::stop_token cancellation = {};
};

enum class FinishReason : std::uint8_t {
  kEos,        // The model ended the text.
  kStop,       // A stop string came.
  kLength,     // max_tokens came.
  kContext,    // The model's context is full.
  kCancelled,  // The callback returned false, or `cancellation` was requested.
};
/// "eos", "stop", "length", "context", "cancelled".
[[nodiscard]] std::string_view name(FinishReason reason);

/// What one more token gives.
struct GeneratedPiece {
  std::int32_t token = 0;
  /// The text that is certain with it: whole characters, perhaps none. Valid during the call.
  std::string_view text;
};
/// Called on the thread that generates, once a token. Returns whether to go on.
using PieceCallback = std::function<bool(const GeneratedPiece&)>;

struct GenerationStats {
  std::int64_t prompt_tokens = 0;
  std::int64_t reused_tokens = 0;  // Of these, known from the generation before.
  std::int64_t generated_tokens = 0;
  double seconds_to_first_token = 0;  // From the call.
  double seconds_after_first_token = 0;
  std::size_t peak_memory_bytes = 0;  // Of the process since reset_peak_memory(), weights included.

  /// Prompt tokens that were not reused, over the time to the first token; 0 if there is none.
  [[nodiscard]] double prompt_tokens_per_second() const;
  /// Of the tokens after the first; 0 if there are none.
  [[nodiscard]] double tokens_per_second() const;
};

struct GenerationResult {
  std::vector<std::int32_t> tokens;  // With the one that ended the text.
  std::string text;                  // Empty without a tokenizer.
  FinishReason finish_reason = FinishReason::kLength;
  GenerationStats stats;
};

/// Generates with one model. Prompts that begin like the sequence before (a conversation that goes
/// on) are not computed again where they agree. Weights are shared with other copies of the model;
/// the memory of the cache is held until the generator dies, or reset(). Not thread safe: threads
/// that generate at once have a generator each.
class Generator {
 public:
  /// Without a tokenizer, prompts are tokens and there is no text.
  explicit Generator(Decoder model, std::optional<Tokenizer> tokenizer = {});

  /// Continues the prompt. Throws Error if the prompt is empty, longer than the model's context (it
  /// names both lengths) or has ids that the model does not know; for options out of range; for
  /// stop strings without a tokenizer; and if logits are NaN. What the callback throws is thrown.
  GenerationResult generate(std::span<const std::int32_t> prompt,
                            const GenerateOptions& options = {},
                            const PieceCallback& callback = {});
  /// The same for a text. Throws Error if there is no tokenizer.
  GenerationResult generate(std::string_view prompt, const GenerateOptions& options = {},
                            const PieceCallback& callback = {});

  [[nodiscard]] const Decoder& model() const { return stream_.model(); }
  [[nodiscard]] const std::optional<Tokenizer>& tokenizer() const { return tokenizer_; }
  /// Goes on with another model of the same shape, such as the same with another adapter.
  void set_model(Decoder model) { stream_.set_model(std::move(model)); }
  /// Frees the cache.
  void reset() { stream_.reset(); }

 private:
  TokenStream stream_;
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace metal_candle
