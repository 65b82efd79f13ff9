// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The index of a model in several safetensors files, as Hugging Face writes it.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace metal_candle {

/// The "weight_map" of a model.safetensors.index.json, whose text may be anybody's: the file of
/// each tensor, a plain name. Throws FormatError naming `path` and the tensor.
[[nodiscard]] std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                                         const std::string& path);

}  // namespace metal_candle
