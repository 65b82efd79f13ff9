// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Writing decoders as folders that Hugging Face loads.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "metal_candle/models/decoder.h"

namespace metal_candle {

/// Writes a model folder: the weights of `model`, in one file or, beyond max_shard_bytes, in
/// several with an index; config.json of source_folder, which `model` was loaded from, with the
/// dtype of the weights; and copies of its generation_config.json, tokenizer, chat template and
/// licence. Makes `folder`, or replaces the model in it. config.json is written last: a folder
/// that is only half there does not load. Returns the names of the files written, in that order.
///
/// Throws Error when `folder` is source_folder, when a layer of `model` has a low-rank update
/// (merge_adapter() first), or when source_folder's config.json is of another model; IoError and
/// FormatError naming the file.
std::vector<std::string> save_decoder(const Decoder& model, const std::string& source_folder,
                                      const std::string& folder,
                                      std::size_t max_shard_bytes = 5'000'000'000);

}  // namespace metal_candle
