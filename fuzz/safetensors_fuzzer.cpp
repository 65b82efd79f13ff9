// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a safetensors file, and as the header of one.
#include <cstdlib>
#include <cstring>
#include <string>

#include "metal_candle/core/error.h"
#include "metal_candle/io/safetensors_header.h"

namespace metal_candle {
namespace {

void parse(std::span<const std::byte> file) {
  SafetensorsHeader header;
  try {
    header = parse_safetensors_header(file, "fuzzed");
  } catch (const FormatError&) {
    return;
  }
  // What is accepted may be mapped and read.
  std::size_t bytes = header.data_begin;
  for (const auto& [name, entry] : header.tensors) {
    if (entry.begin > entry.end || entry.end > file.size() - header.data_begin) std::abort();
    if (entry.element) {
      const std::int64_t count = num_elements(entry.shape);
      if (entry.end - entry.begin != static_cast<std::size_t>(count) * size_of(*entry.element)) {
        std::abort();
      }
    }
    (void)contiguous_strides(entry.shape);
    bytes += entry.end - entry.begin;
  }
  if (bytes != file.size()) std::abort();
}

}  // namespace
}  // namespace metal_candle

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  metal_candle::parse(std::as_bytes(std::span(data, size)));
  // The length of a header is hard to find by chance.
  for (const std::size_t data_bytes : {0, 4, 24}) {
    const std::uint64_t length = size;
    std::string file(sizeof(length) + size + data_bytes, '\0');
    std::memcpy(file.data(), &length, sizeof(length));
    if (size > 0) std::memcpy(file.data() + sizeof(length), data, size);
    metal_candle::parse(std::as_bytes(std::span(file)));
  }
  return 0;
}
