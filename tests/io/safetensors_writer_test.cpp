// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Writing safetensors: what is written, how it lies in the file, and what happens when it fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/io/safetensors.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FileSizeLimit;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryFolder;

TensorMap every_dtype() {
  return {
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
}

void expect_equal(const TensorFiles& file, const TensorMap& tensors) {
  EXPECT_EQ(file.names().size(), tensors.size());
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(file.contains(name));
    EXPECT_EQ(file.spec(name), tensor.spec());
    EXPECT_EQ(file.tensor(name).spec(), tensor.spec());
    dispatch_dtype(tensor.dtype(), [&, t = tensor](auto element) {
      using T = decltype(element);
      EXPECT_EQ(file.tensor(t.empty() ? "" : name).template to_vector<T>(),
                t.template to_vector<T>());
    });
    bytes += tensor.spec().bytes();
  }
  EXPECT_EQ(file.bytes(), bytes);
}

TEST(SafetensorsWriter, WhatIsSavedIsRead) {
  const TemporaryFolder folder;
  const StringMap metadata = {{"format", "pt"}, {"note", "a \"b\" é \n"}};
  save_safetensors(folder / "x.safetensors", every_dtype(), metadata);
  const TensorFiles file = TensorFiles::open(folder / "x.safetensors");
  EXPECT_EQ(file.metadata(), metadata);
  expect_equal(file, every_dtype());
  EXPECT_EQ(folder.num_files(), 1u);
}

TEST(SafetensorsWriter, NoTensorsAndNoMetadata) {
  const TemporaryFolder folder;
  save_safetensors(folder / "x.safetensors", {}, {});
  const TensorFiles file = TensorFiles::open(folder / "x.safetensors");
  EXPECT_TRUE(file.names().empty());
  EXPECT_TRUE(file.metadata().empty());
}

// As the format asks, so that every reader can map the tensors.
TEST(SafetensorsWriter, TensorsAreAligned) {
  const TemporaryFolder folder;
  save_safetensors(folder / "x.safetensors", every_dtype());
  const std::string bytes = folder.read("x.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  EXPECT_EQ(length % 8, 0u);
  const auto header = nlohmann::json::parse(bytes.substr(8, length));
  for (const auto& [name, tensor] : every_dtype()) {
    EXPECT_EQ(header[name]["data_offsets"][0].get<std::size_t>() % size_of(tensor.dtype()), 0u)
        << name;
  }
}

TEST(SafetensorsWriter, AnyLayoutAndLazyTensors) {
  const TemporaryFolder folder;
  const Tensor x = reshape(arange(0.0f, 60000.0f), {100, 600}).eval();
  const TensorMap tensors = {
      {"transposed", transpose(x)},
      {"transposed, evaluated", transpose(x).eval()},
      {"every third", x.slice({{}, {.step = 3}}).eval()},
      {"backwards", flip(x, {0, 1}).eval()},
      {"backwards, lazy", flip(arange(10), {0})},
      {"broadcast", broadcast_to(Tensor({1.0f, 2.0f}), {3, 2}).eval()},
      {"one of several", split(x, 4, 1)[2]},
      {"computed", matmul(x, transpose(x)) * 0.5},
      {"vector", arange(5) * 2},
      {"row", reshape(arange(5), {1, 5}) * 2},
  };
  save_safetensors(folder / "x.safetensors", tensors);
  expect_equal(TensorFiles::open(folder / "x.safetensors"), tensors);
}

TEST(SafetensorsWriter, LazyTensorsDoNotKeepMemory) {
  const TemporaryFolder folder;
  constexpr std::int64_t kCount = 1 << 20;
  TensorMap tensors;
  const Tensor one(1.0f);
  for (int i = 0; i < 8; ++i) {
    tensors["t" + std::to_string(i)] = broadcast_to(one, {kCount}) * static_cast<double>(i);
  }
  reset_peak_memory();
  const std::size_t before = memory_use().in_use;
  save_safetensors(folder / "x.safetensors", tensors);
  EXPECT_LT(memory_use().peak - before, std::size_t{2} * kCount * sizeof(float));
  EXPECT_EQ(sum(TensorFiles::open(folder / "x.safetensors").tensor("t7")).item<float>(),
            7.0f * kCount);
}

TEST(SafetensorsWriter, WhatCannotBeWrittenIsSaidSo) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  EXPECT_THAT(message_of<IoError>([&] { save_safetensors(folder / "no/x", {}); }),
              AllOf(HasSubstr(folder / "no/x"), HasSubstr("No such file or directory")));
  EXPECT_THAT(message_of<Error>([&] {
                save_safetensors(path, {{"a", Tensor()}});
              }),
              AllOf(HasSubstr(path), HasSubstr("'a' is an empty handle")));
  EXPECT_THAT(message_of<FormatError>([&] {
                save_safetensors(path, {{"__metadata__", Tensor(1)}});
              }),
              HasSubstr("__metadata__"));
  EXPECT_THAT(message_of<FormatError>([&] {
                save_safetensors(path, {{"\xff", Tensor(1)}});
              }),
              HasSubstr("not UTF-8"));
  EXPECT_THAT(message_of<FormatError>([&] {
                save_safetensors(path, {}, {{"k", "\xff"}});
              }),
              HasSubstr("not UTF-8"));
  EXPECT_EQ(folder.num_files(), 0u);
}

TEST(SafetensorsWriter, AFullDiskLeavesTheOldFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  save_safetensors(path, {{"a", arange(10.0f)}});
  const std::string before = folder.read("x.safetensors");
  // Within the header, within a tensor, and within one that is gathered element by element.
  for (const std::size_t limit : {std::size_t{10}, std::size_t{5000}, std::size_t{200'000}}) {
    const FileSizeLimit full(limit);
    const Tensor strided = flip(arange(0.0f, 40000.0f), {0}).eval();
    EXPECT_THAT(message_of<IoError>([&] {
                  save_safetensors(path, {{"a", arange(30000.0f)}, {"b", strided}});
                }),
                AllOf(HasSubstr(path), HasSubstr("cannot write"), HasSubstr("File too large")));
    EXPECT_EQ(folder.read("x.safetensors"), before);
    EXPECT_EQ(folder.num_files(), 1u);
  }
}

TEST(SafetensorsWriter, ATensorThatFailsLeavesTheOldFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  save_safetensors(path, {{"a", arange(10.0f)}});
  const std::string before = folder.read("x.safetensors");
  const std::size_t limit = memory_use().limit;
  const Tensor one = full({1}, 1.0f).eval();
  set_memory_limit(memory_use().in_use + 4096);
  EXPECT_THROW(save_safetensors(path, {{"a", broadcast_to(one, {1 << 20}) * 2.0}}),
               OutOfMemoryError);
  set_memory_limit(limit);
  EXPECT_EQ(folder.read("x.safetensors"), before);
  EXPECT_EQ(folder.num_files(), 1u);
}

TEST(SafetensorsWriter, ShardsHoldWhatTheLimitAllows) {
  const TemporaryFolder folder;
  const TensorMap tensors = {{"a", arange(10.0f)},
                             {"b", arange(10.0f)},
                             {"c", arange(100.0f)},  // Larger than the limit.
                             {"d", arange(5.0f)},
                             {"e", arange(15.0f)}};
  folder.write("model.safetensors", "to be replaced");
  EXPECT_THAT(save_sharded(folder.path(), tensors, 80),
              ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", "model.safetensors.index.json"));
  EXPECT_EQ(folder.num_files(), 4u);
  const TensorFiles files = TensorFiles::open(folder.path());
  expect_equal(files, tensors);
  EXPECT_THAT(files.path("b"), HasSubstr("model-00001-of-00003"));
  EXPECT_THAT(files.path("e"), HasSubstr("model-00003-of-00003"));
  EXPECT_EQ(files.metadata().at("format"), "pt");
  const auto index = nlohmann::json::parse(folder.read("model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 560);
}

TEST(SafetensorsWriter, OneShardNeedsNoIndex) {
  const TemporaryFolder folder;
  EXPECT_THAT(save_sharded(folder.path(), every_dtype(), 1 << 20),
              ElementsAre("model.safetensors"));
  expect_equal(TensorFiles::open(folder.path()), every_dtype());
}

}  // namespace
}  // namespace metal_candle
