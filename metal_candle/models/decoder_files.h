// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Writing decoders as the model folders of Hugging Face.
#pragma once

#include <cstddef>
#include <string>

#include "metal_candle/models/decoder.h"

namespace metal_candle {

/// Writes a model folder, which is made if missing: the weights in safetensors (several files with
/// an index beyond max_shard_bytes), the tokenizer's files and generation_config.json copied from
/// `source`, the folder the model came from, and last config.json, with the dtype as it is now; so
/// that a folder without config.json is one that was not finished. Low-rank updates beside the
/// weights are not written: merge_adapter() first. Each file appears complete or not at all. Throws
/// Error if `folder` is `source`; IoError naming the file and the reason.
void save_decoder(const Decoder& model, const std::string& source, const std::string& folder,
                  std::size_t max_shard_bytes = std::size_t{5'000'000'000});

}  // namespace metal_candle
