// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading safetensors: values, memory, folders, and what is said when something is not there.
#include "metal_candle/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryFolder;

const std::byte* address(const Tensor& tensor) {
  const Value& value = tensor.node()->value();
  return static_cast<const std::byte*>(value.storage->contents()) + value.offset;
}

std::string file_bytes(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

// Element i of a tensor that scripts/fixtures/safetensors_file.py wrote.
template <typename T>
T expected(std::int64_t i) {
  if constexpr (std::is_same_v<T, bool>) return i % 3 == 0;
  if constexpr (std::is_same_v<T, std::uint8_t>) return static_cast<T>(i * 7 % 256);
  if constexpr (std::is_same_v<T, std::int8_t>) return static_cast<T>(i * 7 % 256 - 128);
  if constexpr (std::is_same_v<T, std::int32_t>) return static_cast<T>(i * 100'003 - 7);
  if constexpr (std::is_same_v<T, std::uint32_t>) return static_cast<T>(4'000'000'000 - i);
  if constexpr (std::is_same_v<T, std::int64_t>) return (i - 3) * (std::int64_t{1} << 40);
  return T(static_cast<float>(i) * 0.25f - 1.5f);
}

TEST(Safetensors, FilesOfThePythonLibraryAreRead) {
  const TensorFiles file =
      TensorFiles::open(METAL_CANDLE_SOURCE_DIR "/tests/fixtures/from_python.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("text"), "quotes \" and \\, \n, é, 漢字 and 🕯");
  int tensors = 0;
  for (int d = 0; d < kNumDTypes; ++d) {
    const auto dtype = static_cast<DType>(d);
    for (const Shape& shape : {Shape{}, Shape{7}, Shape{3, 5}, Shape{2, 0, 3}, Shape{1, 2, 3, 4}}) {
      const std::string name =
          std::string("weights.") + std::string(metal_candle::name(dtype)) + to_string(shape);
      SCOPED_TRACE(name);
      const Tensor tensor = file.tensor(name, shape);
      ASSERT_EQ(tensor.dtype(), dtype);
      dispatch_dtype(dtype, [&](auto element) {
        using T = decltype(element);
        std::vector<T> values;
        for (std::int64_t i = 0; i < num_elements(shape); ++i) values.push_back(expected<T>(i));
        EXPECT_EQ(tensor.to_vector<T>(), values);
      });
      ++tensors;
    }
  }
  EXPECT_EQ(file.names().size(), static_cast<std::size_t>(tensors) + 1);
}

TEST(Safetensors, UnsupportedDtypesHarmOnlyTheirTensor) {
  const TensorFiles file =
      TensorFiles::open(METAL_CANDLE_SOURCE_DIR "/tests/fixtures/from_python.safetensors");
  const auto says =
      AllOf(HasSubstr("from_python.safetensors"), HasSubstr("'double'"), HasSubstr("F64"));
  EXPECT_THAT(message_of<FormatError>([&] { (void)file.tensor("double"); }), says);
  EXPECT_THAT(message_of<FormatError>([&] { (void)file.spec("double"); }), says);
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

TEST(Safetensors, MappedMemoryIsNeverOverwritten) {
  const TemporaryFolder folder;
  save_safetensors(folder / "x.safetensors", {{"a", arange(16384.0f)}});
  const std::string bytes = folder.read("x.safetensors");
  for (const ExecutionMode mode :
       {ExecutionMode::kEager, ExecutionMode::kSync, ExecutionMode::kAsync}) {
    SCOPED_TRACE(name(mode));
    const ScopedExecutionMode scope(mode);
    reset_counters();
    Tensor a = TensorFiles::open(folder / "x.safetensors").tensor("a");
    a = a + 1.0;
    a.eval();
    EXPECT_EQ(counters().donations, 0u);
    // The sum is in memory of ours.
    a = slice_update(a, zeros({2}), {0});
    EXPECT_EQ(a.to_vector<float>()[3], 4.0f);
    EXPECT_EQ(counters().donations, mode == ExecutionMode::kEager ? 0u : 1u);

    Tensor view = TensorFiles::open(folder / "x.safetensors").tensor("a").slice({{8, 16}});
    view.eval();
    view = slice_update(view, zeros({2}), {0});
    EXPECT_EQ(view.to_vector<float>()[2], 10.0f);
  }
  EXPECT_EQ(folder.read("x.safetensors"), bytes);
}

TEST(Safetensors, ReplacingAFileLeavesItsTensorsAlone) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  save_safetensors(path, {{"a", full({100000}, 1.0f)}});
  const Tensor before = TensorFiles::open(path).tensor("a");
  save_safetensors(path, {{"a", before * 2.0}});
  EXPECT_EQ(sum(before).item<float>(), 100000.0f);
  EXPECT_EQ(sum(TensorFiles::open(path).tensor("a")).item<float>(), 200000.0f);
}

TEST(Safetensors, MisalignedTensorsAreCopied) {
  const TemporaryFolder folder;
  const std::string data("\0\0\x80\x3f\0\0\0\x40\x80\x3f\0\x40", 12);  // f32 1, 2; bf16 1, 2.
  for (std::size_t padding = 0; padding < 8; ++padding) {
    SCOPED_TRACE(padding);
    const std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                               R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}})" +
                               std::string(padding, ' ');
    const TensorFiles file = TensorFiles::open(folder.write("x", file_bytes(header, data)));
    const Tensor a = file.tensor("a"), b = file.tensor("b");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address(a)) % 4, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address(b)) % 2, 0u);
    EXPECT_THAT((a + 1.0).to_vector<float>(), ElementsAre(2, 3));
    EXPECT_THAT((b + 1.0).to_vector<float>(), ElementsAre(2, 3));
  }
}

TEST(Safetensors, BoolsAreZeroOrOne) {
  const TemporaryFolder folder;
  const std::string header = R"({"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})";
  const std::string path = folder.write("x", file_bytes(header, std::string("\1\2", 2)));
  EXPECT_THAT(message_of<FormatError>([&] { (void)TensorFiles::open(path).tensor("mask"); }),
              AllOf(HasSubstr(path), HasSubstr("'mask'"), HasSubstr("other than 0 and 1")));
}

TEST(Safetensors, MissingAndWronglyShapedTensorsAreNamed) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  save_safetensors(path, {{"model.norm.weight", arange(4.0f)}});
  const TensorFiles file = TensorFiles::open(path);
  EXPECT_THAT(message_of<FormatError>([&] { (void)file.tensor("norm.weight"); }),
              AllOf(HasSubstr(path), HasSubstr("'norm.weight'"), HasSubstr("'model.norm.weight'")));
  EXPECT_THAT(message_of<FormatError>([&] { (void)file.tensor("x.model.norm.weight"); }),
              HasSubstr("it has 'model.norm.weight'"));
  EXPECT_THAT(message_of<FormatError>([&] { (void)file.tensor("model.norm.wieght"); }),
              HasSubstr("it has 'model.norm.weight'"));
  EXPECT_THAT(message_of<FormatError>([&] { (void)file.spec("lm_head"); }), EndsWith("'lm_head'"));
  EXPECT_THAT(
      message_of<ShapeError>([&] {
        (void)file.tensor("model.norm.weight", {2, 2});
      }),
      AllOf(HasSubstr(path), HasSubstr("[4]"), HasSubstr("[2, 2]"), HasSubstr("model.norm")));
  EXPECT_EQ(file.tensor("model.norm.weight", {4}).size(), 4);
}

TEST(Safetensors, ThreadsShareAFile) {
  const TemporaryFolder folder;
  save_safetensors(folder / "x.safetensors", {{"a", arange(1000.0f)}});
  const TensorFiles file = TensorFiles::open(folder / "x.safetensors");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([copy = file] {
      for (int i = 0; i < 50; ++i) EXPECT_EQ(sum(copy.tensor("a")).item<float>(), 499500.0f);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Safetensors, WhatIsNoFileIsSaidSo) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& name) {
    return message_of<IoError>([&] { (void)TensorFiles::open(folder / name); });
  };
  EXPECT_THAT(message("none.safetensors"),
              AllOf(HasSubstr(folder / "none.safetensors"), HasSubstr("No such file")));
  ::mkfifo((folder / "pipe").c_str(), 0600);
  EXPECT_THAT(message("pipe"), HasSubstr("a device or pipe, not a file"));
  std::filesystem::create_directories(folder / "model/model.safetensors");
  EXPECT_THAT(message("model"), HasSubstr("a folder, not a file"));
  std::filesystem::create_directory(folder / "empty");
  EXPECT_THAT(message("empty"),
              AllOf(HasSubstr("neither model.safetensors"), HasSubstr("is it a model's folder?")));
  folder.write("empty/pytorch_model.bin", "");
  EXPECT_THAT(message("empty"), HasSubstr("converted to safetensors"));
}

// A folder with tensors a and b in shards of their own, and an index.
class ShardedSafetensors : public ::testing::Test {
 protected:
  ShardedSafetensors() {
    save_safetensors(folder_ / "1.safetensors", {{"a", Tensor({1.0f, 2.0f})}});
    save_safetensors(folder_ / "2.safetensors", {{"b", Tensor({3.0f})}});
    write_index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  }
  void write_index(const std::string& weight_map) const {
    (void)folder_.write("model.safetensors.index.json",
                        R"({"metadata": {"total_size": 12}, "weight_map": )" + weight_map + "}");
  }
  template <typename E = FormatError>
  [[nodiscard]] std::string error() const {
    return message_of<E>([&] { (void)TensorFiles::open(folder_.path()); });
  }

  TemporaryFolder folder_;
};

TEST_F(ShardedSafetensors, AreOneSetOfTensors) {
  for (const std::string& path : {folder_.path(), folder_ / "model.safetensors.index.json"}) {
    const TensorFiles files = TensorFiles::open(path);
    EXPECT_THAT(files.names(), ElementsAre("a", "b"));
    EXPECT_THAT(files.tensor("a").to_vector<float>(), ElementsAre(1, 2));
    EXPECT_THAT(files.tensor("b").to_vector<float>(), ElementsAre(3));
    EXPECT_EQ(files.path("b"), folder_ / "2.safetensors");
    EXPECT_EQ(files.bytes(), 12u);
    EXPECT_EQ(files.metadata().at("format"), "pt");
    EXPECT_THAT(message_of<FormatError>([&] { (void)files.tensor("c"); }),
                HasSubstr(path + ": has no tensor 'c'"));
  }
}

TEST_F(ShardedSafetensors, ASingleFileGoesFirst) {
  save_safetensors(folder_ / "model.safetensors", {{"c", Tensor({3.0f})}});
  EXPECT_THAT(TensorFiles::open(folder_.path()).names(), ElementsAre("c"));
}

TEST_F(ShardedSafetensors, MustAgreeWithTheIndex) {
  write_index(R"({"a": "1.safetensors", "b": "1.safetensors"})");
  EXPECT_THAT(error(), AllOf(HasSubstr("1.safetensors: tensor 'b' is not there"),
                             HasSubstr("index.json says so")));
  write_index(R"({"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"})");
  EXPECT_THAT(error(), HasSubstr("2.safetensors: tensor 'c' is not there"));
  write_index(R"({"a": "1.safetensors"})");
  EXPECT_THAT(TensorFiles::open(folder_.path()).names(), ElementsAre("a"));
  save_safetensors(folder_ / "1.safetensors", {{"a", Tensor(1)}, {"extra", Tensor(1)}});
  EXPECT_THAT(error(), HasSubstr("does not list tensor 'extra' of 1.safetensors"));
  save_safetensors(folder_ / "1.safetensors", {{"a", Tensor(1)}, {"b", Tensor(1)}});
  write_index(R"({"a": "1.safetensors", "b": "2.safetensors"})");
  EXPECT_THAT(error(), HasSubstr("tensor 'b' is in 1.safetensors and in 2.safetensors"));
}

TEST_F(ShardedSafetensors, AreAllThereAndWhole) {
  const std::string shard = folder_.read("2.safetensors");
  folder_.write("2.safetensors", shard.substr(0, shard.size() - 1));
  EXPECT_THAT(error(), AllOf(HasSubstr("2.safetensors"), HasSubstr("download complete")));
  std::filesystem::remove(folder_ / "2.safetensors");
  EXPECT_THAT(error<IoError>(), AllOf(HasSubstr(folder_ / "2.safetensors"), HasSubstr("is missing"),
                                      HasSubstr("index.json puts tensors there")));
}

TEST_F(ShardedSafetensors, MalformedIndicesAreRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a": "1.safetensors", "a": "2.safetensors"})", "'a' is there twice"},
      {R"({"a": 1})", "tensor 'a' has no file name"},
      {R"({"a": "../1.safetensors"})", "not a file beside the index"},
      {R"({"a": "/etc/passwd"})", "not a file beside the index"},
      {R"({"a": ""})", "not a file beside the index"},
      {R"({"a": ".."})", "not a file beside the index"},
      {"[]", "no object \"weight_map\""},
      {"{", "is not JSON"},
  };
  for (const auto& [weight_map, says] : cases) {
    SCOPED_TRACE(weight_map);
    write_index(weight_map);
    EXPECT_THAT(error(), AllOf(HasSubstr("model.safetensors.index.json"), HasSubstr(says)));
  }
  for (const char* index : {"", "[]", "{}", "null", "\xff"}) {
    folder_.write("model.safetensors.index.json", index);
    EXPECT_THAT(error(), HasSubstr("model.safetensors.index.json"));
  }
}

}  // namespace
}  // namespace metal_candle
