// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a file of training data.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "metal_candle/core/error.h"
#include "metal_candle/io/jsonl.h"

namespace {

// A file in memory with these contents; its path.
const std::string& file_of(const std::uint8_t* data, std::size_t size) {
  static const int descriptor = ::memfd_create("fuzzed", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  if (::ftruncate(descriptor, 0) != 0 ||
      ::pwrite(descriptor, data, size, 0) != static_cast<ssize_t>(size)) {
    std::abort();
  }
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto examples = metal_candle::read_examples(file_of(data, size));
    if (examples.empty()) std::abort();
    for (const metal_candle::Example& example : examples) {
      if (example.form != examples[0].form || example.line == 0) std::abort();
    }
  } catch (const metal_candle::FormatError&) {
  }
  return 0;
}
