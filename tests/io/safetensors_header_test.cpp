// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What malformed safetensors files are told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/io/safetensors.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryFolder;

std::string with_length(const std::string& header, std::uint64_t length) {
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header;
}
std::string file_bytes(const std::string& header, std::size_t data_bytes) {
  return with_length(header, header.size()) + std::string(data_bytes, '\0');
}

void expect_refused(const std::string& contents, const std::vector<const char*>& says) {
  static const TemporaryFolder folder;
  const std::string path = folder.write("x.safetensors", contents);
  const std::string message = message_of<FormatError>([&] { (void)TensorFiles::open(path); });
  EXPECT_THAT(message, HasSubstr(path));
  for (const char* part : says) EXPECT_THAT(message, HasSubstr(part));
}

struct HostileHeader {
  const char* header;
  std::size_t data_bytes;
  std::vector<const char*> says;
};

#define TENSOR(name, dtype, shape, offsets) \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

const HostileHeader kHostileHeaders[] = {
    {"", 0, {"not a JSON object"}},
    {"[]", 0, {"not a JSON object"}},
    {" {}", 0, {"not a JSON object"}},
    {"{", 0, {"not JSON"}},
    {"{}x", 0, {"not JSON"}},
    {"{} {}", 0, {"not JSON"}},
    {"{\"a\":\"\xff\"}", 0, {"not JSON"}},
    {"{\"a\":1}", 0, {"'a' is a number"}},
    {"{\"a\":[]}", 0, {"'a' is a list"}},
    {"{\"a\":null}", 0, {"'a' is null"}},
    {"{\"a\":{}}", 0, {"'a' has no dtype"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4, {"'a' has no data_offsets"}},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, {"'a' has no shape"}},
    {"{\"a\":{\"dtype\":{}}}", 0, {"'a' has an object in its dtype"}},
    {"{\"a\":{\"dtype\":true}}", 0, {"'a' has a boolean in its dtype"}},
    {"{\"a\":{\"dtype\":[]}}", 0, {"'a' has a list in its dtype"}},
    {"{\"a\":{\"shape\":\"x\"}}", 0, {"'a' has a string in its shape"}},
    {"{\"a\":{\"shape\":[[]]}}", 0, {"'a' has a list in its shape"}},
    {"{\"a\":{\"shape\":3}}", 0, {"'a' has a number in its shape"}},
    {"{\"a\":{\"strides\":[1]}}", 0, {"'a' has the key 'strides'"}},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\"}}", 0, {"'a' has 'dtype' twice"}},
    {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("a", "F32", "[1]", "[4,8]") "}",
     8,
     {"'a' is there twice"}},
    {"{" TENSOR("a", "f32", "[1]", "[0,4]") "}", 4, {"'a' has the dtype 'f32'"}},
    {"{" TENSOR("a", "F32", "[-1]", "[0,4]") "}", 4, {"'a' has a negative number in its shape"}},
    {"{" TENSOR("a", "F32", "[1.0]", "[0,4]") "}", 4, {"'a' has a number that is no"}},
    {"{" TENSOR("a", "F32", "[99999999999999999999]", "[0,4]") "}", 4, {"no 64-bit integer"}},
    {"{" TENSOR("a", "F32", "[18446744073709551615]", "[0,4]") "}", 4, {"more than any file"}},
    {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, {"more than any file"}},
    {"{" TENSOR("a", "F32", "[0,4611686018427387904,4]", "[0,0]") "}", 0, {"more than any file"}},
    {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, {"more than 8 dimensions"}},
    {"{" TENSOR("a", "F32", "[1]", "[0]") "}", 4, {"not a begin and an end"}},
    {"{" TENSOR("a", "F32", "[1]", "[0,4,8]") "}", 4, {"not a begin and an end"}},
    {"{" TENSOR("a", "F32", "[1]", "[4,0]") "}", 4, {"not a begin and an end"}},
    {"{" TENSOR("a", "F32", "[1]", "[0,8]") "}", 8, {"'a' of F32 [1] takes 4 bytes", "hold 8"}},
    {"{" TENSOR("a", "F4", "[3]", "[0,2]") "}", 2, {"'a' of F4 [3] takes 2 bytes"}},
    {"{" TENSOR("a", "F32", "[1]", "[9223372036854775808,9223372036854775812]") "}",
     4,
     {"'a' has 9223372036854775808 in its data_offsets"}},
    {"{" TENSOR("a", "F32", "[1]", "[4,8]") "}", 8, {"4 bytes before tensor 'a'"}},
    {"{" TENSOR("a", "U8", "[4]", "[0,4]") "," TENSOR("b", "U8", "[4]", "[3,7]") "}",
     7,
     {"'a' and 'b' overlap"}},
    {"{" TENSOR("a", "U8", "[4]", "[0,4]") "," TENSOR("b", "U8", "[4]", "[0,4]") "}",
     4,
     {"'a' and 'b' overlap"}},
    {"{" TENSOR("a", "U8", "[4]", "[0,4]") "," TENSOR("b", "U8", "[4]", "[6,10]") "}",
     10,
     {"2 bytes before tensor 'b' belong to no tensor"}},
    {"{" TENSOR("a", "U8", "[4]", "[0,4]") "}", 3, {"'a' ends beyond", "download complete"}},
    {"{" TENSOR("a", "U8", "[4]", "[0,4]") "}", 5, {"last 1 bytes belong to no tensor"}},
    {"{}", 1, {"last 1 bytes belong to no tensor"}},
    {"{\"__metadata__\":[]}", 0, {"'__metadata__' is a list"}},
    {"{\"__metadata__\":{\"a\":1}}", 0, {"__metadata__ has a number for 'a'"}},
    {"{\"__metadata__\":{\"a\":{}}}", 0, {"__metadata__ has an object for 'a'"}},
    {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, {"__metadata__ has 'a' twice"}},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, {"'__metadata__' is there twice"}},
};

TEST(SafetensorsHeader, MalformedOnesAreRefused) {
  for (const HostileHeader& hostile : kHostileHeaders) {
    SCOPED_TRACE(hostile.header);
    expect_refused(file_bytes(hostile.header, hostile.data_bytes), hostile.says);
  }
}

TEST(SafetensorsHeader, MetadataMayBeNull) {
  const TemporaryFolder folder;
  const std::string header = R"({"__metadata__":null})";
  EXPECT_TRUE(TensorFiles::open(folder.write("x", file_bytes(header, 0))).metadata().empty());
  expect_refused(file_bytes(R"({"__metadata__":null,"__metadata__":{}})", 0), {"twice"});
  expect_refused(file_bytes(R"({"__metadata__":{"a":null}})", 0), {"null for 'a'"});
}

TEST(SafetensorsHeader, ItsLengthIsChecked) {
  expect_refused("", {"has 0 bytes, too few", "download complete"});
  expect_refused(std::string(7, '\0'), {"has 7 bytes, too few"});
  expect_refused(with_length("", 0), {"not a JSON object"});
  expect_refused(with_length("{}", 3), {"ends within its header", "at least 11", "file has 10"});
  expect_refused(with_length("{}", 100'000'001), {"header of 100000001 bytes", "is it one?"});
  expect_refused(with_length("{}", UINT64_MAX), {"header of 18446744073709551615 bytes"});
  expect_refused(with_length("{}", UINT64_MAX - 7), {"is it one?"});
}

TEST(SafetensorsHeader, FilesOfOtherKindsAreToldApart) {
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4\n",
                 {"Git LFS pointer", "git lfs pull"});
  expect_refused("<!DOCTYPE html><html></html>", {"is it one?"});
}

TEST(SafetensorsHeader, LongAndControlCharactersStayOutOfMessages) {
  const std::string message = message_of<FormatError>([] {
    const TemporaryFolder folder;
    const std::string header = "{\"\\u001b[31m" + std::string(1000, 'n') + "\":1}";
    (void)TensorFiles::open(folder.write("x", file_bytes(header, 0)));
  });
  EXPECT_THAT(message, HasSubstr("'?[31mnnn"));
  EXPECT_LT(message.size(), 400u);
}

// As deep and as long as a header may be: neither the stack nor much memory is used.
TEST(SafetensorsHeader, DeepAndLongOnesAreRefusedAtOnce) {
  const std::string deep(1'000'000, '[');
  expect_refused(file_bytes("{\"a\":" + deep, 0), {"'a' is a list"});
  expect_refused(file_bytes("{\"a\":{\"shape\":" + deep, 0), {"a list in its shape"});
  std::string ones = "1";
  for (int i = 0; i < 100'000; ++i) ones += ",1";
  expect_refused(file_bytes("{\"a\":{\"shape\":[" + ones + "]}}", 0), {"more than 8 dimensions"});
}

const char* const kTwoTensors = "{\"__metadata__\":{\"k\":\"v\"}," TENSOR(
    "a", "F32", "[2,3]", "[0,24]") "," TENSOR("b", "BF16", "[2]", "[24,28]") "}   ";

TEST(SafetensorsHeader, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::string whole = file_bytes(kTwoTensors, 28);
  EXPECT_EQ(TensorFiles::open(folder.write("x", whole)).names().size(), 2u);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    SCOPED_TRACE(length);
    expect_refused(whole.substr(0, length), {"download complete"});
  }
}

// A changed byte either gives another sound file or is refused; nothing else happens.
TEST(SafetensorsHeader, AnyChangedByteIsReadOrRefused) {
  const TemporaryFolder folder;
  const std::string whole = file_bytes(kTwoTensors, 28);
  int refused = 0;
  for (std::size_t i = 0; i < whole.size() - 28; ++i) {
    for (const char byte : {'\0', ' ', '"', '0', '9', '[', '}', '\xff'}) {
      std::string changed = whole;
      changed[i] = byte;
      try {
        const TensorFiles file = TensorFiles::open(folder.write("x", changed));
        for (const std::string& name : file.names()) (void)file.tensor(name).eval();
      } catch (const FormatError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace metal_candle
