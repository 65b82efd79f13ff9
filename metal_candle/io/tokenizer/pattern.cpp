// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/tokenizer/pattern.h"

#include <fmt/format.h>
#include <oniguruma.h>

#include <array>
#include <mutex>
#include <new>
#include <string>

#include "metal_candle/core/error.h"
#include "metal_candle/io/quote.h"
#include "metal_candle/io/tokenizer/scanner.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

const OnigUChar* bytes_of(const char* text) { return reinterpret_cast<const OnigUChar*>(text); }

std::string message_of(int error, OnigErrorInfo* info) {
  std::array<OnigUChar, ONIG_MAX_ERROR_MESSAGE_LEN> message{};
  const int size = info == nullptr ? onig_error_code_to_str(message.data(), error)
                                   : onig_error_code_to_str(message.data(), error, info);
  return {reinterpret_cast<const char*>(message.data()), static_cast<std::size_t>(size)};
}

class Regex final : public Pattern {
 public:
  explicit Regex(std::string_view regex) : text_(regex) {
    // Compiling changes tables that all regular expressions share.
    static std::mutex mutex;
    const std::scoped_lock lock(mutex);
    OnigEncoding encoding = ONIG_ENCODING_UTF8;
    static const int initialized = onig_initialize(&encoding, 1);
    OnigErrorInfo info{};
    int error = initialized;
    if (error == ONIG_NORMAL) {
      error = onig_new(&regex_, bytes_of(text_.data()), bytes_of(text_.data() + text_.size()),
                       ONIG_OPTION_NONE, encoding, ONIG_SYNTAX_DEFAULT, &info);
    }
    if (error != ONIG_NORMAL) {
      throw FormatError(
          fmt::format("regular expression {}: {}", quote(text_), message_of(error, &info)));
    }
  }
  ~Regex() override { onig_free(regex_); }

  void find_all(std::string_view text, std::vector<Range>& matches) const override {
    const std::unique_ptr<OnigRegion, FreeRegion> region(onig_region_new());
    const auto limits = search_limits(text.size());
    if (region == nullptr || limits == nullptr) throw std::bad_alloc();
    const OnigUChar* const begin = bytes_of(text.data());
    const OnigUChar* const end = begin + text.size();
    std::size_t from = 0;
    std::size_t last_end = std::string_view::npos;
    while (from <= text.size()) {
      const int position = onig_search_with_param(regex_, begin, end, begin + from, end,
                                                  region.get(), ONIG_OPTION_NONE, limits.get());
      if (position == ONIG_MISMATCH) return;
      if (position < 0) {
        throw Error(fmt::format("tokenizer: regular expression {}: {}", quote(text_),
                                message_of(position, nullptr)));
      }
      const Range match{static_cast<std::size_t>(region->beg[0]),
                        static_cast<std::size_t>(region->end[0])};
      if (match.begin == match.end && match.end == last_end) {
        from += from < text.size() ? first_character(text.substr(from)).size : 1;
        continue;
      }
      matches.push_back(match);
      from = last_end = match.end;
    }
  }

 private:
  struct FreeRegion {
    void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
  };

  struct FreeLimits {
    void operator()(OnigMatchParam* limits) const { onig_free_match_param(limits); }
  };

  // How often one search may go back and try another way. Patterns that tokenizers have do so a few
  // times for each character; hostile ones, for ever.
  static std::unique_ptr<OnigMatchParam, FreeLimits> search_limits(std::size_t text_size) {
    std::unique_ptr<OnigMatchParam, FreeLimits> limits(onig_new_match_param());
    if (limits == nullptr) return limits;
    const unsigned long most = 1'000'000UL + 100UL * text_size;
    onig_initialize_match_param(limits.get());
    onig_set_retry_limit_in_match_of_match_param(limits.get(), most);
    onig_set_retry_limit_in_search_of_match_param(limits.get(), most);
    return limits;
  }

  std::string text_;
  regex_t* regex_ = nullptr;
};

class Literal final : public Pattern {
 public:
  explicit Literal(std::string_view text) : text_(text) {}

  void find_all(std::string_view text, std::vector<Range>& matches) const override {
    std::size_t i = 0;
    while ((i = text.find(text_, i)) != std::string_view::npos) {
      matches.push_back({i, i + text_.size()});
      i += text_.size();
    }
  }

 private:
  std::string text_;
};

class Scanner final : public Pattern {
 public:
  explicit Scanner(KnownPattern pattern) : pattern_(pattern) {}

  void find_all(std::string_view text, std::vector<Range>& matches) const override {
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t end = scan_word(pattern_, text, i);
      matches.push_back({i, end});
      i = end;
    }
  }

 private:
  KnownPattern pattern_;
};

}  // namespace

std::unique_ptr<const Pattern> make_regex_pattern(std::string_view regex) {
  return std::make_unique<Regex>(regex);
}

std::unique_ptr<const Pattern> make_pattern(std::string_view regex) {
  const auto known = known_pattern(regex);
  if (known) return std::make_unique<Scanner>(*known);
  return make_regex_pattern(regex);
}

std::unique_ptr<const Pattern> read_pattern(const JsonField& json) {
  json.expect_only({"String", "Regex"});
  if (const auto literal = json.find("String")) {
    if (literal->string().empty()) literal->fail("is empty");
    return std::make_unique<Literal>(literal->string());
  }
  const JsonField regex = json.at("Regex");
  try {
    return make_pattern(regex.string());
  } catch (const FormatError& error) {
    regex.fail(error.what());
  }
}

}  // namespace metal_candle::tokenizers
