// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "metal_candle/io/tokenizer/json.h"
#include "metal_candle/io/tokenizer/normalizer.h"

namespace metal_candle::tokenizers {

/// The "BertNormalizer" of tokenizer.json. Throws FormatError.
[[nodiscard]] std::unique_ptr<const Normalizer> read_bert_normalizer(const JsonField& json);

}  // namespace metal_candle::tokenizers
