// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a decoder computes in different ways must agree: in one pass and token by token, with and
// without checkpoints, gradients and differences. Whether it is right at all, the fixtures of
// family_test.cpp say.
#include "metal_candle/models/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "tests/models/tiny_model.h"
#include "tests/support/host_only.h"
#include "tests/support/host_tensor.h"
#include "tests/support/message_of.h"
#include "tests/support/reference_interpreter.h"

namespace metal_candle {
namespace {

using testing::all_close;
using ::testing::HasSubstr;
using testing::HostTensor;
using testing::message_of;
using testing::tiny_config;
using testing::tiny_decoder;
using testing::tiny_tokens;

HostTensor values(const Tensor& tensor) { return testing::read_evaluated(Tensor(tensor).eval()); }

// A configuration with everything in it.
constexpr const char* kRich =
    R"("model_type": "qwen3", "head_dim": 6, "attention_bias": true, "use_sliding_window": true,
       "sliding_window": 4, "max_window_layers": 1)";
constexpr const char* kBiased = R"("attention_bias": true, "mlp_bias": true,
       "tie_word_embeddings": true)";

class DecoderPaths : public ::testing::TestWithParam<const char*> {};

TEST_P(DecoderPaths, CachedStepsEqualOnePass) {
  const Decoder model = tiny_decoder(GetParam());
  const Tensor tokens = tiny_tokens(2, 11);
  const HostTensor expected = values(model.logits(model.hidden_states(tokens)));
  for (const std::vector<std::int64_t>& chunks :
       {std::vector<std::int64_t>(11, 1), {11}, {5, 6}, {4, 1, 1, 3, 2}}) {
    KvCache cache = KvCache::make(model.config(), 2, 17, DType::kF32);
    std::vector<Tensor> parts;
    std::int64_t start = 0;
    for (const std::int64_t chunk : chunks) {
      ForwardOptions options;
      options.cache = &cache;
      const Tensor part = tokens.slice({{0, 2}, {start, start + chunk}});
      parts.push_back(model.logits(model.hidden_states(part, options)));
      std::vector<Tensor> outputs = cache.tensors();
      outputs.push_back(parts.back());
      eval(outputs);
      start += chunk;
      EXPECT_EQ(cache.length.item<std::int32_t>(), start);
    }
    EXPECT_TRUE(all_close(values(concatenate(parts, 1)), expected, {1e-4, 1e-4}))
        << chunks.size() << " chunks";
  }
}

TEST_P(DecoderPaths, GradientsEqualDifferences) {
  const Decoder model = tiny_decoder(GetParam());
  const Tensor tokens = tiny_tokens(2, 7);
  const Tensor targets = tiny_tokens(2, 7, 37, 8);
  const Tree parameters = model.parameters();
  const auto loss = [&](const Tree& weights) {
    return model.with_parameters(weights).summed_loss(tokens, targets);
  };
  const auto [value, gradient] = value_and_grad(loss)(parameters);
  const ScopedExecutionMode lazy(ExecutionMode::kAsync);  // There is a graph to interpret.
  const testing::TracedValues traced = testing::trace_values(std::vector<Tensor>{loss(parameters)});
  const auto at = [&](const std::vector<HostTensor>& inputs) {
    return testing::interpret(traced.graph, inputs)[0].r(0);
  };
  EXPECT_NEAR(value.item<float>(), at(traced.inputs), 1e-3);
  const std::vector<Tensor> leaves = parameters.leaves();
  const std::vector<Tensor> gradients = gradient.leaves();
  eval(gradients);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    // Along one random direction, which any wrong element shows in.
    const auto found =
        std::find(traced.leaves.begin(), traced.leaves.end(), leaves[i].node().get());
    ASSERT_NE(found, traced.leaves.end()) << parameters.paths()[i];
    const auto which = static_cast<std::size_t>(found - traced.leaves.begin());
    const HostTensor direction = values(random::normal(leaves[i].shape(), random::key(100 + i)));
    constexpr double kStep = 1e-4;
    std::vector<HostTensor> above = traced.inputs;
    std::vector<HostTensor> below = traced.inputs;
    const HostTensor computed = values(gradients[i]);
    double slope = 0;
    for (std::int64_t j = 0; j < direction.size(); ++j) {
      above[which].r(j) += kStep * direction.r(j);
      below[which].r(j) -= kStep * direction.r(j);
      slope += direction.r(j) * computed.r(j);
    }
    const double expected = (at(above) - at(below)) / (2 * kStep);
    EXPECT_NEAR(slope, expected, 1e-3 + 1e-3 * std::abs(expected)) << parameters.paths()[i];
  }
}

TEST_P(DecoderPaths, CheckpointsChangeNothing) {
  const Decoder model = tiny_decoder(GetParam());
  const Tensor tokens = tiny_tokens(2, 9);
  const Tensor targets = tiny_tokens(2, 9, 37, 8);
  std::vector<std::vector<HostTensor>> found;
  for (const bool checkpointed : {false, true}) {
    ForwardOptions options;
    options.checkpoint_layers = checkpointed;
    const auto [value, gradient] = value_and_grad([&](const Tree& weights) {
      return model.with_parameters(weights).summed_loss(tokens, targets, options);
    })(model.parameters());
    std::vector<Tensor> outputs = gradient.leaves();
    outputs.push_back(value);
    eval(outputs);
    found.emplace_back();
    for (const Tensor& output : outputs) found.back().push_back(testing::read_evaluated(output));
  }
  for (std::size_t i = 0; i < found[0].size(); ++i)
    EXPECT_TRUE(all_close(found[1][i], found[0][i], {1e-5, 1e-5})) << i;
}

INSTANTIATE_TEST_SUITE_P(Configurations, DecoderPaths, ::testing::Values("", kRich, kBiased));

// Plans, which eager evaluation has none of.
class DecoderPlan : public ::testing::Test {
  const ScopedExecutionMode lazy_{ExecutionMode::kAsync};
};

TEST_F(DecoderPlan, CheckpointsSaveMemory) {
  METAL_CANDLE_HOST_ONLY("plans for a GPU keep small blocks, so that steps can run together");
  const Decoder model = tiny_decoder(R"("num_hidden_layers": 8)");
  const Tensor tokens = tiny_tokens(1, 64);
  const Tree norms = Tree::Dict{{"model.layers.0.input_layernorm.weight",
                                 model.parameters().at("model.layers.0.input_layernorm.weight")}};
  std::size_t peaks[2];
  for (const bool checkpointed : {false, true}) {
    ForwardOptions options;
    options.checkpoint_layers = checkpointed;
    const Tree gradient = grad([&](const Tree& weights) {
      return model.with_parameters(weights).summed_loss(tokens, tokens, options);
    })(norms);
    peaks[checkpointed ? 1 : 0] = plan_evaluation(gradient.leaves()).peak_bytes;
  }
  EXPECT_LT(peaks[1], peaks[0] / 3);
}

TEST_F(DecoderPlan, StepsReuseOnePlanAndTheCachesMemory) {
  const Decoder model = tiny_decoder(kRich);
  KvCache cache = KvCache::make(model.config(), 1, 40, DType::kF32);
  ForwardOptions options;
  options.cache = &cache;
  Tensor token = tiny_tokens(1, 1);
  const auto step = [&] {
    const Tensor next = argmax(model.logits(model.hidden_states(token, options)), -1);
    std::vector<Tensor> outputs = cache.tensors();
    outputs.push_back(next);
    eval(outputs);
    token = next;
  };
  for (int i = 0; i < 2; ++i) step();
  reset_counters();
  const std::size_t before = memory_use().in_use;
  constexpr std::uint64_t kSteps = 20;
  for (std::uint64_t i = 0; i < kSteps; ++i) step();
  EXPECT_EQ(counters().plans_made, 0u);
  EXPECT_EQ(counters().plan_hits, kSteps);
  EXPECT_EQ(counters().donations, kSteps * 2 * 2);  // Keys and values of each layer.
  EXPECT_EQ(memory_use().in_use, before);
}

TEST_F(DecoderPlan, ADecodingStepCopiesNothing) {
  const Decoder model = tiny_decoder();
  KvCache cache = KvCache::make(model.config(), 1, 40, DType::kF32);
  ForwardOptions options;
  options.cache = &cache;
  const Tensor next = argmax(model.logits(model.hidden_states(tiny_tokens(1, 1), options)), -1);
  std::vector<Tensor> outputs = cache.tensors();
  outputs.push_back(next);
  const EvaluationPlan plan = plan_evaluation(outputs);
  // Of a layer: 2 norms, 7 products, 2 rotations, 2 updates of the cache, attention, and the gate;
  // and embedding, last norm, head, argmax and the new position.
  EXPECT_LE(plan.steps, 2u * 15 + 5);
  EXPECT_EQ(plan.donated_bytes, cache.bytes());
}

TEST(Decoder, TokensThatDoNotFit) {
  const Decoder model = tiny_decoder();
  EXPECT_THAT(message_of<ShapeError>([&] {
                (void)model.hidden_states(Tensor({1, 2, 3}));
              }),
              HasSubstr("[batch, length], not [3]"));
  KvCache cache = KvCache::make(model.config(), 2, 5, DType::kF32);
  ForwardOptions options;
  options.cache = &cache;
  for (const auto& [batch, length] : {std::pair{1, 3}, {2, 6}}) {
    EXPECT_THAT(message_of<ShapeError>(
                    [&] { (void)model.hidden_states(tiny_tokens(batch, length), options); }),
                HasSubstr("do not fit a cache of 2 layers, batch 2 and capacity 5"));
  }
  cache = KvCache::make(tiny_config(R"("num_hidden_layers": 3)"), 1, 5, DType::kF32);
  EXPECT_THAT(
      message_of<ShapeError>([&] { (void)model.hidden_states(tiny_tokens(1, 2), options); }),
      HasSubstr("a cache of 3 layers"));
  for (const auto& [batch, capacity] : {std::pair{0, 5}, {1, 0}}) {
    EXPECT_THAT(message_of<ShapeError>(
                    [&] { (void)KvCache::make(model.config(), batch, capacity, DType::kF32); }),
                HasSubstr("must be positive"));
  }
}

TEST(Decoder, ParametersByName) {
  const Decoder model = tiny_decoder(kRich);
  const Tree parameters = model.parameters();
  EXPECT_EQ(model.config().num_parameters(),
            static_cast<std::int64_t>(model.bytes() / sizeof(float)));
  EXPECT_TRUE(parameters.dict().contains("model.layers.1.self_attn.k_norm.weight"));
  const char* name = "model.layers.1.self_attn.k_norm.weight";
  const Decoder changed = model.with_parameters(Tree::Dict{{name, ones({6}) * 3.0f}});
  EXPECT_EQ(values(changed.parameters().tensor(name)).real, std::vector<double>(6, 3.0));
  EXPECT_TRUE(
      changed.parameters().tensor("lm_head.weight").same_node(parameters.tensor("lm_head.weight")));
  EXPECT_THAT(message_of<Error>([&] {
                (void)model.with_parameters(Tree::Dict{{name, ones({6})}, {"lm_tail", ones({1})}});
              }),
              HasSubstr("no parameter lm_tail"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                (void)model.with_parameters(Tree::Dict{{name, ones({5})}});
              }),
              ::testing::AllOf(HasSubstr(name), HasSubstr("[6]"), HasSubstr("[5]")));
}

TEST(Decoder, ThreadsShareAModel) {
  const Decoder model = tiny_decoder(kRich);
  const Tensor tokens = tiny_tokens(2, 9);
  const HostTensor expected = values(model.logits(model.hidden_states(tokens)));
  std::vector<std::thread> threads;
  std::vector<HostTensor> found(4);
  for (HostTensor& own : found) {
    threads.emplace_back([&] {
      const Decoder copy = model;
      for (int i = 0; i < 5; ++i) own = values(copy.logits(copy.hidden_states(tokens)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const HostTensor& own : found) EXPECT_TRUE(all_close(own, expected, {0, 0}));
}

}  // namespace
}  // namespace metal_candle
