// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the readers of the adapter formats share.
#pragma once

#include <map>
#include <string>

#include "metal_candle/io/json_object.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/lora/lora.h"

namespace metal_candle::detail {

/// The two factors of an update, as LoraWeights has them.
struct Factors {
  Tensor a;  // [rank, in]
  Tensor b;  // [out, rank]
};
/// By the path of the layer.
using FactorsByPath = std::map<std::string, Factors>;

/// Throws FormatError naming `file` and the layer unless there is at least one, each has both
/// factors, of floating dtype, and their shapes agree.
void check_factors(const std::string& file, const FactorsByPath& factors);

/// The tree of Adapter::weights.
[[nodiscard]] Tree to_tree(const FactorsByPath& factors);

/// Reads "lora_dropout" or the like. Throws FormatError unless it is in [0, 1).
[[nodiscard]] double read_dropout(const JsonObject& json, std::string_view key);

[[nodiscard]] Adapter load_peft_adapter(const std::string& config_path,
                                        const std::string& weights_path);
[[nodiscard]] Adapter load_mlx_adapter(const std::string& config_path,
                                       const std::string& weights_path);

}  // namespace metal_candle::detail
