// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Adapters as folders: PEFT's format, read and written, and mlx-lm's, read.
#pragma once

#include <string>

#include "metal_candle/lora/lora.h"

namespace metal_candle {

/// Reads an adapter of Hugging Face's PEFT (adapter_config.json and adapter_model.safetensors) or
/// of mlx-lm (adapter_config.json and adapters.safetensors). The weights are mapped, in the dtype
/// they were saved in. Exceptions from rank and alpha come out by full path, and so do
/// target_modules where they were limited to some blocks in another way than LoraConfig can say.
///
/// Throws IoError if a file is missing or unreadable; FormatError, naming the file and the key or
/// tensor, if one is malformed, if weights and configuration disagree, or if the configuration asks
/// for what would change the result and is not supported (DoRA, trained biases, modules_to_save,
/// ...).
[[nodiscard]] Adapter load_adapter(const std::string& folder);

/// Writes PEFT's format into a folder, which is made if missing. Each file appears complete or not
/// at all. `base_model` is the name or path of the model it belongs to, which PEFT's users see. The
/// weights keep their dtype. Throws IoError naming the file and the reason.
void save_adapter(const std::string& folder, const Adapter& adapter,
                  const std::string& base_model = "");

}  // namespace metal_candle
