// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Adapters as files, against PEFT and mlx-lm: what scripts/make_adapter_fixtures.py had them write
// and compute is below tests/fixtures/adapters.
#include "metal_candle/lora/adapter_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/io/safetensors.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Pair;
using ::testing::SizeIs;
using testing::TemporaryFolder;

const std::string kFixtures = METAL_CANDLE_SOURCE_DIR "/tests/fixtures/adapters/";

const Decoder& base_model() {
  static const Decoder model = [] {
    const TensorFiles files = TensorFiles::open(kFixtures + "model");
    Tree weights;
    for (const std::string& name : files.names()) weights[name] = files.tensor(name);
    return Decoder::random(read_decoder_config(kFixtures + "model/config.json"), random::key(0))
        .with_parameters(weights);
  }();
  return model;
}

std::vector<float> logits_of(const Decoder& model) {
  const Tensor tokens({3, 1, 4, 1, 5, 9, 2, 6, 27, 18, 28, 18, 0, 31, 7, 7}, {2, 8});
  return model.logits(model.hidden_states(tokens)).to_vector<float>();
}

double max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double result = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    result = std::max(result, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return result;
}

// Equal to those in logits.safetensors, which differ from those without the adapter.
void expect_logits(const std::string& name, const Decoder& model) {
  static const TensorFiles expected = TensorFiles::open(kFixtures + "logits.safetensors");
  const auto base = expected.tensor("base").to_vector<float>();
  const auto wanted = expected.tensor(name).to_vector<float>();
  EXPECT_LT(max_difference(logits_of(model), wanted), 4e-5);  // 2.1e-5 on an H200.
  if (name != "base") {
    EXPECT_GT(max_difference(base, wanted), 0.05);
  }
}

std::vector<std::string> paths_of(const Adapter& adapter) {
  std::vector<std::string> paths;
  for (const auto& [path, weights] : adapter.weights.dict()) paths.push_back(path);
  return paths;
}

TEST(AdapterFile, TheModelIsTheSameWithout) { expect_logits("base", base_model()); }

class AdapterOfOthers : public ::testing::TestWithParam<const char*> {};

TEST_P(AdapterOfOthers, GivesTheirLogits) {
  const Adapter adapter = load_adapter(kFixtures + GetParam());
  expect_logits(GetParam(), with_adapter(base_model(), adapter));
  expect_logits(GetParam(), merge_adapter(base_model(), adapter));
}

TEST_P(AdapterOfOthers, TargetsTheLayersThatItHas) {
  const Adapter adapter = load_adapter(kFixtures + GetParam());
  std::vector<std::string> targeted;
  const Decoder& model = base_model();
  model.for_each_linear([&](const std::string& path, std::int64_t block, const Linear&) {
    if (adapter.config.targets(path, block, model.config().num_hidden_layers)) {
      targeted.push_back(path);
    }
  });
  std::ranges::sort(targeted);
  EXPECT_EQ(targeted, paths_of(adapter));
}

TEST_P(AdapterOfOthers, SurvivesSavingAndLoading) {
  const TemporaryFolder folder;
  const Adapter adapter = load_adapter(kFixtures + GetParam());
  save_adapter(folder / "again", adapter);
  const Adapter again = load_adapter(folder / "again");
  EXPECT_EQ(paths_of(again), paths_of(adapter));
  EXPECT_EQ(again.num_parameters(), adapter.num_parameters());
  EXPECT_EQ(again.config.rank, adapter.config.rank);
  EXPECT_EQ(again.config.alpha, adapter.config.alpha);
  EXPECT_EQ(again.config.dropout, adapter.config.dropout);
  EXPECT_EQ(again.config.rslora, adapter.config.rslora);
  expect_logits(GetParam(), with_adapter(base_model(), again));
}

INSTANTIATE_TEST_SUITE_P(Fixtures, AdapterOfOthers,
                         ::testing::Values("peft_plain", "peft_patterns", "peft_some_blocks",
                                           "peft_pattern", "mlx_plain", "mlx_keys"));

TEST(AdapterFile, PeftsSettingsAreRead) {
  const LoraConfig plain = load_adapter(kFixtures + "peft_plain").config;
  EXPECT_EQ(plain.rank, 4);
  EXPECT_EQ(plain.alpha, 12);
  EXPECT_THAT(plain.target_modules, ElementsAre("q_proj", "v_proj"));
  EXPECT_THAT(plain.rank_pattern, SizeIs(0));

  const Adapter patterns = load_adapter(kFixtures + "peft_patterns");
  EXPECT_TRUE(patterns.config.rslora);
  EXPECT_EQ(patterns.config.dropout, 0.25);
  EXPECT_THAT(patterns.config.rank_pattern, SizeIs(5));
  EXPECT_THAT(patterns.config.rank_pattern, Contains(Pair("model.layers.0.mlp.down_proj", 2)));
  EXPECT_THAT(patterns.config.rank_pattern, Contains(Pair("model.layers.2.self_attn.o_proj", 6)));
  EXPECT_THAT(patterns.config.alpha_pattern, SizeIs(3));
  EXPECT_FLOAT_EQ(patterns.config.scale_of("model.layers.1.mlp.up_proj"), 8.0f);  // 16 / sqrt(4)

  EXPECT_EQ(load_adapter(kFixtures + "peft_some_blocks").config.target_modules.front(),
            "model.layers.0.mlp.gate_proj");
  EXPECT_EQ(load_adapter(kFixtures + "peft_pattern").config.target_pattern,
            ".*\\.[01]\\.(mlp\\.up|self_attn\\.q)_proj");
}

TEST(AdapterFile, MlxsSettingsAreRead) {
  const LoraConfig plain = load_adapter(kFixtures + "mlx_plain").config;
  EXPECT_EQ(plain.num_layers, 2);
  EXPECT_EQ(plain.rank, 4);
  EXPECT_FLOAT_EQ(plain.scale_of("model.layers.2.mlp.up_proj"), 2.5f);
  const LoraConfig keys = load_adapter(kFixtures + "mlx_keys").config;
  EXPECT_EQ(keys.num_layers, -1);
  EXPECT_EQ(keys.dropout, 0.125);
  EXPECT_THAT(keys.target_modules, ElementsAre("mlp.down_proj", "self_attn.v_proj"));
}

// Configurations whose adapters PEFT was given to read: see make_adapter_fixtures.py.
const std::pair<const char*, LoraConfig> kSaved[] = {
    {"saved_plain", {.rank = 3, .alpha = 7.5, .target_modules = {"q_proj", "mlp.up_proj"}}},
    {"saved_everything",
     {.rank = 4,
      .alpha = 8,
      .dropout = 0.1,
      .rslora = true,
      .target_modules = {"all-linear"},
      .num_layers = 2,
      .rank_pattern = {{"down_proj", 2}, {"model.layers.2.mlp.up_proj", 5}},
      .alpha_pattern = {{"self_attn.q_proj", 3}}}},
    {"saved_pattern", {.rank = 2, .alpha = 8, .target_pattern = R"(.*\.[02]\.self_attn\..*)"}},
    {"saved_pattern_last_blocks",
     {.rank = 2, .alpha = 8, .target_pattern = ".*self_attn.*", .num_layers = 1}},
};

// With numbers that are the same everywhere.
Adapter adapter_with(const LoraConfig& config) {
  Adapter adapter = make_adapter(base_model(), config, random::key(1));
  float seed = 0;
  adapter.weights = adapter.weights.map([&](const Tensor& tensor) {
    std::vector<float> values(static_cast<std::size_t>(tensor.size()));
    float x = seed++;
    for (float& value : values) {
      x = std::fmod(x * 7.0f + 11.0f, 64.0f);
      value = x / 64.0f - 0.5f;
    }
    return Tensor(values, tensor.shape());
  });
  return adapter;
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(AdapterFile, PeftReadsWhatIsSaved) {
  const TemporaryFolder folder;
  for (const auto& [name, config] : kSaved) {
    SCOPED_TRACE(name);
    const Adapter adapter = adapter_with(config);
    if (std::getenv("METAL_CANDLE_WRITE_FIXTURES") != nullptr) {
      save_adapter(kFixtures + name, adapter, "tiny");
      continue;
    }
    save_adapter(folder / name, adapter, "tiny");
    for (const char* file : {"/adapter_config.json", "/adapter_model.safetensors"}) {
      EXPECT_EQ(folder.read(name + std::string(file)), read(kFixtures + name + file));
    }
    expect_logits(name, with_adapter(base_model(), adapter));
    expect_logits(name, with_adapter(base_model(), load_adapter(folder / name)));
  }
}

TEST(AdapterFile, DtypesAreKept) {
  const TemporaryFolder folder;
  Adapter adapter = adapter_with({.rank = 2});
  adapter.weights =
      adapter.weights.map([](const Tensor& tensor) { return astype(tensor, DType::kBF16); });
  save_adapter(folder.path(), adapter);
  for (const Tensor& tensor : load_adapter(folder.path()).weights.leaves()) {
    EXPECT_EQ(tensor.dtype(), DType::kBF16);
  }
}

// A PEFT adapter of one layer, whose files can be spoilt.
class MalformedAdapter : public ::testing::Test {
 protected:
  static constexpr const char* kA =
      "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  static constexpr const char* kB =
      "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

  MalformedAdapter() { write_weights({{kA, zeros({2, 16})}, {kB, zeros({16, 2})}}); }
  void write_weights(const TensorMap& tensors) const {
    save_safetensors(folder_ / "adapter_model.safetensors", tensors);
  }
  void write_config(const std::string& more, int rank = 2) const {
    folder_.write("adapter_config.json", R"({"peft_type": "LORA", "lora_alpha": 4, "r": )" +
                                             std::to_string(rank) + more + "}");
  }
  template <typename E = FormatError>
  [[nodiscard]] std::string error() const {
    return message_of<E>([&] { (void)load_adapter(folder_.path()); });
  }

  TemporaryFolder folder_;
};

TEST_F(MalformedAdapter, IsSoundBeforeItIsSpoilt) {
  write_config("");
  EXPECT_THAT(load_adapter(folder_.path()).config.target_modules,
              ElementsAre("model.layers.0.self_attn.q_proj"));
}

TEST_F(MalformedAdapter, SettingsThatChangeTheResultAreRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {R"(, "use_dora": true)", "use_dora"},
      {R"(, "bias": "lora_only")", "bias"},
      {R"(, "lora_bias": true)", "lora_bias"},
      {R"(, "fan_in_fan_out": true)", "fan_in_fan_out"},
      {R"(, "modules_to_save": ["lm_head"])", "modules_to_save"},
      {R"(, "init_lora_weights": "pissa")", "init_lora_weights"},
      {R"(, "trainable_token_indices": [1])", "trainable_token_indices"},
      {R"(, "layer_replication": [[0, 2]])", "layer_replication"},
      {R"(, "some_future_setting": 3)", "some_future_setting"},
      {R"(, "lora_dropout": 1.5)", "lora_dropout"},
      {R"(, "rank_pattern": {"q_proj": 2, "self_attn.q_proj": 3})", "rank_pattern"},
      {R"(, "alpha_pattern": {"(q_proj": 2})", "alpha_pattern.(q_proj"},
      {R"(, "peft_type": "IA3")", "peft_type"},
  };
  for (const auto& [setting, key] : cases) {
    SCOPED_TRACE(setting);
    write_config(setting);
    EXPECT_THAT(error(), AllOf(HasSubstr(folder_ / "adapter_config.json"), HasSubstr(key)));
  }
  write_config(R"(, "init_lora_weights": "gaussian", "use_dora": false, "modules_to_save": null)");
  EXPECT_NO_THROW((void)load_adapter(folder_.path()));
}

TEST_F(MalformedAdapter, WeightsMustFit) {
  write_config("", 3);
  EXPECT_THAT(error(), AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr("q_proj has rank 2"),
                             HasSubstr("says 3")));
  write_config("");
  const auto error_with = [&](const TensorMap& tensors) {
    write_weights(tensors);
    return error();
  };
  EXPECT_THAT(error_with({}), HasSubstr("has no tensors"));
  EXPECT_THAT(error_with({{kA, zeros({2, 16})}}), HasSubstr("only one of its two factors"));
  EXPECT_THAT(error_with({{kA, zeros({2, 16})}, {kB, zeros({16, 3})}}),
              AllOf(HasSubstr("[2, 16]"), HasSubstr("[16, 3]")));
  EXPECT_THAT(error_with({{kA, zeros({2})}, {kB, zeros({16, 2})}}), HasSubstr("[2]"));
  EXPECT_THAT(error_with({{kA, zeros({2, 16}, DType::kI32)}, {kB, zeros({16, 2})}}),
              HasSubstr("i32"));
  EXPECT_THAT(error_with({{kA, zeros({2, 16})}, {kB, zeros({16, 2})}, {"lm_head", zeros({1})}}),
              AllOf(HasSubstr("'lm_head'"), HasSubstr("modules_to_save")));
  // Only the model knows this.
  write_weights({{kA, zeros({2, 17})}, {kB, zeros({16, 2})}});
  EXPECT_THAT(message_of<ShapeError>(
                  [&] { (void)with_adapter(base_model(), load_adapter(folder_.path())); }),
              AllOf(HasSubstr("q_proj"), HasSubstr("[2, 17]"), HasSubstr("[2, 16]")));
}

TEST_F(MalformedAdapter, MissingFilesAreNamed) {
  EXPECT_THAT(error<IoError>(), HasSubstr("adapter_config.json"));
  write_config("");
  std::filesystem::remove(folder_ / "adapter_model.safetensors");
  EXPECT_THAT(error<IoError>(), AllOf(HasSubstr(folder_.path()), HasSubstr("neither")));
  folder_.write("adapter_model.bin", "");
  EXPECT_THAT(error<IoError>(), HasSubstr("must first be converted"));
}

TEST_F(MalformedAdapter, MlxsToo) {
  std::filesystem::remove(folder_ / "adapter_model.safetensors");
  const auto error_with = [&](const std::string& config, const TensorMap& tensors) {
    save_safetensors(folder_ / "adapters.safetensors", tensors);
    folder_.write("adapter_config.json", config);
    return error();
  };
  const TensorMap sound = {{"model.layers.0.mlp.up_proj.lora_a", zeros({16, 2})},
                           {"model.layers.0.mlp.up_proj.lora_b", zeros({2, 24})}};
  const std::string parameters = R"("lora_parameters": {"rank": 2, "scale": 1.0)";
  EXPECT_EQ(error_with("{" + parameters + "}}", sound), "no such error");
  EXPECT_THAT(error_with("{" + parameters + R"(, "alpha": 16}})", sound),
              AllOf(HasSubstr("lora_parameters.alpha"), HasSubstr("alpha / rank")));
  EXPECT_THAT(error_with(R"({"fine_tune_type": "full"})", sound), HasSubstr("full fine-tuning"));
  EXPECT_THAT(error_with(R"({"fine_tune_type": "dora"})", sound), HasSubstr("'dora'"));
  EXPECT_THAT(error_with(R"({"use_dora": true})", sound), HasSubstr("'dora'"));
  EXPECT_THAT(error_with("{}", sound), HasSubstr("lora_parameters: missing"));
  EXPECT_THAT(error_with(R"({"lora_parameters": {"rank": 2}})", sound),
              HasSubstr("lora_parameters.scale: missing"));
  EXPECT_THAT(error_with(R"({"lora_parameters": {"rank": 8, "scale": 1}})", sound),
              AllOf(HasSubstr("has rank 2"), HasSubstr("lora_parameters.rank is 8")));
  EXPECT_THAT(error_with("{" + parameters + "}}", {{"a.lora_a", zeros({4, 16, 2})}}),
              HasSubstr("[4, 16, 2]"));
  EXPECT_THAT(error_with("{" + parameters + "}}", {{"a.m", zeros({4})}}), HasSubstr("'a.m'"));
}

TEST(AdapterFile, AFullDiskLeavesTheOldAdapter) {
  const TemporaryFolder folder;
  const Adapter adapter = adapter_with({.rank = 2});
  save_adapter(folder.path(), adapter);
  const std::string before = folder.read("adapter_model.safetensors");
  const testing::FileSizeLimit full(1000);
  EXPECT_THAT(message_of<IoError>([&] { save_adapter(folder.path(), adapter_with({.rank = 4})); }),
              HasSubstr("adapter_model.safetensors: cannot write: File too large"));
  EXPECT_EQ(folder.read("adapter_model.safetensors"), before);
  EXPECT_EQ(folder.num_files(), 2u);
}

TEST(AdapterFile, AFolderThatCannotBeMadeIsNamed) {
  const TemporaryFolder folder;
  const std::string file = folder.write("file", "");
  EXPECT_THAT(message_of<IoError>([&] { save_adapter(file + "/x", adapter_with({})); }),
              HasSubstr(file + "/x: cannot make the folder"));
}

}  // namespace
}  // namespace metal_candle
