// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/post_processor.h"

#include <fmt/format.h>

#include <utility>

#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/vocabulary.h"

namespace metal_candle::tokenizers {
namespace {

std::int32_t known_id(const JsonField& json, const PostProcessor::IsKnown& is_known) {
  const auto id = static_cast<std::int32_t>(json.integer(0, kLargestId));
  if (!is_known(id)) json.fail(fmt::format("there is no token of id {}", id));
  return id;
}

}  // namespace

void PostProcessor::read(const JsonField& json, const IsKnown& is_known) {
  const JsonField type = json.at("type");
  if (type.string() == "Sequence") {
    json.expect_only({"type", "processors"});
    for (const JsonField step : json.at("processors").items()) read(step, is_known);
  } else if (type.string() == "TemplateProcessing") {
    read_template(json, is_known);
  } else if (type.string() == "BertProcessing" || type.string() == "RobertaProcessing") {
    json.expect_only({"type", "sep", "cls", "trim_offsets", "add_prefix_space"});
    templates_.push_back({read_token(json.at("cls"), is_known), Piece{true, {}},
                          read_token(json.at("sep"), is_known)});
  } else if (type.string() == "ByteLevel") {
    // It trims offsets, and there are none here.
    json.expect_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  } else {
    type.fail(
        fmt::format("post-processor {} is not supported; supported are TemplateProcessing, "
                    "BertProcessing, RobertaProcessing, "
                    "ByteLevel and Sequence",
                    quote(type.string())));
  }
}

// ["[CLS]", 101]
PostProcessor::Piece PostProcessor::read_token(const JsonField& json, const IsKnown& is_known) {
  if (!json.is_array() || json.size() != 2) json.fail("is not a token and its id");
  const JsonField id = *++json.items().begin();
  return {false, {known_id(id, is_known)}};
}

void PostProcessor::read_template(const JsonField& json, const IsKnown& is_known) {
  json.expect_only({"type", "single", "pair", "special_tokens"});
  const JsonField special_tokens = json.at("special_tokens");
  std::vector<Piece> pieces;
  for (const JsonField piece : json.at("single").items()) {
    piece.expect_only({"Sequence", "SpecialToken"});
    if (const auto sequence = piece.find("Sequence")) {
      if (sequence->at("id").string() != "A") sequence->fail("a single text is sequence A");
      pieces.push_back({true, {}});
      continue;
    }
    Piece& special = pieces.emplace_back(Piece{false, {}});
    const JsonField token = special_tokens.at(piece.at("SpecialToken").at("id").string());
    for (const JsonField id : token.at("ids").items()) {
      special.ids.push_back(known_id(id, is_known));
    }
  }
  templates_.push_back(std::move(pieces));
}

std::vector<std::int32_t> PostProcessor::apply(std::vector<std::int32_t> ids,
                                               bool add_special_tokens) const {
  for (const auto& pieces : templates_) {
    std::vector<std::int32_t> result;
    for (const Piece& piece : pieces) {
      const auto& part = piece.is_text ? ids : piece.ids;
      if (piece.is_text || add_special_tokens) {
        result.insert(result.end(), part.begin(), part.end());
      }
    }
    ids = std::move(result);
  }
  return ids;
}

}  // namespace metal_candle::tokenizers
