// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The hand-made scanners against the regular expressions that they stand for.
#include "metal_candle/io/tokenizer/scanner.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "metal_candle/io/tokenizer/pattern.h"
#include "metal_candle/io/tokenizer/unicode.h"

namespace metal_candle::tokenizers {
namespace {

using Words = std::vector<std::string>;

Words words_of(const Pattern& pattern, const std::string& text) {
  std::vector<Range> matches;
  pattern.find_all(text, matches);
  Words words;
  std::size_t end = 0;
  for (const Range& match : matches) {
    EXPECT_EQ(match.begin, end) << "a gap";
    words.push_back(text.substr(match.begin, match.end - match.begin));
    end = match.end;
  }
  EXPECT_EQ(end, text.size()) << "not all of the text";
  return words;
}

std::string random_text(std::mt19937& random, const std::u32string& alphabet) {
  std::string text;
  const auto size = std::uniform_int_distribution<int>(0, 40)(random);
  for (int i = 0; i < size; ++i) {
    // Runs make the ends of runs matter.
    const char32_t code = alphabet[random() % alphabet.size()];
    for (auto n = 1 + (random() % 4 == 0 ? random() % 5 : 0); n > 0; --n) append_utf8(text, code);
  }
  return text;
}

class ScannerTest : public ::testing::TestWithParam<KnownPattern> {
 protected:
  void expect_same(const std::string& text) {
    EXPECT_EQ(words_of(*scanner_, text), words_of(*regex_, text)) << text;
  }

  std::unique_ptr<const Pattern> scanner_ = make_pattern(regex_of(GetParam()));
  std::unique_ptr<const Pattern> regex_ = make_regex_pattern(regex_of(GetParam()));
};

TEST_P(ScannerTest, IsRecognised) { EXPECT_EQ(known_pattern(regex_of(GetParam())), GetParam()); }

TEST_P(ScannerTest, CutsRandomTextsLikeTheRegularExpression) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const std::u32string ascii = U"''' \n\r\t\v sStTrReEvVmMlLdDxX 019 .,!?-_(){}<>\\/";
  const std::u32string unicode =
      U"''  \n\r\t sTreLlvdM\u017F\u212A\u00A0\u0085\u2028\u3000\u200B\u200D\u0301\u093F"
      U"\u00E9\u4E2D\u0661\u00BD\u2160\u0391\u05D0\u3042\U0001F600\U0001D7D8\U00020000\uFFFD!";
  for (int i = 0; i < 20'000 && !HasFailure(); ++i) {
    expect_same(random_text(random, i % 2 == 0 ? ascii : unicode));
  }
}

// Characters that Oniguruma's tables and utf8proc's both have: those of the year 2015.
TEST_P(ScannerTest, ClassifiesCharactersLikeTheRegularExpression) {
  for (char32_t code = 1; code < 0x30000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    const bool in_both = code < 0x800 || (code >= 0x900 && code < 0xC00) ||
                         (code >= 0x1E00 && code < 0x2E00) || (code >= 0x3000 && code < 0x9FD0) ||
                         (code >= 0xAC00 && code < 0xFB00) || (code >= 0x1F600 && code < 0x1F650) ||
                         (code >= 0x20000 && code < 0x2A6D7);
    if (!in_both) continue;
    std::string text = "a";
    append_utf8(text, code);
    text += "1 ";
    append_utf8(text, code);
    text += "\n";
    ASSERT_EQ(words_of(*scanner_, text), words_of(*regex_, text)) << std::hex << int(code);
  }
}

INSTANTIATE_TEST_SUITE_P(All, ScannerTest,
                         ::testing::Values(KnownPattern::kGpt2, KnownPattern::kLlama3,
                                           KnownPattern::kQwen2));

}  // namespace
}  // namespace metal_candle::tokenizers
