// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/json_object.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metal_candle/core/error.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

TEST(JsonObject, IntegersMayBeSpelledAsFloats) {
  const JsonObject json = JsonObject::parse(
      R"({"a": 2048.0, "b": -3.0, "c": 2.5, "d": 1e300, "e": 9223372036854775808, "f": -1e19})",
      "x.json");
  EXPECT_EQ(json.integer("a"), 2048);
  EXPECT_EQ(json.integer("b"), -3);
  for (const char* key : {"c", "d", "e", "f"}) {
    EXPECT_THAT(message_of<FormatError>([&] { (void)json.integer(key); }),
                HasSubstr(std::string("x.json: ") + key + ": expected an integer"));
  }
}

}  // namespace
}  // namespace metal_candle
