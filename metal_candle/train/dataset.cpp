// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Encoding examples.
#include "metal_candle/train/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/io/jsonl.h"

namespace metal_candle {
namespace {

// The length of the longest common beginning.
std::size_t common_prefix(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<std::size_t>(end.first - a.begin());
}

class ExampleEncoder {
 public:
  ExampleEncoder(const ChatTokenizer& tokenizer, const DatasetOptions& options)
      : tokenizer_(tokenizer), options_(options) {}

  [[nodiscard]] TokenSequence encode(const Example& example) const {
    switch (example.form) {
      case ExampleForm::kText:
        return {with_end(tokenizer_.encode(example.text)), 1};
      case ExampleForm::kCompletion:
        return encode_completion(example);
      case ExampleForm::kChat:
        break;
    }
    ChatRequest request;
    request.tools = example.tools;
    request.messages_json = example.messages;
    const std::vector<std::int32_t> whole = tokenizer_.encode_chat(request);
    request.messages_json = example.request;
    request.add_generation_prompt = example.ends_with_assistant;
    return masked(whole, request);
  }

 private:
  [[nodiscard]] std::vector<std::int32_t> with_end(std::vector<std::int32_t> tokens) const {
    const auto end = tokenizer_.eos_id();
    if (end && (tokens.empty() || tokens.back() != *end)) tokens.push_back(*end);
    return tokens;
  }

  // The whole conversation, with what `request` renders to as the prompt.
  [[nodiscard]] TokenSequence masked(std::vector<std::int32_t> whole,
                                     const ChatRequest& request) const {
    std::size_t prompt = 0;
    if (options_.mask_prompt) prompt = common_prefix(tokenizer_.encode_chat(request), whole);
    return {std::move(whole), std::max<std::size_t>(prompt, 1)};
  }

  [[nodiscard]] TokenSequence encode_completion(const Example& example) const {
    if (tokenizer_.has_chat_template()) {
      ChatRequest request;
      request.messages = {{"user", example.prompt}, {"assistant", example.completion}};
      const std::vector<std::int32_t> whole = tokenizer_.encode_chat(request);
      request.messages.pop_back();
      request.add_generation_prompt = true;
      return masked(whole, request);
    }
    std::vector<std::int32_t> whole =
        with_end(tokenizer_.encode(example.prompt + example.completion));
    std::size_t prompt = 0;
    if (options_.mask_prompt) prompt = common_prefix(tokenizer_.encode(example.prompt), whole);
    return {std::move(whole), std::max<std::size_t>(prompt, 1)};
  }

  const ChatTokenizer& tokenizer_;
  const DatasetOptions& options_;
};

// FNV-1a.
std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  for (int i = 0; i < 8; ++i) {
    hash = (hash ^ (value & 0xFF)) * 0x100000001B3ull;
    value >>= 8;
  }
  return hash;
}

}  // namespace

Dataset Dataset::load(const std::string& path, const ChatTokenizer& tokenizer,
                      const DatasetOptions& options) {
  const std::vector<Example> examples = read_examples(path);
  if (options.mask_prompt && examples[0].form == ExampleForm::kText) {
    throw FormatError(fmt::format(
        "{}:{}: a text has no prompt to mask; use \"prompt\" and \"completion\", or no mask_prompt",
        path, examples[0].line));
  }
  const ExampleEncoder encoder(tokenizer, options);
  std::vector<TokenSequence> sequences;
  sequences.reserve(examples.size());
  for (const Example& example : examples) {
    try {
      sequences.push_back(encoder.encode(example));
    } catch (const Error& error) {
      throw FormatError(fmt::format("{}:{}: {}", path, example.line, error.what()));
    }
  }
  return of(std::move(sequences), path, options);
}

Dataset Dataset::of(std::vector<TokenSequence> sequences, std::string name,
                    const DatasetOptions& options) {
  if (options.max_seq_length < 2) {
    throw Error(fmt::format("{}: max_seq_length {} leaves nothing to predict", name,
                            options.max_seq_length));
  }
  auto contents = std::make_shared<Contents>();
  contents->name = std::move(name);
  contents->fingerprint = 0xCBF29CE484222325ull;
  const auto limit = static_cast<std::size_t>(options.max_seq_length);
  for (TokenSequence& sequence : sequences) {
    if (sequence.tokens.size() > limit) {
      sequence.tokens.resize(limit);
      ++contents->truncated;
    }
    sequence.first_target = std::max<std::size_t>(sequence.first_target, 1);
    if (sequence.num_targets() == 0) {
      ++contents->dropped;
      continue;
    }
    contents->num_tokens += static_cast<std::int64_t>(sequence.tokens.size());
    contents->num_targets += static_cast<std::int64_t>(sequence.num_targets());
    contents->longest = std::max(contents->longest, sequence.tokens.size());
    contents->fingerprint = mix(contents->fingerprint, sequence.first_target);
    for (const std::int32_t token : sequence.tokens)
      contents->fingerprint = mix(contents->fingerprint, static_cast<std::uint32_t>(token));
    contents->sequences.push_back(std::move(sequence));
  }
  if (contents->sequences.empty()) {
    throw FormatError(fmt::format("{}: no example has a token to learn within {} tokens",
                                  contents->name, options.max_seq_length));
  }
  return Dataset(std::move(contents));
}

}  // namespace metal_candle
