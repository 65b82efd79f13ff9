// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

std::size_t spaces_before(std::string_view text, std::size_t end) {
  std::size_t begin = end;
  while (begin > 0) {
    const auto [code, size] = last_character(text.substr(0, begin));
    if (!is_space(code)) break;
    begin -= size;
  }
  return begin;
}

std::size_t spaces_after(std::string_view text, std::size_t end) {
  while (end < text.size()) {
    const auto [code, size] = first_character(text.substr(end));
    if (!is_space(code)) break;
    end += size;
  }
  return end;
}

bool is_single_word(std::string_view text, const Range& range) {
  const bool word_before =
      range.begin > 0 && is_word(last_character(text.substr(0, range.begin)).code);
  const bool word_after =
      range.end < text.size() && is_word(first_character(text.substr(range.end)).code);
  return !word_before && !word_after;
}

}  // namespace

std::uint32_t StringTrie::child(std::uint32_t node, char byte) const {
  const auto& children = nodes_[node].children;
  const auto* const found =
      std::ranges::find(children, byte, &std::pair<char, std::uint32_t>::first).base();
  return found == children.end().base() ? 0 : found->second;
}

bool StringTrie::insert(std::string_view string, std::uint32_t value) {
  if (!string.empty()) first_[static_cast<std::uint8_t>(string.front())] = true;
  std::uint32_t node = 0;
  for (const char byte : string) {
    std::uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, next);
      nodes_.emplace_back();
    }
    node = next;
  }
  if (nodes_[node].value != kNoValue) return false;
  nodes_[node].value = value;
  return true;
}

std::pair<std::size_t, std::uint32_t> StringTrie::longest(std::string_view text) const {
  std::pair<std::size_t, std::uint32_t> best{0, kNoValue};
  if (text.empty() || !first_[static_cast<std::uint8_t>(text.front())]) return best;
  std::uint32_t node = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    node = child(node, text[i]);
    if (node == 0) break;
    if (nodes_[node].value != kNoValue) best = {i + 1, nodes_[node].value};
  }
  return best;
}

AddedTokens::AddedTokens(const JsonField& json, const Vocabulary& vocabulary,
                         const Normalizer* normalizer) {
  for (const JsonField token : json.items()) add(token, vocabulary, normalizer);
}

void AddedTokens::add(const JsonField& json, const Vocabulary& vocabulary,
                      const Normalizer* normalizer) {
  json.expect_only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token{.content = std::string(json.at("content").string()),
                   .pattern = {},
                   .id = static_cast<std::int32_t>(json.at("id").integer(0, kLargestId)),
                   .single_word = json.at("single_word").boolean(),
                   .strip_left = json.at("lstrip").boolean(),
                   .strip_right = json.at("rstrip").boolean(),
                   .normalized = json.at("normalized").boolean(),
                   .special = json.at("special").boolean()};
  if (token.content.empty()) return;  // It is nowhere in a text.
  const std::int32_t known_id = vocabulary.find(token.content);
  if (known_id != kNoToken && known_id != token.id) {
    json.fail(fmt::format("{} has id {} here and {} in the vocabulary", quote(token.content),
                          token.id, known_id));
  }
  const auto known_token = vocabulary.token(token.id);
  if (known_token && *known_token != token.content) {
    json.fail(fmt::format("id {} is {} here and {} in the vocabulary", token.id,
                          quote(token.content), quote(*known_token)));
  }
  NormalizedText pattern{token.content, true};
  if (token.normalized && normalizer != nullptr) normalizer->apply(pattern);
  token.pattern = std::move(pattern.text);

  const auto index = static_cast<std::uint32_t>(tokens_.size());
  if (!contents_.insert(token.content, index)) {
    json.fail(fmt::format("{} occurs twice", quote(token.content)));
  }
  if (!by_id_.emplace(token.id, index).second) {
    json.fail(fmt::format("id {} occurs twice", token.id));
  }
  auto& patterns = token.normalized ? normalized_ : raw_;
  if (!token.pattern.empty() && !patterns.insert(token.pattern, index)) {
    json.fail(fmt::format("{} normalizes to the same as another", quote(token.content)));
  }
  id_end_ = std::max(id_end_, token.id + 1);
  tokens_.push_back(std::move(token));
}

std::vector<Segment> AddedTokens::split(std::string_view text, bool normalized,
                                        bool recognize_special) const {
  const StringTrie& patterns = normalized ? normalized_ : raw_;
  std::vector<Segment> segments;
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size();) {
    const auto [size, index] = patterns.longest(text.substr(i));
    if (size == 0) {
      ++i;
      continue;
    }
    Range range{i, i + size};
    i = range.end;
    const AddedToken& token = tokens_[index];
    if (token.special && !recognize_special) continue;
    if (token.single_word && !is_single_word(text, range)) continue;
    // Spaces that the token before took are taken.
    if (token.strip_left) range.begin = std::max(spaces_before(text, range.begin), done);
    if (token.strip_right) range.end = spaces_after(text, range.end);
    if (done < range.begin) segments.push_back({{done, range.begin}, kNoToken});
    segments.push_back({range, token.id});
    done = range.end;
  }
  if (done < text.size()) segments.push_back({{done, text.size()}, kNoToken});
  return segments;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto [size, index] = contents_.longest(content);
  return size == content.size() && size > 0 ? &tokens_[index] : nullptr;
}

const AddedToken* AddedTokens::find(std::int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

}  // namespace metal_candle::tokenizers
