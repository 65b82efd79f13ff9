// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Model folders that are written load again, whole or not at all.
#include "metal_candle/models/decoder_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "metal_candle/core/error.h"
#include "tests/models/tiny_model.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/host_tensor.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;
using testing::all_close;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::FileSizeLimit;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryFolder;
using testing::tiny_tokens;

std::string fixture(const std::string& model) {
  return std::string(METAL_CANDLE_SOURCE_DIR) + "/tests/fixtures/models/" + model;
}

void expect_same(const Decoder& a, const Decoder& b) {
  const Tensor tokens = tiny_tokens(1, 5);
  const Tensor x = a.logits(a.hidden_states(tokens));
  const Tensor y = b.logits(b.hidden_states(tokens));
  EXPECT_TRUE(
      all_close(testing::read_evaluated(x.eval()), testing::read_evaluated(y.eval()), {0, 0}));
}

TEST(SaveDecoder, LoadsAgainWithEverythingThatBelongsToIt) {
  const TemporaryFolder source;
  const TemporaryFolder target;
  fs::copy(fixture("qwen2_tied"), source.path());
  source.write("tokenizer.json", "{\"any\": \"text\"}\n");
  source.write("generation_config.json", "{\"eos_token_id\": 2}");
  source.write("notes.txt", "mine");
  const Decoder model = Decoder::load(source.path());
  EXPECT_THAT(
      save_decoder(model, source.path(), target / "made/here"),
      ElementsAre("model.safetensors", "generation_config.json", "tokenizer.json", "config.json"));
  const Decoder again = Decoder::load(target / "made/here");
  EXPECT_EQ(again.config(), model.config());
  EXPECT_EQ(again.dtype(), DType::kBF16);
  expect_same(model, again);
  EXPECT_EQ(target.read("made/here/tokenizer.json"), source.read("tokenizer.json"));
  EXPECT_EQ(target.read("made/here/generation_config.json"), source.read("generation_config.json"));
}

TEST(SaveDecoder, ConfigSaysTheDtypeInItsOwnSpelling) {
  for (const auto& [model, key] : {std::pair{"qwen2_tied", "torch_dtype"}, {"qwen3", "dtype"}}) {
    const TemporaryFolder target;
    save_decoder(Decoder::load(fixture(model), {.dtype = DType::kF32}), fixture(model),
                 target.path());
    nlohmann::json expected;
    std::ifstream(fixture(model) + "/config.json") >> expected;
    expected[key] = "float32";
    EXPECT_EQ(nlohmann::json::parse(target.read("config.json")), expected);
    EXPECT_EQ(Decoder::load(target.path()).dtype(), DType::kF32);
  }
}

TEST(SaveDecoder, ShardsAndReplacesThem) {
  const TemporaryFolder target;
  const std::string source = fixture("llama_mqa_sharded");
  const Decoder model = Decoder::load(source);
  EXPECT_THAT(save_decoder(model, source, target.path(), 8000),
              AllOf(Contains("model-00001-of-00003.safetensors"),
                    Contains("model.safetensors.index.json")));
  expect_same(model, Decoder::load(target.path()));
  // Weights that lie in the files being replaced.
  const Decoder mapped = Decoder::load(target.path());
  save_decoder(mapped, source, target.path());
  EXPECT_EQ(target.num_files(), 2u);
  expect_same(model, Decoder::load(target.path()));
  save_decoder(mapped, source, target.path(), 8000);
  EXPECT_EQ(target.num_files(), 5u);
  expect_same(model, Decoder::load(target.path()));
}

TEST(SaveDecoder, NeverIntoItsSource) {
  const TemporaryFolder source;
  const TemporaryFolder other;
  fs::copy(fixture("qwen2_tied"), source.path());
  fs::create_directory_symlink(source.path(), other / "link");
  const Decoder model = Decoder::load(source.path());
  const std::string config = source.read("config.json");
  for (const std::string& folder : {source.path(), source.path() + "/.", other / "link"}) {
    EXPECT_THAT(message_of<Error>([&] { save_decoder(model, source.path(), folder); }),
                AllOf(HasSubstr(folder), HasSubstr("not overwritten")));
  }
  EXPECT_EQ(source.read("config.json"), config);
  expect_same(model, Decoder::load(source.path()));
}

TEST(SaveDecoder, AFullDiskLeavesNoModel) {
  const TemporaryFolder target;
  const Decoder model = Decoder::load(fixture("qwen2_tied"));
  save_decoder(model, fixture("qwen2_tied"), target.path());
  {
    const FileSizeLimit limit(10000);
    EXPECT_THAT(
        message_of<IoError>([&] { save_decoder(model, fixture("qwen2_tied"), target.path()); }),
        HasSubstr(target / "model.safetensors"));
  }
  EXPECT_THAT(message_of<IoError>([&] { (void)Decoder::load(target.path()); }),
              HasSubstr("config.json"));
  save_decoder(model, fixture("qwen2_tied"), target.path());
  expect_same(model, Decoder::load(target.path()));
}

TEST(SaveDecoder, WhatCannotBe) {
  const TemporaryFolder target;
  const std::string source = fixture("qwen2_tied");
  Decoder model = Decoder::load(source);
  EXPECT_THAT(message_of<Error>([&] { save_decoder(model, fixture("qwen3"), target.path()); }),
              AllOf(HasSubstr("qwen3/config.json"), HasSubstr("another model")));
  const std::string file = target.write("file", "text");
  EXPECT_THAT(message_of<IoError>([&] { save_decoder(model, source, file); }), HasSubstr(file));
  model.for_each_linear([](const std::string& path, std::int64_t, Linear& linear) {
    if (path.ends_with("1.self_attn.v_proj"))
      linear.lora = {zeros({2, linear.in_features()}), zeros({linear.out_features(), 2})};
  });
  EXPECT_THAT(message_of<Error>([&] { save_decoder(model, source, target.path()); }),
              HasSubstr("model.layers.1.self_attn.v_proj has a low-rank update"));
}

}  // namespace
}  // namespace metal_candle
