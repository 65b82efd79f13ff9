// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The header of a safetensors file: which tensors it has, and where. The format:
// https://huggingface.co/docs/safetensors, "Format".
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "metal_candle/core/dtype.h"
#include "metal_candle/core/shape.h"

namespace metal_candle {

struct SafetensorsEntry {
  std::string dtype;             // As the format spells it.
  std::optional<DType> element;  // None where this library has no such type.
  Shape shape;
  std::size_t begin = 0, end = 0;  // Bytes from the start of the tensors' data.
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
  std::size_t data_begin = 0;  // Bytes from the start of the file.
};

/// Reads and checks the header of a whole file, whose bytes may be anybody's: every tensor lies
/// within the file and fills its shape; they neither overlap nor leave gaps; strides of every shape
/// can be computed. Throws FormatError naming `path` and the tensor.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                                         const std::string& path);

/// The format's name of a dtype: "BF16".
[[nodiscard]] std::string_view safetensors_name(DType dtype);

}  // namespace metal_candle
