// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a tokenizer.json looks for in a text: a string, or a regular expression in the syntax and
// with the meaning of Oniguruma, which is what Hugging Face's tokenizers use.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "metal_candle/io/tokenizer/json.h"

namespace metal_candle::tokenizers {

/// Bytes of a text, from begin to before end.
struct Range {
  std::size_t begin;
  std::size_t end;
};

/// Immutable, thread safe.
class Pattern {
 public:
  Pattern() = default;
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;
  virtual ~Pattern() = default;

  /// Appends the matches in `text`, which is UTF-8: from left to right, without overlaps. An empty
  /// one does not follow another match immediately. Throws Error if a regular expression takes too
  /// long.
  virtual void find_all(std::string_view text, std::vector<Range>& matches) const = 0;
};

/// Reads {"String": "..."} or {"Regex": "..."}. Known regular expressions become scanners. Throws
/// FormatError with what is wrong with the regular expression.
[[nodiscard]] std::unique_ptr<const Pattern> read_pattern(const JsonField& json);

/// The pattern of a regular expression that is known to be right.
[[nodiscard]] std::unique_ptr<const Pattern> make_pattern(std::string_view regex);

/// As make_pattern(), but never a scanner: the reference for these.
[[nodiscard]] std::unique_ptr<const Pattern> make_regex_pattern(std::string_view regex);

}  // namespace metal_candle::tokenizers
