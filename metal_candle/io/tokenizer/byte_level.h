// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The byte-level alphabet of GPT-2: one printable character for each byte, so that any text can be
// spelt in 256 characters without a space among them. Printable Latin-1 stands for itself; the
// other bytes follow from U+0100 on, in order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace metal_candle::tokenizers {

/// Appends the characters that stand for the bytes.
void append_byte_level(std::string& text, std::string_view bytes);

/// Appends the bytes that the characters of `token` stand for, or, if one of them stands for none,
/// the bytes of `token` itself.
void append_bytes_of(std::string& bytes, std::string_view token);

}  // namespace metal_candle::tokenizers
