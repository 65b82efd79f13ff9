// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Text to token ids and back, as a model folder's tokenizer.json says: the format of Hugging Face's
// tokenizers library (https://huggingface.co/docs/tokenizers), and the same ids.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle {

class StreamDecoder;

/// What special tokens that are written out in a text become: one id each, or text like any other.
/// Text from strangers is not to end a chat's turn, so encode it with kText.
enum class SpecialTokensInText : std::uint8_t { kRecognized, kText };

/// A tokenizer. Copies share everything. Immutable and thread safe.
///
/// Supported are BPE models, byte-level (GPT-2, Llama 3, Qwen) and with metaspaces and byte
/// fallback (Llama 2, Mistral), with the normalizers, pre-tokenizers, post-processors and decoders
/// that such models use. Whatever else a file asks for is refused when it is read. The truncation
/// and padding sections are ignored: they do not change ids.
class Tokenizer {
 public:
  /// Reads a tokenizer.json, or that of a model folder. Throws IoError if it cannot be read,
  /// FormatError naming the file and the key if it is malformed or needs what is not supported.
  static Tokenizer load(const std::string& path);
  /// Reads the contents of a tokenizer.json. `name` is for error messages.
  static Tokenizer from_json(std::string_view json, std::string name = "tokenizer.json");

  /// The ids of a text. `add_special_tokens`: with those that the post-processor puts around a
  /// text, such as <s>; not for a rendered chat template, which has them. Bytes that are not UTF-8
  /// count as U+FFFD, as Python's errors="replace" has them. Throws Error if a regular expression
  /// of the file takes too long on the text.
  [[nodiscard]] std::vector<std::int32_t> encode(
      std::string_view text, bool add_special_tokens = true,
      SpecialTokensInText special = SpecialTokensInText::kRecognized) const;

  /// The text of ids, which is UTF-8. Ids without a token are passed over.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids,
                                   bool skip_special_tokens = true) const;
  /// For ids that come one by one.
  [[nodiscard]] StreamDecoder stream(bool skip_special_tokens = true) const;

  [[nodiscard]] std::optional<std::int32_t> token_to_id(std::string_view token) const;
  /// As the vocabulary spells the token: "Ġthe", "▁the".
  [[nodiscard]] std::optional<std::string> id_to_token(std::int32_t id) const;
  [[nodiscard]] bool is_special(std::int32_t id) const;
  /// One more than the largest id. Less than this the rows of a model's embedding cannot be; they
  /// may be more.
  [[nodiscard]] std::int32_t vocab_size() const;

 private:
  friend class StreamDecoder;
  struct Parts;

  explicit Tokenizer(std::shared_ptr<const Parts> parts);

  std::shared_ptr<const Parts> parts_;
};

/// Decodes ids as they come. What push() and finish() return, put together, is what
/// Tokenizer::decode() gives; each is whole characters. Keeps its tokenizer alive. Not thread safe.
class StreamDecoder {
 public:
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  /// The text that is certain with this id; often empty inside a character of several tokens.
  [[nodiscard]] std::string push(std::int32_t id);
  /// What is left after the last id. The next push() begins a new text.
  [[nodiscard]] std::string finish();

 private:
  friend class Tokenizer;
  struct State;

  explicit StreamDecoder(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace metal_candle
