// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading and writing safetensors: values, memory, and what malformed files are told.
#include "metal_candle/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/io/temporary_folder.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::string with_length(const std::string& header, std::uint64_t length) {
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header;
}
std::string file_bytes(const std::string& header, std::size_t data_bytes) {
  return with_length(header, header.size()) + std::string(data_bytes, '\0');
}

template <typename E = FormatError, typename Fn>
std::string message_of(Fn fn) {
  try {
    fn();
  } catch (const E& error) {
    return error.what();
  }
  return "no such error";
}

const void* address(const Tensor& tensor) {
  const Value& value = tensor.node()->value();
  return static_cast<const std::byte*>(value.storage->contents()) + value.offset;
}

TEST(Safetensors, WhatIsSavedIsRead) {
  const TemporaryFolder folder;
  const TensorMap tensors = {
      {"f32", Tensor({1.5f, -2.0f, 3.0f, 4.0f, 5.0f, 6.0f}, {2, 3})},
      {"bf16", astype(Tensor({1.0f, 2.0f, -0.5f}), DType::kBF16)},
      {"f16", astype(Tensor({1.0f, 2.0f, -0.5f}), DType::kF16)},
      {"i8", Tensor({std::int8_t{-1}, std::int8_t{2}, std::int8_t{3}})},
      {"u8", Tensor({std::uint8_t{255}})},
      {"i32", Tensor({-7, 8})},
      {"u32", Tensor({4000000000u})},
      {"i64", Tensor({std::int64_t{-1} << 40})},
      {"bool", Tensor({true, false, true})},
      {"scalar", Tensor(2.5f)},
      {"empty", zeros({3, 0, 2})},
  };
  save_safetensors(folder / "x.safetensors", tensors, {{"format", "pt"}, {"note", "a \"b\" é"}});
  const TensorFiles file = TensorFiles::open(folder / "x.safetensors");
  EXPECT_EQ(file.metadata(), (StringMap{{"format", "pt"}, {"note", "a \"b\" é"}}));
  EXPECT_EQ(file.names().size(), tensors.size());
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(file.contains(name));
    EXPECT_EQ(file.spec(name), tensor.spec());
    EXPECT_EQ(file.tensor(name).spec(), tensor.spec());
    dispatch_dtype(tensor.dtype(), [&](auto element) {
      using T = decltype(element);
      EXPECT_EQ(file.tensor(name).to_vector<T>(), tensor.to_vector<T>());
    });
    bytes += tensor.spec().bytes();
  }
  EXPECT_EQ(file.bytes(), bytes);
}

TEST(Safetensors, TensorsAreTheMappedMemoryAndKeepIt) {
  const TemporaryFolder folder;
  save_safetensors(folder / "x.safetensors", {{"a", arange(4096.0f)}, {"b", arange(3)}});
  Tensor a;
  {
    const TensorFiles file = TensorFiles::open(folder / "x.safetensors");
    const std::size_t before = memory_use().in_use;
    a = file.tensor("a");
    EXPECT_EQ(memory_use().in_use, before);
    EXPECT_EQ(address(a), address(file.tensor("a")));
  }
  std::filesystem::remove(folder / "x.safetensors");
  EXPECT_EQ(sum(a).item<float>(), 4095.0f * 4096.0f / 2);
}

TEST(Safetensors, MissingAndWronglyShapedTensorsAreNamed) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  save_safetensors(path, {{"model.norm.weight", arange(4.0f)}});
  const TensorFiles file = TensorFiles::open(path);
  EXPECT_THAT(message_of([&] { (void)file.tensor("norm.weight"); }),
              AllOf(HasSubstr(path), HasSubstr("'norm.weight'"), HasSubstr("'model.norm.weight'")));
  EXPECT_THAT(message_of([&] { (void)file.tensor("model.norm.wieght"); }),
              HasSubstr("it has 'model.norm.weight'"));
  EXPECT_THAT(message_of([&] { (void)file.spec("lm_head"); }), ::testing::EndsWith("'lm_head'"));
  EXPECT_THAT(
      message_of<ShapeError>([&] {
        (void)file.tensor("model.norm.weight", {2, 2});
      }),
      AllOf(HasSubstr(path), HasSubstr("[4]"), HasSubstr("[2, 2]"), HasSubstr("model.norm")));
  EXPECT_EQ(file.tensor("model.norm.weight", {4}).size(), 4);
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

TEST(Safetensors, MalformedHeadersAreRefused) {
  const TemporaryFolder folder;
  for (const HostileHeader& hostile : kHostileHeaders) {
    SCOPED_TRACE(hostile.header);
    const std::string path =
        folder.write("x.safetensors", file_bytes(hostile.header, hostile.data_bytes));
    const std::string message = message_of([&] { (void)TensorFiles::open(path); });
    EXPECT_THAT(message, HasSubstr(path));
    for (const char* part : hostile.says) EXPECT_THAT(message, HasSubstr(part));
  }
}

}  // namespace
}  // namespace metal_candle
