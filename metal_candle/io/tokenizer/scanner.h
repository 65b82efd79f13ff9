// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The regular expressions with which nearly all language models cut text into words, as hand-made
// scanners: several times faster than a regular expression library. Tests compare both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace metal_candle::tokenizers {

enum class KnownPattern : std::uint8_t { kGpt2, kLlama3, kQwen2 };

/// The regular expression as files have it.
[[nodiscard]] std::string_view regex_of(KnownPattern pattern);
/// Which of them this is, if any.
[[nodiscard]] std::optional<KnownPattern> known_pattern(std::string_view regex);

/// Where the match that begins at `begin` ends. Matches follow each other without gaps. `text` is
/// UTF-8, and `begin` less than its size.
[[nodiscard]] std::size_t scan_word(KnownPattern pattern, std::string_view text, std::size_t begin);

}  // namespace metal_candle::tokenizers
