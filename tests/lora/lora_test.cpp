// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Low-rank updates: which layers get one, where it starts, and that beside the weights or in them
// it is the same.
#include "metal_candle/lora/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/models/tiny_model.h"
#include "tests/support/host_tensor.h"
#include "tests/support/message_of.h"

namespace metal_candle {
namespace {

using testing::all_close;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::HostTensor;
using testing::message_of;
using testing::tiny_decoder;
using testing::tiny_tokens;
using testing::Tolerance;

HostTensor values(const Tensor& tensor) { return testing::read_evaluated(Tensor(tensor).eval()); }

Tensor logits_of(const Decoder& model, const ForwardOptions& options = {}) {
  return model.logits(model.hidden_states(tiny_tokens(2, 7), options));
}

// An adapter that changes something: lora_b is not 0.
Adapter trained_adapter(const Decoder& model, const LoraConfig& config) {
  Adapter adapter = make_adapter(model, config, random::key(3));
  std::uint32_t index = 0;
  for (auto& [path, weights] : adapter.weights.dict()) {
    const Tensor key = random::fold_in(random::key(4), index++);
    weights["lora_b"] = (random::normal(weights.tensor("lora_b").shape(), key) * 0.3f).eval();
  }
  return adapter;
}

std::vector<std::string> adapted_paths(const Adapter& adapter) {
  std::vector<std::string> paths;
  for (const auto& [path, weights] : adapter.weights.dict()) paths.push_back(path);
  return paths;
}

// ---- Targets. What PEFT 0.18 says of the same module names and configurations.

constexpr const char* kQ0 = "model.layers.0.self_attn.q_proj";
constexpr const char* kQ1 = "model.layers.1.self_attn.q_proj";
constexpr const char* kUp1 = "model.layers.1.mlp.up_proj";

bool targets(const LoraConfig& config, const char* path) {
  const std::int64_t block = std::string(path).at(13) - '0';
  return config.targets(path, block, 2);
}

TEST(LoraTargets, WholeComponentsAtTheEnd) {
  EXPECT_TRUE(targets({.target_modules = {"q_proj"}}, kQ0));
  EXPECT_TRUE(targets({.target_modules = {"self_attn.q_proj"}}, kQ0));
  EXPECT_TRUE(targets({.target_modules = {"v_proj", kQ0}}, kQ0));
  EXPECT_FALSE(targets({.target_modules = {kQ0}}, kQ1));
  EXPECT_FALSE(targets({.target_modules = {"proj"}}, kQ0));
  EXPECT_FALSE(targets({.target_modules = {"_proj", "attn.q_proj"}}, kQ0));
  EXPECT_FALSE(targets({.target_modules = {"self_attn"}}, kQ0));
  EXPECT_FALSE(targets({.target_modules = {"model.layers.0"}}, kQ0));
  EXPECT_TRUE(targets({.target_modules = {"all-linear"}}, kUp1));
  EXPECT_FALSE(targets({.target_modules = {}}, kUp1));
}

TEST(LoraTargets, PatternsMatchTheWholePath) {
  EXPECT_TRUE(targets({.target_pattern = R"(.*\.(q|v)_proj)"}, kQ0));
  EXPECT_FALSE(targets({.target_pattern = R"(.*\.(q|v)_proj)"}, kUp1));
  EXPECT_FALSE(targets({.target_pattern = "q_proj"}, kQ0));
  EXPECT_FALSE(targets({.target_pattern = R"(model\.layers\.1\.self_attn)"}, kQ1));
  EXPECT_TRUE(targets({.target_pattern = R"(model\.layers\.[1-9]\.self_attn\..*)"}, kQ1));
  EXPECT_FALSE(targets({.target_pattern = R"(model\.layers\.[1-9]\.self_attn\..*)"}, kQ0));
  // Instead of the names.
  EXPECT_FALSE(targets({.target_modules = {"q_proj"}, .target_pattern = ".*up_proj"}, kQ0));
  EXPECT_THAT(message_of<FormatError>([] { (void)targets({.target_pattern = "(q"}, kQ0); }),
              HasSubstr("\"(q\" is not a regular expression"));
}

TEST(LoraTargets, TheLastBlocks) {
  EXPECT_FALSE(targets({.num_layers = 1}, kQ0));
  EXPECT_TRUE(targets({.num_layers = 1}, kQ1));
  EXPECT_TRUE(targets({.num_layers = 2}, kQ0));
  EXPECT_TRUE(targets({.num_layers = 16}, kQ0));
  EXPECT_FALSE(targets({.num_layers = 0}, kQ1));
}

TEST(LoraTargets, RanksAndScalesByPath) {
  LoraConfig config = {.rank = 4, .alpha = 8};
  config.rank_pattern = {{"layers.1.self_attn.q_proj", 16}, {"up_proj", 2}};
  config.alpha_pattern = {{"up_proj", 10}};
  EXPECT_EQ(config.rank_of(kQ0), 4);
  EXPECT_EQ(config.rank_of(kQ1), 16);
  EXPECT_EQ(config.rank_of(kUp1), 2);
  EXPECT_EQ(config.scale_of(kQ0), 2);
  EXPECT_EQ(config.scale_of(kQ1), 0.5f);
  EXPECT_EQ(config.scale_of(kUp1), 5);
  config.rslora = true;
  EXPECT_EQ(config.scale_of(kQ0), 4);
  EXPECT_FLOAT_EQ(config.scale_of(kUp1), static_cast<float>(10 / std::sqrt(2.0)));
}

// ---- make_adapter

TEST(MakeAdapter, ShapesAndPaths) {
  const Decoder model = tiny_decoder();
  LoraConfig config = {.rank = 3, .target_modules = {"q_proj", "down_proj"}};
  config.rank_pattern = {{kQ1, 5}};
  const Adapter adapter = make_adapter(model, config, random::key(1));
  EXPECT_THAT(adapted_paths(adapter), ::testing::ElementsAre("model.layers.0.mlp.down_proj", kQ0,
                                                             "model.layers.1.mlp.down_proj", kQ1));
  EXPECT_EQ(adapter.weights.at(kQ1).tensor("lora_a").shape(), (Shape{5, 24}));
  EXPECT_EQ(adapter.weights.at(kQ1).tensor("lora_b").shape(), (Shape{24, 5}));
  const Tree& down = adapter.weights.at("model.layers.0.mlp.down_proj");
  EXPECT_EQ(down.tensor("lora_a").shape(), (Shape{3, 40}));
  EXPECT_EQ(down.tensor("lora_b").shape(), (Shape{24, 3}));
  EXPECT_EQ(adapter.num_parameters(), 3 * 48 + 5 * 48 + 2 * 3 * 64);
  // It changes nothing yet.
  EXPECT_TRUE(
      all_close(values(logits_of(with_adapter(model, adapter))), values(logits_of(model)), {0, 0}));
}

TEST(MakeAdapter, DrawsAsPeftDoes) {
  // PEFT: kaiming_uniform_(a = sqrt(5)), uniform within 1 / sqrt(in): of variance 1 / (3 in).
  const Decoder model = tiny_decoder(R"("hidden_size": 96, "num_hidden_layers": 1)");
  const LoraConfig config = {.rank = 64, .target_modules = {"q_proj", "k_proj", "v_proj"}};
  const Adapter adapter = make_adapter(model, config, random::key(5));
  std::vector<HostTensor> drawn;
  for (const auto& [path, weights] : adapter.weights.dict()) {
    const HostTensor a = values(weights.tensor("lora_a"));
    const double bound = 1 / std::sqrt(96.0);
    double sum = 0;
    double squares = 0;
    double largest = 0;
    for (const double x : a.real) {
      sum += x;
      squares += x * x;
      largest = std::max(largest, std::abs(x));
    }
    const auto count = static_cast<double>(a.size());  // 6144
    EXPECT_LE(largest, bound * (1 + 1e-6));
    EXPECT_GE(largest, bound * 0.995);
    EXPECT_NEAR(sum / count, 0, 4 * bound / std::sqrt(3 * count));
    EXPECT_NEAR(squares / count, bound * bound / 3, 0.05 * bound * bound / 3);
    for (const double x : values(weights.tensor("lora_b")).real) EXPECT_EQ(x, 0);
    for (const HostTensor& other : drawn) EXPECT_NE(a.real, other.real);
    drawn.push_back(a);
  }
  const Adapter again = make_adapter(model, config, random::key(5));
  const Adapter other = make_adapter(model, config, random::key(6));
  EXPECT_EQ(values(again.weights.at(kQ0).tensor("lora_a")).real,
            values(adapter.weights.at(kQ0).tensor("lora_a")).real);
  EXPECT_NE(values(other.weights.at(kQ0).tensor("lora_a")).real,
            values(adapter.weights.at(kQ0).tensor("lora_a")).real);
}

TEST(MakeAdapter, WhatCannotBe) {
  const Decoder model = tiny_decoder();
  const auto error = [&](const LoraConfig& config) {
    return message_of<Error>([&] { (void)make_adapter(model, config, random::key(1)); });
  };
  EXPECT_THAT(error({.target_modules = {"qproj", "o"}}), HasSubstr("named qproj or o"));
  EXPECT_THAT(error({.target_pattern = "q_proj"}), HasSubstr("matches \"q_proj\""));
  EXPECT_THAT(error({.num_layers = 0}), HasSubstr("the last 0 blocks"));
  EXPECT_THAT(error({.rank = 0}), AllOf(HasSubstr("rank 0"), HasSubstr(kQ0)));
  EXPECT_THAT(error({.dropout = 1}), HasSubstr("dropout 1"));
  EXPECT_THAT(error({.dropout = -0.1}), HasSubstr("dropout -0.1"));
}

// ---- Attaching and merging

class Attached : public ::testing::TestWithParam<DType> {};

TEST_P(Attached, BesideTheWeightsOrInThem) {
  const Decoder model = tiny_decoder(R"("attention_bias": true, "mlp_bias": true)", GetParam());
  LoraConfig config = {.rank = 3, .alpha = 5, .target_modules = {"all-linear"}};
  config.rank_pattern = {{"o_proj", 2}};
  const Adapter adapter = trained_adapter(model, config);
  const Decoder attached = with_adapter(model, adapter);
  const Decoder merged = merge_adapter(model, adapter);
  const HostTensor base = values(logits_of(model));
  const HostTensor expected = values(logits_of(merged));
  const Tolerance tolerance =
      GetParam() == DType::kF32 ? Tolerance{1e-4, 1e-4} : Tolerance{0.05, 0.2};
  EXPECT_TRUE(all_close(values(logits_of(attached)), expected, tolerance));
  EXPECT_FALSE(all_close(base, expected, {0.2, 0.5})) << "the adapter changes nothing";
  merged.for_each_linear([](const std::string& path, std::int64_t, const Linear& linear) {
    EXPECT_TRUE(linear.lora.empty()) << path;
    EXPECT_TRUE(linear.weight.is_evaluated()) << path;
  });
  // The model itself is as before, and shares what has no update.
  EXPECT_TRUE(all_close(values(logits_of(model)), base, {0, 0}));
  EXPECT_TRUE(merged.parameters()
                  .tensor("lm_head.weight")
                  .same_node(model.parameters().tensor("lm_head.weight")));
  EXPECT_TRUE(attached.parameters()
                  .tensor("model.layers.0.mlp.up_proj.weight")
                  .same_node(model.parameters().tensor("model.layers.0.mlp.up_proj.weight")));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Attached, ::testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& test) { return std::string(name(test.param)); });

TEST(WithAdapter, TheUpdateIsScaleTimesBTimesA) {
  const Decoder model = tiny_decoder();
  const Adapter adapter = trained_adapter(model, {.rank = 4, .alpha = 6});
  const Decoder merged = merge_adapter(model, adapter);
  const std::string name = std::string(kQ1) + ".weight";
  const HostTensor a = values(adapter.weights.at(kQ1).tensor("lora_a"));
  const HostTensor b = values(adapter.weights.at(kQ1).tensor("lora_b"));
  HostTensor expected = values(model.parameters().tensor(name));
  for (std::int64_t i = 0; i < 24; ++i) {
    for (std::int64_t j = 0; j < 24; ++j) {
      for (std::int64_t k = 0; k < 4; ++k)
        expected.r(i * 24 + j) += 1.5 * b.r(i * 4 + k) * a.r(k * 24 + j);
    }
  }
  EXPECT_TRUE(all_close(values(merged.parameters().tensor(name)), expected, {1e-6, 1e-6}));
}

TEST(WithAdapter, ReplacesTheOneBefore) {
  const Decoder model = tiny_decoder();
  const Adapter first = trained_adapter(model, {.target_modules = {"q_proj", "up_proj"}});
  const Adapter second = trained_adapter(model, {.target_modules = {"v_proj"}});
  const Decoder both = with_adapter(with_adapter(model, first), second);
  EXPECT_TRUE(
      all_close(values(logits_of(both)), values(logits_of(with_adapter(model, second))), {0, 0}));
}

TEST(WithAdapter, WhatDoesNotFit) {
  const Decoder model = tiny_decoder();
  const auto error = [&](const Adapter& adapter) {
    return message_of<Error>([&] { (void)with_adapter(model, adapter); });
  };
  Adapter adapter = trained_adapter(model, {.rank = 4});
  adapter.weights["model.layers.2.self_attn.q_proj"] = adapter.weights.at(kQ0);
  EXPECT_THAT(error(adapter), HasSubstr("no layer model.layers.2.self_attn.q_proj"));
  adapter = trained_adapter(model, {.rank = 4});
  adapter.weights[kQ1]["lora_a"] = zeros({4, 25});
  EXPECT_THAT(error(adapter), AllOf(HasSubstr(std::string(kQ1) + ".lora_a"), HasSubstr("[4, 25]"),
                                    HasSubstr("[4, 24]")));
  // A rank other than the configured one would get the wrong scale.
  adapter = trained_adapter(model, {.rank = 4});
  adapter.config.rank = 8;
  EXPECT_THAT(error(adapter), AllOf(HasSubstr("[4, 24]"), HasSubstr("[8, 24]")));
}

// ---- Dropout

TEST(LoraDropout, OnlyWithAKeyAndThenOfTheUpdateAlone) {
  const Decoder model = tiny_decoder();
  Adapter adapter = trained_adapter(model, {.rank = 4, .dropout = 0.5});
  const Decoder dropping = with_adapter(model, adapter);
  adapter.config.dropout = 0;
  const HostTensor exact = values(logits_of(with_adapter(model, adapter)));
  EXPECT_TRUE(all_close(values(logits_of(dropping)), exact, {0, 0}));
  ForwardOptions options;
  options.dropout_key = random::key(1);
  const HostTensor dropped = values(logits_of(dropping, options));
  EXPECT_FALSE(all_close(dropped, exact, {1e-2, 1e-2}));
  EXPECT_TRUE(all_close(values(logits_of(dropping, options)), dropped, {0, 0})) << "same key";
  options.checkpoint_layers = true;
  EXPECT_TRUE(all_close(values(logits_of(dropping, options)), dropped, {1e-5, 1e-5}));
  options.dropout_key = random::key(2);
  EXPECT_FALSE(all_close(values(logits_of(dropping, options)), dropped, {1e-2, 1e-2}));
  // Where there is no update, there is nothing to drop.
  EXPECT_TRUE(all_close(values(logits_of(model, options)), values(logits_of(model)), {1e-5, 1e-5}));
}

TEST(LoraDropout, KeepsTheExpectation) {
  const Tensor x = random::normal({4, 16}, random::key(1));
  Linear linear{random::normal({12, 16}, random::key(2)), {}, {}};
  linear.lora = {random::normal({3, 16}, random::key(3)), random::normal({12, 3}, random::key(4)),
                 0.5f, 0.4};
  const HostTensor expected = values(linear(x));
  constexpr std::uint32_t kDraws = 4000;
  Tensor total = zeros(Shape{4, 12});
  Tensor squares = zeros(Shape{4, 12});
  for (std::uint32_t i = 0; i < kDraws; ++i) {
    const Tensor y = linear(x, random::fold_in(random::key(9), Tensor(static_cast<int>(i))));
    total = total + y;
    squares = squares + square(y);
    eval(total, squares);
  }
  const HostTensor mean = values(total / static_cast<float>(kDraws));
  const HostTensor square_mean = values(squares / static_cast<float>(kDraws));
  for (std::int64_t i = 0; i < mean.size(); ++i) {
    const double deviation = std::sqrt(square_mean.r(i) - mean.r(i) * mean.r(i));
    EXPECT_GT(deviation, 0);
    EXPECT_NEAR(mean.r(i), expected.r(i), 4.5 * deviation / std::sqrt(double{kDraws}));
  }
}

TEST(LoraDropout, BlocksDropDifferentElements) {
  // Two blocks that are the same and, but for an update, add nothing: which of them has the update
  // makes no difference, unless they drop different elements of its input.
  const Decoder random_model = tiny_decoder();
  Tree weights = random_model.parameters();
  for (auto& [name, weight] : weights.dict()) {
    const std::size_t block = name.find("layers.1.");
    if (block != std::string::npos)
      weight = weights.at(std::string(name).replace(block, 9, "layers.0."));
    if (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight"))
      weight = zeros(weight.tensor().shape());
  }
  const Decoder model = random_model.with_parameters(weights);
  const Adapter adapter = trained_adapter(model, {.dropout = 0.5, .target_modules = {"down_proj"}});
  const auto updated = [&](const char* path, const ForwardOptions& options) {
    const Adapter one{adapter.config,
                      Tree::Dict{{path, adapter.weights.at("model.layers.0.mlp.down_proj")}}};
    return values(logits_of(with_adapter(model, one), options));
  };
  ForwardOptions options;
  EXPECT_TRUE(all_close(updated("model.layers.1.mlp.down_proj", options),
                        updated("model.layers.0.mlp.down_proj", options), {1e-5, 1e-5}));
  options.dropout_key = random::key(11);
  EXPECT_FALSE(all_close(updated("model.layers.1.mlp.down_proj", options),
                         updated("model.layers.0.mlp.down_proj", options), {1e-2, 1e-2}));
}

}  // namespace
}  // namespace metal_candle
