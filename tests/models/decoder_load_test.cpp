// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Model folders: what is used where it lies, what is cast, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/models/decoder.h"
#include "tests/models/tiny_model.h"
#include "tests/support/host_only.h"
#include "tests/support/host_tensor.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

using testing::all_close;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::HostTensor;
using testing::message_of;
using testing::TemporaryFolder;
using testing::tiny_decoder;
using testing::tiny_json;
using testing::tiny_tokens;

HostTensor values(const Tensor& tensor) { return testing::read_evaluated(Tensor(tensor).eval()); }

class DecoderLoad : public ::testing::Test {
 protected:
  [[nodiscard]] static TensorMap tensors_of(const Decoder& model) {
    TensorMap tensors;
    const Tree parameters = model.parameters();
    for (const auto& [name, tensor] : parameters.dict()) tensors[name] = tensor.tensor();
    return tensors;
  }
  void write(const std::string& fields, const TensorMap& tensors) const {
    folder_.write("config.json", tiny_json(fields));
    save_safetensors(weights(), tensors);
  }
  [[nodiscard]] std::string weights() const { return folder_ / "model.safetensors"; }
  [[nodiscard]] Decoder load(const Decoder::LoadOptions& options = {}) const {
    return Decoder::load(folder_.path(), options);
  }
  template <typename E>
  [[nodiscard]] std::string error() const {
    return message_of<E>([&] { (void)load(); });
  }
  static void expect_same(const Decoder& a, const Decoder& b) {
    const Tensor tokens = tiny_tokens(1, 5);
    EXPECT_TRUE(all_close(values(a.logits(a.hidden_states(tokens))),
                          values(b.logits(b.hidden_states(tokens))), {0, 0}));
  }

  TemporaryFolder folder_;
};

TEST_F(DecoderLoad, WeightsLieInTheFile) {
  METAL_CANDLE_HOST_ONLY("a GPU has a copy of its own");
  const Decoder model = tiny_decoder();
  write("", tensors_of(model));
  clear_memory_cache();
  const std::size_t before = memory_use().in_use;
  const Decoder loaded = load();
  // The rotary frequencies alone.
  EXPECT_LE(memory_use().in_use - before, 1024u);
  EXPECT_GT(loaded.bytes(), 20000u);
  EXPECT_EQ(loaded.dtype(), DType::kF32);
  expect_same(model, loaded);
}

TEST_F(DecoderLoad, TakingEmbeddingsCopiesNoTable) {
  const std::string fields = R"("vocab_size": 5000)";
  write(fields, tensors_of(tiny_decoder(fields)));
  const Decoder model = load();
  const Tensor hidden = model.hidden_states(tiny_tokens(1, 3));
  const EvaluationPlan plan = plan_evaluation(std::vector<Tensor>{hidden});
  EXPECT_LT(plan.peak_bytes, 100u * 1024);  // Of a table of 480,000 bytes.
}

TEST_F(DecoderLoad, CastsOneByOne) {
  const Decoder model = tiny_decoder("", DType::kBF16);
  write("", tensors_of(model));
  reset_peak_memory();
  const std::size_t before = memory_use().in_use;
  const Decoder loaded = load({.dtype = DType::kF32});
  EXPECT_EQ(loaded.dtype(), DType::kF32);
  for (const Tensor& tensor : loaded.parameters().leaves()) {
    EXPECT_EQ(tensor.dtype(), DType::kF32);
    EXPECT_TRUE(tensor.is_evaluated());
  }
  EXPECT_LE(memory_use().peak - before, loaded.bytes() + 16 * 1024);
  const auto name = "model.layers.1.mlp.up_proj.weight";
  const HostTensor expected = values(model.parameters().tensor(name));
  const HostTensor found = values(loaded.parameters().tensor(name));
  EXPECT_EQ(found.real, expected.real);
}

TEST_F(DecoderLoad, MixedDtypesBecomeThatOfTheEmbedding) {
  TensorMap tensors = tensors_of(tiny_decoder("", DType::kBF16));
  const char* name = "model.norm.weight";
  tensors[name] = astype(tensors[name], DType::kF32);
  write("", tensors);
  EXPECT_EQ(load().parameters().tensor(name).dtype(), DType::kBF16);
}

TEST_F(DecoderLoad, NamesWithoutPrefix) {
  const std::string tied = R"("tie_word_embeddings": true)";
  const Decoder model = tiny_decoder(tied);
  TensorMap tensors;
  for (const auto& [name, tensor] : tensors_of(model)) tensors[name.substr(6)] = tensor;
  ASSERT_TRUE(tensors.contains("embed_tokens.weight"));
  write(tied, tensors);
  expect_same(model, load());
}

TEST_F(DecoderLoad, RedundantTensorsAreIgnored) {
  const std::string tied = R"("tie_word_embeddings": true)";
  const Decoder model = tiny_decoder(tied);
  TensorMap tensors = tensors_of(model);
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ones({2});
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
  write(tied, tensors);
  expect_same(model, load());

  tensors["lm_head.weight"] = tensors["lm_head.weight"] * 2.0f;
  write(tied, tensors);
  EXPECT_THAT(error<FormatError>(),
              AllOf(HasSubstr(weights() + ": tensor 'lm_head.weight' differs from"),
                    HasSubstr("tie_word_embeddings")));
}

TEST_F(DecoderLoad, TensorsThatNothingUses) {
  TensorMap tensors = tensors_of(tiny_decoder());
  tensors["model.layers.0.self_attn.q_proj.bias"] = zeros({24});
  write("", tensors);
  EXPECT_THAT(error<FormatError>(),
              AllOf(HasSubstr(weights() +
                              ": tensor 'model.layers.0.self_attn.q_proj.bias' is not part of the "
                              "llama model"),
                    HasSubstr("config.json")));
  tensors["model.layers.2.mlp.up_proj.weight"] = zeros({40, 24});
  write("", tensors);
  EXPECT_THAT(error<FormatError>(), HasSubstr("(and 1 more)"));
}

TEST_F(DecoderLoad, MissingTensors) {
  for (const char* name :
       {"model.layers.1.mlp.up_proj.weight", "lm_head.weight", "model.embed_tokens.weight"}) {
    TensorMap tensors = tensors_of(tiny_decoder());
    tensors.erase(name);
    write("", tensors);
    // Without the embedding, nothing tells whether names have a prefix.
    const std::string last = std::string(name).substr(std::string(name).find("embed") + 1 ? 6 : 0);
    EXPECT_THAT(error<FormatError>(),
                AllOf(HasSubstr(folder_.path()), HasSubstr("has no tensor"), HasSubstr(last)));
  }
}

TEST_F(DecoderLoad, WrongShapes) {
  TensorMap tensors = tensors_of(tiny_decoder());
  tensors["model.layers.1.mlp.up_proj.weight"] = zeros({24, 40});
  write("", tensors);
  EXPECT_THAT(error<ShapeError>(),
              AllOf(HasSubstr(weights()), HasSubstr("model.layers.1.mlp.up_proj.weight"),
                    HasSubstr("[24, 40]"), HasSubstr("[40, 24]")));
}

TEST_F(DecoderLoad, IntegersAreNoWeights) {
  TensorMap tensors = tensors_of(tiny_decoder());
  tensors["lm_head.weight"] = zeros({37, 24}, DType::kI8);
  write("", tensors);
  EXPECT_THAT(error<FormatError>(),
              AllOf(HasSubstr(weights()), HasSubstr("'lm_head.weight' is i8")));
}

TEST_F(DecoderLoad, WhatCannotBe) {
  EXPECT_THAT(error<IoError>(), HasSubstr(folder_ / "config.json"));
  folder_.write("config.json", tiny_json());
  EXPECT_THAT(error<IoError>(), HasSubstr("neither model.safetensors nor"));
  EXPECT_THAT(message_of<DTypeError>([&] { (void)load({.dtype = DType::kI32}); }),
              HasSubstr("a model of i32"));
  EXPECT_THAT(message_of<DeviceError>([&] { (void)load({.device = parse_device("metal")}); }),
              HasSubstr("metal:0"));
}

}  // namespace
}  // namespace metal_candle
