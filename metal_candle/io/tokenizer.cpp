// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/added_tokens.h"
#include "metal_candle/io/tokenizer/decoder.h"
#include "metal_candle/io/tokenizer/json.h"
#include "metal_candle/io/tokenizer/model.h"
#include "metal_candle/io/tokenizer/normalizer.h"
#include "metal_candle/io/tokenizer/post_processor.h"
#include "metal_candle/io/tokenizer/pre_tokenizer.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle {

using namespace tokenizers;  // NOLINT(google-build-using-namespace): the parts of this class

struct Tokenizer::Parts {
  explicit Parts(const JsonField& json);

  // Appends the tokens of a piece of text between added tokens.
  void encode_piece(NormalizedText piece, std::vector<std::int32_t>& ids) const;
  void encode(std::string_view text, bool recognize_special, std::vector<std::int32_t>& ids) const;
  [[nodiscard]] std::optional<std::string_view> token(std::int32_t id) const;
  // The token as a decoder takes it; nothing if it is to be passed over.
  [[nodiscard]] std::optional<std::string_view> token_to_decode(std::int32_t id,
                                                                bool skip_special) const;
  [[nodiscard]] std::int32_t id_end() const {
    return std::max(model->vocabulary().id_end(), added.id_end());
  }

  std::unique_ptr<const Normalizer> normalizer;       // may be null
  std::unique_ptr<const PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<const Model> model;
  AddedTokens added;
  PostProcessor post_processor;
  Decoder decoder;
};

Tokenizer::Parts::Parts(const JsonField& json) {
  json.expect_only({"version", "truncation", "padding", "added_tokens", "normalizer",
                    "pre_tokenizer", "post_processor", "decoder", "model"});
  const auto version = json.find("version");
  if (version && version->string() != "1.0") {
    version->fail(fmt::format("{} is not supported; 1.0 is", quote(version->string())));
  }
  if (const auto field = json.find("normalizer")) normalizer = read_normalizer(*field);
  bool words_are_bytes = false;
  if (const auto field = json.find("pre_tokenizer")) {
    auto read = read_pre_tokenizer(*field);
    pre_tokenizer = std::move(read.pre_tokenizer);
    words_are_bytes = read.words_are_bytes;
  }
  model = read_model(json.at("model"), words_are_bytes);
  if (const auto field = json.find("added_tokens")) {
    added = AddedTokens(*field, model->vocabulary(), normalizer.get());
  }
  if (const auto field = json.find("post_processor")) {
    post_processor = PostProcessor(*field, [&](std::int32_t id) { return token(id).has_value(); });
  }
  if (const auto field = json.find("decoder")) decoder = Decoder(*field);
}

void Tokenizer::Parts::encode_piece(NormalizedText piece, std::vector<std::int32_t>& ids) const {
  Words words(std::move(piece));
  if (pre_tokenizer != nullptr) pre_tokenizer->apply(words);
  for (const Range& range : words.ranges) {
    model->encode(std::string_view(words.text).substr(range.begin, range.end - range.begin), ids);
  }
}

void Tokenizer::Parts::encode(std::string_view text, bool recognize_special,
                              std::vector<std::int32_t>& ids) const {
  for (const Segment& raw : added.split(text, false, recognize_special)) {
    if (raw.token != kNoToken) {
      ids.push_back(raw.token);
      continue;
    }
    NormalizedText piece{std::string(text.substr(raw.range.begin, raw.range.end - raw.range.begin)),
                         raw.range.begin == 0};
    if (normalizer != nullptr) normalizer->apply(piece);
    for (const auto& [range, token] : added.split(piece.text, true, recognize_special)) {
      if (token != kNoToken) {
        ids.push_back(token);
      } else {
        encode_piece({piece.text.substr(range.begin, range.end - range.begin),
                      piece.at_origin && range.begin == 0},
                     ids);
      }
    }
  }
}

std::optional<std::string_view> Tokenizer::Parts::token(std::int32_t id) const {
  if (const AddedToken* token = added.find(id)) return token->pattern;
  return model->vocabulary().token(id);
}

std::optional<std::string_view> Tokenizer::Parts::token_to_decode(std::int32_t id,
                                                                  bool skip_special) const {
  const auto text = token(id);
  if (!text || !skip_special) return text;
  const AddedToken* added_token = added.find(*text);
  if (added_token != nullptr && added_token->special) return std::nullopt;
  return text;
}

Tokenizer::Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

Tokenizer Tokenizer::load(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const std::string file =
      fs::is_directory(path, ignored) ? (fs::path(path) / "tokenizer.json").string() : path;
  return from_json(read_text_file(file), file);
}

Tokenizer Tokenizer::from_json(std::string_view json, std::string name) {
  const JsonDocument document = JsonDocument::parse(json, std::move(name));
  return Tokenizer(std::make_shared<Parts>(document.root()));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                            SpecialTokensInText special) const {
  std::string repaired;
  if (!is_utf8(text)) {
    repaired = replace_malformed(text);
    text = repaired;
  }
  std::vector<std::int32_t> ids;
  parts_->encode(text, special == SpecialTokensInText::kRecognized, ids);
  return parts_->post_processor.apply(std::move(ids), add_special_tokens);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  StreamDecoder decoder = stream(skip_special_tokens);
  std::string text;
  for (const std::int32_t id : ids) text += decoder.push(id);
  return text += decoder.finish();
}

std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  if (const AddedToken* added = parts_->added.find(token)) return added->id;
  const std::int32_t id = parts_->model->vocabulary().find(token);
  return id == kNoToken ? std::nullopt : std::optional(id);
}

std::optional<std::string> Tokenizer::id_to_token(std::int32_t id) const {
  const auto token = parts_->token(id);
  return token ? std::optional<std::string>(*token) : std::nullopt;
}

bool Tokenizer::is_special(std::int32_t id) const {
  const AddedToken* token = parts_->added.find(id);
  return token != nullptr && token->special;
}

std::int32_t Tokenizer::vocab_size() const { return parts_->id_end(); }

struct StreamDecoder::State {
  std::shared_ptr<const Tokenizer::Parts> parts;
  bool skip_special_tokens;
  Decoder decoder;
};

StreamDecoder Tokenizer::stream(bool skip_special_tokens) const {
  return StreamDecoder(std::make_unique<StreamDecoder::State>(
      StreamDecoder::State{parts_, skip_special_tokens, parts_->decoder}));
}

StreamDecoder::StreamDecoder(std::unique_ptr<State> state) : state_(std::move(state)) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(std::int32_t id) {
  const auto token = state_->parts->token_to_decode(id, state_->skip_special_tokens);
  return token ? state_->decoder.push(*token) : std::string();
}

std::string StreamDecoder::finish() {
  std::string text = state_->decoder.finish();
  state_->decoder = Decoder(state_->parts->decoder);
  return text;
}

}  // namespace metal_candle
