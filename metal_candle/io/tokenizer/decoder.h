// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The "decoder" section of a tokenizer.json: how tokens become text again, token by token, so that
// decoding all at once and streaming are one thing.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"

namespace metal_candle::tokenizers {

/// One step of a decoder and what it remembers of the tokens so far. What a step puts out are whole
/// characters.
class DecoderStep {
 public:
  using Output = std::vector<std::string>;

  DecoderStep() = default;
  DecoderStep& operator=(const DecoderStep&) = delete;
  virtual ~DecoderStep() = default;

  /// Takes the next token, appends what is certain now.
  virtual void push(std::string&& token, Output& output) = 0;
  /// Appends what is left.
  virtual void finish(Output& /*output*/) {}
  [[nodiscard]] virtual std::unique_ptr<DecoderStep> clone() const = 0;

 protected:
  DecoderStep(const DecoderStep&) = default;
};

/// A chain of steps. Copy it before its first token to decode several times.
class Decoder {
 public:
  /// For a file without a decoder: tokens with spaces between.
  Decoder();
  /// Throws FormatError for what is malformed and for types that are not supported.
  explicit Decoder(const JsonField& json);
  Decoder(const Decoder& other);
  Decoder(Decoder&&) noexcept = default;
  Decoder& operator=(const Decoder&) = delete;
  Decoder& operator=(Decoder&&) noexcept = default;
  ~Decoder() = default;

  /// The text that is certain once `token` has been seen too.
  [[nodiscard]] std::string push(std::string_view token);
  /// What is left, after the last token.
  [[nodiscard]] std::string finish();

 private:
  void read(const JsonField& json);
  void read_step(const JsonField& json, std::string_view type);
  void add(std::unique_ptr<DecoderStep> step);
  [[nodiscard]] std::string run(DecoderStep::Output tokens, bool finish);

  std::vector<std::unique_ptr<DecoderStep>> steps_;
  bool fused_ = false;  // whether the steps so far make one token of all
};

}  // namespace metal_candle::tokenizers
