// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tokens into text, and when to stop.
#include "metal_candle/generate/generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/profiler.h"
#include "metal_candle/generate/stop_text.h"

namespace metal_candle {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// Text of tokens, up to a stop string; nothing without a tokenizer.
class TextOutput {
 public:
  TextOutput(const std::optional<Tokenizer>& tokenizer, const std::vector<std::string>& stop)
      : stop_(stop) {
    if (tokenizer) decoder_.emplace(tokenizer->stream());
  }
  std::string push(std::int32_t token) {
    return decoder_ ? stop_.push(decoder_->push(token)) : std::string();
  }
  std::string finish() {
    if (!decoder_) return {};
    std::string text = stop_.push(decoder_->finish());
    return text += stop_.finish();
  }
  [[nodiscard]] bool stopped() const { return stop_.stopped(); }

 private:
  std::optional<StreamDecoder> decoder_;
  StopText stop_;
};

}  // namespace

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos:
      return "eos";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kContext:
      return "context";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "";
}

double GenerationStats::prompt_tokens_per_second() const {
  if (seconds_to_first_token <= 0) return 0;
  return static_cast<double>(prompt_tokens - reused_tokens) / seconds_to_first_token;
}

double GenerationStats::tokens_per_second() const {
  if (generated_tokens < 2 || seconds_after_first_token <= 0) return 0;
  return static_cast<double>(generated_tokens - 1) / seconds_after_first_token;
}

Generator::Generator(Decoder model, std::optional<Tokenizer> tokenizer)
    : stream_(std::move(model)), tokenizer_(std::move(tokenizer)) {}

GenerationResult Generator::generate(std::string_view prompt, const GenerateOptions& options,
                                     const PieceCallback& callback) {
  if (!tokenizer_) throw Error("generate: a prompt that is text needs a tokenizer");
  const std::vector<std::int32_t> tokens =
      tokenizer_->encode(prompt, options.add_special_tokens, options.special_tokens_in_text);
  return generate(tokens, options, callback);
}

GenerationResult Generator::generate(std::span<const std::int32_t> prompt,
                                     const GenerateOptions& options,
                                     const PieceCallback& callback) {
  const Clock::time_point start = Clock::now();
  if (!options.stop.empty() && !tokenizer_) throw Error("generate: stop strings need a tokenizer");
  const std::vector<std::int64_t> eos =
      options.eos_token_ids.value_or(model().config().eos_token_ids);
  TextOutput output(tokenizer_, options.stop);
  GenerationResult result;
  GenerationStats& stats = result.stats;
  std::optional<FinishReason> finish;
  std::optional<ProfileScope> range(std::in_place, "prompt");
  if (!stream_.start({.prompt = prompt,
                      .max_tokens = options.max_tokens,
                      .sampling = options.sampling,
                      .prefill_chunk = options.prefill_chunk,
                      .cancellation = options.cancellation})) {
    finish = FinishReason::kCancelled;
  }
  Clock::time_point first;
  while (!finish) {
    const std::int32_t token = stream_.next();
    range.emplace("token");
    if (result.tokens.empty()) {
      first = Clock::now();
      stats.seconds_to_first_token = seconds_between(start, first);
    }
    result.tokens.push_back(token);
    std::string text;
    if (std::find(eos.begin(), eos.end(), token) != eos.end()) {
      finish = FinishReason::kEos;
    } else {
      text = output.push(token);
      if (output.stopped()) {
        finish = FinishReason::kStop;
      } else if (!stream_.more()) {
        finish = stream_.limited_by_context() ? FinishReason::kContext : FinishReason::kLength;
      }
    }
    if (finish) {
      text += output.finish();
      // The last characters may complete one.
      if (output.stopped()) finish = FinishReason::kStop;
    }
    result.text += text;
    const bool go_on = !callback || callback({token, text});
    if (!finish && (!go_on || options.cancellation.stop_requested())) {
      finish = FinishReason::kCancelled;
    }
  }
  if (!result.tokens.empty()) {
    stats.seconds_after_first_token = seconds_between(first, Clock::now());
  }
  result.finish_reason = *finish;
  stats.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  stats.reused_tokens = stream_.reused_tokens();
  stats.generated_tokens = static_cast<std::int64_t>(result.tokens.size());
  stats.peak_memory_bytes = memory_use(model().device()).peak;
  return result;
}

}  // namespace metal_candle
