// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Twenty steps of training tiny decoders, an adapter and all weights, as PyTorch does them:
// tests/fixtures/models/*/training.safetensors, which scripts/make_model_fixtures.py wrote.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/lora/lora.h"
#include "metal_candle/train/optimizer.h"
#include "tests/support/host_tensor.h"

namespace metal_candle {
namespace {

using testing::all_close;
using testing::HostTensor;
using testing::Tolerance;

// f32 on both sides, added up in different orders; AdamW divides small differences of small
// gradients by their size.
constexpr double kLoss = 2e-5;
constexpr Tolerance kGradient = {1e-3, 1e-5};
constexpr Tolerance kWeight = {1e-4, 1e-4};

HostTensor values(const Tensor& tensor) { return testing::read_evaluated(Tensor(tensor).eval()); }

std::string folder_of(const std::string& model) {
  return std::string(METAL_CANDLE_SOURCE_DIR) + "/tests/fixtures/models/" + model;
}

// Those of the tensors that PyTorch's are there of, of which there must be some or all.
void expect_leaves(const Tree& tree, const TensorFiles& expected, const std::string& prefix,
                   Tolerance tolerance, bool all) {
  const std::vector<Tensor> leaves = tree.leaves();
  const std::vector<std::string> paths = tree.paths();
  std::size_t found = 0;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const std::string name = prefix + paths[i];
    if (!expected.contains(name)) continue;
    EXPECT_TRUE(all_close(values(leaves[i]), values(expected.tensor(name)), tolerance)) << name;
    ++found;
  }
  EXPECT_GE(found, all ? leaves.size() : 1) << prefix;
}

// model_of(trained) is the decoder with what is trained.
void train(const TensorFiles& expected, Tree trained, double rate, double decay,
           const std::function<Decoder(const Tree&)>& model_of, const ForwardOptions& options) {
  const Tensor tokens = expected.tensor("tokens");
  const std::vector<float> losses = expected.tensor("losses").to_vector<float>();
  const AdamW optimizer({.weight_decay = decay});
  Tree state = optimizer.initial_state(trained);
  const Tensor learning_rate(static_cast<float>(rate));
  const std::int64_t length = tokens.dim(2);
  for (std::size_t step = 0; step < losses.size(); ++step) {
    const Tensor batch = tokens[static_cast<std::int64_t>(step)];
    const Tensor inputs = batch.slice({{}, {0, length - 1}});
    const Tensor targets = batch.slice({{}, {1, length}});
    const auto [loss, gradient] = value_and_grad([&](const Tree& weights) {
      return model_of(weights).summed_loss(inputs, targets, options) /
             static_cast<float>(targets.size());
    })(trained);
    auto updated = optimizer.update(trained, gradient, state, learning_rate);
    std::vector<Tensor> outputs = {loss};
    for (const Tree& tree : {updated.parameters, updated.state, gradient}) {
      for (const Tensor& leaf : tree.leaves()) outputs.push_back(leaf);
    }
    eval(outputs);
    EXPECT_NEAR(loss.item<float>(), losses[step], kLoss * losses[step]) << step;
    if (step == 0) expect_leaves(gradient, expected, "first_gradient.", kGradient, false);
    if (step + 1 == losses.size())
      expect_leaves(gradient, expected, "last_gradient.", kGradient, false);
    trained = std::move(updated.parameters);
    state = std::move(updated.state);
  }
  EXPECT_LT(losses.back(), losses.front());
  expect_leaves(trained, expected, "final.", kWeight, true);
}

// With the layers of the model computed again in the backward pass, or not.
class DecoderTraining : public ::testing::TestWithParam<bool> {
 protected:
  const ForwardOptions options_ = {.checkpoint_layers = GetParam()};
};

TEST_P(DecoderTraining, AnAdapterAsPyTorchDoes) {
  const Decoder model = Decoder::load(folder_of("qwen2_tied"), {.dtype = DType::kF32});
  const TensorFiles expected = TensorFiles::open(folder_of("qwen2_tied") + "/training.safetensors");
  Adapter adapter = make_adapter(
      model, {.rank = 4, .alpha = 8, .target_modules = {"q_proj", "v_proj", "down_proj"}},
      random::key(1));
  for (auto& [path, weights] : adapter.weights.dict()) {
    for (const std::string name : {"lora_a", "lora_b"}) {
      const Shape shape = weights.tensor(name).shape();
      weights[name] = expected.tensor("initial." + path + "." + name, shape);
    }
  }
  const auto model_of = [&](const Tree& weights) {
    return with_adapter(model, {adapter.config, weights});
  };
  train(expected, adapter.weights, 1e-2, 0.01, model_of, options_);
}

TEST_P(DecoderTraining, AllWeightsAsPyTorchDoes) {
  const Decoder model = Decoder::load(folder_of("qwen3"), {.dtype = DType::kF32});
  const TensorFiles expected = TensorFiles::open(folder_of("qwen3") + "/training.safetensors");
  const auto model_of = [&](const Tree& weights) { return model.with_parameters(weights); };
  train(expected, model.parameters(), 1e-3, 0.1, model_of, options_);
}

INSTANTIATE_TEST_SUITE_P(Checkpointed, DecoderTraining, ::testing::Bool());

}  // namespace
}  // namespace metal_candle
