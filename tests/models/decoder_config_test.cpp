// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What config.json of models that people have must mean, and what it must not say.
#include "metal_candle/models/decoder_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metal_candle/core/error.h"
#include "tests/models/tiny_model.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::tiny_config;
using testing::tiny_json;

DecoderConfig read(const std::string& text) {
  return read_decoder_config(JsonObject::parse(text, "folder/config.json"));
}

// ---- Configurations as they are published

TEST(PublishedConfig, Llama2) {
  const DecoderConfig config = read(R"({
    "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
    "initializer_range": 0.02, "intermediate_size": 11008, "max_length": 4096,
    "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "pad_token_id": 0, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false,
    "torch_dtype": "float16", "transformers_version": "4.31.0.dev0", "use_cache": true,
    "vocab_size": 32000})");
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.rope_theta, 10000);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.dtype, DType::kF16);
  EXPECT_EQ(config.num_parameters(), 6738415616);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
  EXPECT_FALSE(config.tie_word_embeddings);
}

TEST(PublishedConfig, Llama32) {
  const DecoderConfig config = read(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
    "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16,
    "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256})");
  EXPECT_EQ(config.num_parameters(), 1235814400);
  EXPECT_EQ(config.rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(config.rope_scaling.factor, 32);
  EXPECT_EQ(config.rope_scaling.original_max_position_embeddings, 8192);
  EXPECT_EQ(config.context_length(), 131072);
  EXPECT_EQ(config.dtype, DType::kBF16);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(128001, 128008, 128009));
}

TEST(PublishedConfig, SmolLm2) {
  const DecoderConfig config = read(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576,
    "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
    "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false,
    "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30,
    "num_key_value_heads": 3, "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    "transformers_version": "4.42.3", "use_cache": true, "vocab_size": 49152})");
  EXPECT_EQ(config.num_parameters(), 134515008);
  EXPECT_EQ(config.head_dim, 64);
}

TEST(PublishedConfig, TinyLlama) {
  const DecoderConfig config = read(R"({
    "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"],
    "attention_bias": false, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632,
    "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.35.0",
    "use_cache": true, "vocab_size": 32000})");
  EXPECT_EQ(config.num_parameters(), 1100048384);
}

TEST(PublishedConfig, Mistral7bOfAllVersions) {
  const std::string common = R"("architectures": ["MistralForCausalLM"],
    "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "transformers_version": "4.42.0.dev0", "use_cache": true)";
  const DecoderConfig first = read(
      "{" + common + R"(, "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 32000})");
  EXPECT_EQ(first.num_parameters(), 7241732096);
  EXPECT_THAT(first.windows, AllOf(::testing::SizeIs(32), Each(4096)));
  const DecoderConfig third = read(
      "{" + common + R"(, "rope_theta": 1000000.0, "sliding_window": null, "vocab_size": 32768})");
  EXPECT_THAT(third.windows, Each(0));
  // Not null but missing: transformers then has windows of 4096.
  const DecoderConfig silent = read("{" + common + R"(, "vocab_size": 32768})");
  EXPECT_THAT(silent.windows, Each(4096));
}

TEST(PublishedConfig, MistralNemo) {
  const DecoderConfig config = read(R"({
    "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120,
    "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 1024000,
    "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 40,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
    "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0.dev0", "use_cache": true, "vocab_size": 131072})");
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.num_parameters(), 12247782400);
}

TEST(PublishedConfig, Qwen25) {
  const DecoderConfig config = read(R"({
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
    "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
    "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1", "use_cache": true, "use_mrope": false,
    "use_sliding_window": false, "vocab_size": 151936})");
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.output_bias);
  EXPECT_THAT(config.windows, Each(0));
  EXPECT_EQ(config.num_parameters(), 494032768);
}

TEST(PublishedConfig, Qwen3InBothSpellings) {
  const std::string common = R"("architectures": ["Qwen3ForCausalLM"], "attention_bias": false,
    "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128,
    "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
    "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
    "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "sliding_window": null,
    "tie_word_embeddings": true, "use_cache": true, "use_sliding_window": false,
    "vocab_size": 151936)";
  nlohmann::json newer = nlohmann::json::parse("{" + common + R"(, "dtype": "bfloat16",
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"}, "pad_token_id": null,
    "transformers_version": "5.0.0"})");
  newer["layer_types"] = std::vector<std::string>(28, "full_attention");
  for (const std::string& text : {"{" + common + R"(, "rope_scaling": null, "rope_theta": 1000000,
             "torch_dtype": "bfloat16", "transformers_version": "4.51.0"})",
                                  newer.dump()}) {
    const DecoderConfig config = read(text);
    EXPECT_EQ(config.num_parameters(), 596049920);
    EXPECT_EQ(config.rope_theta, 1000000);
    EXPECT_EQ(config.dtype, DType::kBF16);
    EXPECT_TRUE(config.qk_norm);
    EXPECT_FALSE(config.qkv_bias);
  }
}

// ---- Spellings and defaults

TEST(DecoderConfig, BothSpellingsOfRopeAgree) {
  const RopeScaling older = tiny_config(R"("rope_theta": 500, "rope_scaling":
      {"type": "linear", "factor": 2})")
                                .rope_scaling;
  const DecoderConfig newer = tiny_config(R"("rope_parameters":
      {"rope_theta": 500, "rope_type": "linear", "factor": 2.0})");
  EXPECT_EQ(older.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(newer.rope_scaling.kind, older.kind);
  EXPECT_EQ(newer.rope_scaling.factor, older.factor);
  EXPECT_EQ(newer.rope_theta, 500);
}

TEST(DecoderConfig, DynamicScalingStretchesTheContext) {
  EXPECT_EQ(
      tiny_config(R"("rope_scaling": {"rope_type": "dynamic", "factor": 2.5})").context_length(),
      160);
}

TEST(DecoderConfig, MissingFieldsMeanWhatTheFamilySays) {
  EXPECT_EQ(tiny_config(R"("num_key_value_heads": null)").num_key_value_heads, 6);
  const auto without = [](const std::string& fields, const char* key) {
    nlohmann::json json = nlohmann::json::parse(tiny_json(fields));
    json.erase(key);
    return read(json.dump());
  };
  EXPECT_EQ(without("", "num_key_value_heads").num_key_value_heads, 6);
  EXPECT_EQ(without("", "max_position_embeddings").max_position_embeddings, 2048);
  const char* mistral = R"("model_type": "mistral", "num_attention_heads": 24, "head_dim": 2)";
  EXPECT_EQ(without(mistral, "num_key_value_heads").num_key_value_heads, 8);
  EXPECT_EQ(tiny_config(R"("model_type": "qwen3")").head_dim, 128);
  EXPECT_EQ(tiny_config(R"("model_type": "qwen3", "head_dim": null)").head_dim, 4);
}

TEST(DecoderConfig, WindowsByLayer) {
  const std::string qwen = R"("model_type": "qwen2", "num_hidden_layers": 3, "sliding_window": 4,
      "max_window_layers": 1)";
  EXPECT_THAT(tiny_config(qwen).windows, ElementsAre(0, 0, 0));
  EXPECT_THAT(tiny_config(qwen + R"(, "use_sliding_window": true)").windows, ElementsAre(0, 4, 4));
  EXPECT_THAT(tiny_config(qwen + R"(, "use_sliding_window": true, "layer_types":
      ["sliding_attention", "full_attention", "sliding_attention"])")
                  .windows,
              ElementsAre(4, 0, 4));
}

TEST(DecoderConfig, FamiliesCanBeAdded) {
  register_model_type("llama_by_another_name", [](const JsonObject& json) {
    DecoderConfig config = read_common_fields(json);
    config.qkv_bias = json.boolean("has_biases");
    return config;
  });
  EXPECT_THAT(model_types(), ::testing::Contains("llama_by_another_name"));
  EXPECT_TRUE(tiny_config(R"("model_type": "llama_by_another_name", "has_biases": true)").qkv_bias);
}

// ---- Errors

struct BadConfig {
  const char* name;
  const char* fields;
  const char* key;   // That the error names.
  const char* says;  // And what it says about it.
};
void PrintTo(const BadConfig& bad, std::ostream* out) { *out << bad.name; }

class BadDecoderConfig : public ::testing::TestWithParam<BadConfig> {};

TEST_P(BadDecoderConfig, NamesFileAndKey) {
  const std::string text = tiny_json(GetParam().fields);
  EXPECT_THAT(message_of<FormatError>([&] { (void)read(text); }),
              AllOf(HasSubstr(std::string("folder/config.json: ") + GetParam().key + ":"),
                    HasSubstr(GetParam().says)));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadDecoderConfig,
    ::testing::Values(
        BadConfig{"type", R"("model_type": "gpt2")", "model_type", "\"gpt2\""},
        BadConfig{"no_type", R"("model_type": null)", "model_type", "missing"},
        BadConfig{"type_type", R"("model_type": 7)", "model_type", "expected a string, found 7"},
        BadConfig{"yarn", R"("rope_scaling": {"rope_type": "yarn", "factor": 4.0})",
                  "rope_scaling.rope_type", "\"yarn\" is not supported"},
        BadConfig{"old_yarn", R"("rope_scaling": {"type": "yarn", "factor": 4.0})",
                  "rope_scaling.type", "\"yarn\" is not supported"},
        BadConfig{"longrope", R"("rope_parameters": {"rope_type": "longrope", "factor": 4.0})",
                  "rope_parameters.rope_type", "\"longrope\" is not supported"},
        BadConfig{"su", R"("rope_scaling": {"type": "su", "factor": 4.0})", "rope_scaling.type",
                  "\"su\" is not supported"},
        BadConfig{"no_factor", R"("rope_scaling": {"type": "linear"})", "rope_scaling.factor",
                  "missing"},
        BadConfig{"factor_0", R"("rope_scaling": {"type": "linear", "factor": 0})",
                  "rope_scaling.factor", "0 is not"},
        BadConfig{"huge_factor", R"("rope_scaling": {"type": "dynamic", "factor": 1e300})",
                  "rope_scaling.factor", "1e+300 is not"},
        BadConfig{"rope_field", R"("rope_scaling": {"type": "linear", "factor": 2, "mscale": 1})",
                  "rope_scaling.mscale", "does not know"},
        BadConfig{"rope_not_object", R"("rope_scaling": "linear")", "rope_scaling",
                  "expected an object"},
        BadConfig{"two_ropes", R"("rope_scaling": {"type": "linear", "factor": 2},
                  "rope_parameters": {"rope_type": "default"})",
                  "rope_parameters", "beside rope_scaling"},
        BadConfig{"llama3", R"("rope_scaling": {"rope_type": "llama3", "factor": 8,
                  "low_freq_factor": 1, "high_freq_factor": 4})",
                  "rope_scaling.original_max_position_embeddings", "missing"},
        BadConfig{"llama3_factors", R"("rope_scaling": {"rope_type": "llama3", "factor": 8,
                  "low_freq_factor": 4, "high_freq_factor": 4,
                  "original_max_position_embeddings": 8})",
                  "rope_scaling.high_freq_factor", "not above"},
        BadConfig{"dynamic_of_2", R"("head_dim": 2, "rope_scaling": {"type": "dynamic",
                  "factor": 2})",
                  "head_dim", "too short for dynamic scaling"},
        BadConfig{"theta", R"("rope_theta": -1)", "rope_theta", "-1 is not"},
        BadConfig{"nested_theta", R"("rope_parameters": {"rope_theta": 0})",
                  "rope_parameters.rope_theta", "0 is not"},
        BadConfig{"gelu", R"("hidden_act": "gelu")", "hidden_act", "\"gelu\" is not supported"},
        BadConfig{"partial", R"("partial_rotary_factor": 0.5)", "partial_rotary_factor", "0.5"},
        BadConfig{"nested_partial", R"("rope_parameters": {"partial_rotary_factor": 0.25})",
                  "rope_parameters.partial_rotary_factor", "0.25"},
        BadConfig{"interleaved", R"("rope_interleaved": true)", "rope_interleaved",
                  "does not know"},
        BadConfig{"quantized", R"("quantization_config": {"quant_method": "gptq", "bits": 4})",
                  "quantization_config", "quantized weights are not supported"},
        BadConfig{"unknown", R"("logit_scale": 0.0625)", "logit_scale", "does not know"},
        BadConfig{"unknown_object", R"("attn_config": {"clip": 1})", "attn_config",
                  "does not know"},
        BadConfig{"two_unknown", R"("a_scale": 1, "b_scale": 2)", "a_scale",
                  "the same goes for b_scale"},
        BadConfig{"dropout", R"("attention_dropout": 0.1)", "attention_dropout", "0.1"},
        BadConfig{"no_vocab", R"("vocab_size": null)", "vocab_size", "missing"},
        BadConfig{"vocab_text", R"("vocab_size": "32000")", "vocab_size",
                  "expected an integer, found \"32000\""},
        BadConfig{"vocab_fraction", R"("vocab_size": 32000.5)", "vocab_size", "32000.5"},
        BadConfig{"negative", R"("hidden_size": -24)", "hidden_size", "-24 is not a length"},
        BadConfig{"zero", R"("intermediate_size": 0)", "intermediate_size", "0 is not a length"},
        BadConfig{"absurd", R"("vocab_size": 9000000000000000000)", "vocab_size",
                  "is not a length"},
        BadConfig{"beyond", R"("vocab_size": 18446744073709551615)", "vocab_size",
                  "expected an integer"},
        BadConfig{"layers", R"("num_hidden_layers": 1000000)", "num_hidden_layers", "1000000"},
        BadConfig{"heads", R"("num_attention_heads": 7)", "num_key_value_heads",
                  "2 does not divide num_attention_heads 7"},
        BadConfig{"no_head_dim", R"("hidden_size": 25)", "hidden_size",
                  "25 is not a multiple of num_attention_heads 6"},
        BadConfig{"odd_head_dim", R"("head_dim": 5)", "head_dim", "5 is odd"},
        BadConfig{"wide", R"("head_dim": 16000000)", "num_attention_heads", "16000000"},
        BadConfig{"eps", R"("rms_norm_eps": 0)", "rms_norm_eps", "0 is not"},
        BadConfig{"positions", R"("max_position_embeddings": 0)", "max_position_embeddings",
                  "0 is not a length"},
        BadConfig{"tie", R"("tie_word_embeddings": "yes")", "tie_word_embeddings",
                  "expected true or false, found \"yes\""},
        BadConfig{"dtype", R"("torch_dtype": "float8")", "torch_dtype", "\"float8\""},
        BadConfig{"eos", R"("eos_token_id": [1, "2"])", "eos_token_id", "expected an integer"},
        BadConfig{"eos_text", R"("eos_token_id": "</s>")", "eos_token_id", "expected an integer"},
        BadConfig{"window", R"("model_type": "mistral", "sliding_window": -1)", "sliding_window",
                  "-1 is not a length"},
        BadConfig{"types_count", R"("layer_types": ["full_attention"])", "layer_types",
                  "1 entries for 2 layers"},
        BadConfig{"types_unknown", R"("layer_types": ["full_attention", "chunked_attention"])",
                  "layer_types", "\"chunked_attention\" is not supported"},
        BadConfig{"types_window", R"("layer_types": ["full_attention", "sliding_attention"])",
                  "layer_types", "no sliding window"}),
    [](const auto& test) { return test.param.name; });

TEST(DecoderConfig, AFileThatIsNone) {
  EXPECT_THAT(message_of<IoError>([] { (void)read_decoder_config("/no/such/config.json"); }),
              HasSubstr("/no/such/config.json: cannot open: No such file"));
  EXPECT_THAT(message_of<IoError>([] { (void)read_decoder_config("/tmp"); }), HasSubstr("/tmp: "));
  EXPECT_THAT(message_of<FormatError>([] { (void)read("[1]"); }),
              HasSubstr("folder/config.json: expected a JSON object, found array"));
  EXPECT_THAT(message_of<FormatError>([] { (void)read("{\"a\": "); }),
              HasSubstr("folder/config.json: not valid JSON"));
}

}  // namespace
}  // namespace metal_candle
