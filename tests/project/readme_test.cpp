// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The README's C++ example is, letter for letter, the program in examples/readme.cpp.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace metal_candle::testing {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(METAL_CANDLE_SOURCE_DIR "/" + path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What stands between the first `begin` and the next `end`.
std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const auto start = text.find(begin);
  if (start == std::string::npos) throw std::runtime_error("no " + begin);
  const auto first = start + begin.size();
  const auto last = text.find(end, first);
  if (last == std::string::npos) throw std::runtime_error("no " + end + " after " + begin);
  return text.substr(first, last - first);
}

TEST(ReadmeTest, ExampleIsTheCompiledProgram) {
  const auto shown =
      between(read_file("README.md"), "this is examples/readme.cpp. -->\n```cpp\n", "```");
  const auto compiled = between(read_file("examples/readme.cpp"), "// [readme]\n", "// [/readme]");
  EXPECT_EQ(shown, compiled);
  EXPECT_FALSE(shown.empty());
}

}  // namespace
}  // namespace metal_candle::testing
