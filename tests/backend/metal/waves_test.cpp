// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Steps of fine-tuning on the Metal in software: those of a wave are few dispatches, which run in
// an order of chance, and compute what the CPU computes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "metal_candle/autograd/grad.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/train/optimizer.h"
#include "tests/backend/metal/registered_backend.h"
#include "tests/metal_sim/metal_sim.h"

namespace metal_candle::backend::metal {
namespace {

constexpr std::int64_t kWidth = 48;
constexpr std::int64_t kRank = 4;
constexpr int kLayers = 3;
constexpr int kSteps = 3;  // The first is encoded, the others are replayed.

// The same on every device: sines of large arguments show how those are rounded.
Tensor some(const Shape& shape, int key, float size) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < num_elements(shape); ++i) {
    const double angle = static_cast<double>(i) * (0.37 + 0.01 * key) + key;
    values.push_back(static_cast<float>(std::sin(angle)) * size);
  }
  return {values, shape};
}

// Low-rank updates of the projections of an attention block and of what follows it.
Tree adapters() {
  Tree tree;
  int key = 0;
  for (int i = 0; i < kLayers; ++i) {
    for (const char* name : {"q", "k", "v", "o"}) {
      Tree& adapter = tree["layers." + std::to_string(i)][name];
      adapter["a"] = some({kRank, kWidth}, ++key, 0.2f);
      adapter["b"] = some({kWidth, kRank}, ++key, 0.2f);
    }
  }
  eval(tree.leaves());
  return tree;
}

Tensor loss(const Tree& tree, const Tensor& x, const std::vector<Tensor>& weights) {
  Tensor h = x;
  for (int i = 0; i < kLayers; ++i) {
    const Tree& layer = tree.at("layers." + std::to_string(i));
    const Tensor normed = rms_norm(h, Tensor(), 1e-5f);
    int number = 4 * i;
    const auto project = [&](const char* name, const Tensor& of) {
      const Tree& adapter = layer.at(name);
      const Tensor low = matmul(of, adapter.at("a").tensor().transpose());
      return matmul(of, weights[static_cast<std::size_t>(number++)]) +
             matmul(low, adapter.at("b").tensor().transpose()) * 2.0;
    };
    const Tensor q = project("q", normed), k = project("k", normed), v = project("v", normed);
    h = h + project("o", silu(q) * k + v);
  }
  return mean(h * h);
}

struct Trained {
  std::vector<float> losses, parameters;
};

Trained train() {
  Tree parameters = adapters();
  const AdamW optimizer({.weight_decay = 0.1});
  Tree state = optimizer.initial_state(parameters);
  std::vector<Tensor> weights;
  for (int i = 0; i < 4 * kLayers; ++i) {
    weights.push_back(some({kWidth, kWidth}, 100 + i, 0.2f).eval());
  }
  const Tensor x = some({9, kWidth}, 99, 1.0f).eval();
  eval(state.leaves());
  Trained trained;
  for (int step = 0; step < kSteps; ++step) {
    const auto [value, gradients] =
        value_and_grad([&](const Tree& tree) { return loss(tree, x, weights); })(parameters);
    AdamW::Updated updated = optimizer.update(parameters, gradients, state, Tensor(1e-2));
    parameters = std::move(updated.parameters);
    state = std::move(updated.state);
    std::vector<Tensor> outputs = {value};
    for (const Tree* tree : {&parameters, &state}) {
      for (const Tensor& leaf : tree->leaves()) outputs.push_back(leaf);
    }
    eval(outputs);
    trained.losses.push_back(value.item<float>());
  }
  for (const Tensor& leaf : parameters.leaves()) {
    const std::vector<float> values = leaf.to_vector<float>();
    trained.parameters.insert(trained.parameters.end(), values.begin(), values.end());
  }
  return trained;
}

TEST(MetalWaves, StepsOfFineTuningAreFewDispatches) {
  MetalBackend& backend = registered_backend();
  const Trained expected = train();
  const Device before = default_device();
  set_default_device(backend.device());
  const std::uint64_t steps = backend.queue_statistics().kernels;
  const std::uint64_t replayed = backend.replay_statistics().replayed;
  const metal_sim::Statistics counted = metal_sim::statistics();
  const Trained actual = train();
  const std::uint64_t dispatches = metal_sim::statistics().dispatches - counted.dispatches;
  set_default_device(before);
  EXPECT_GT(backend.replay_statistics().replayed, replayed);
  EXPECT_LT(2 * dispatches, backend.queue_statistics().kernels - steps);
  ASSERT_EQ(actual.losses.size(), expected.losses.size());
  for (std::size_t i = 0; i < actual.losses.size(); ++i) {
    EXPECT_NEAR(actual.losses[i], expected.losses[i], 1e-5f * expected.losses[i]);
  }
  EXPECT_LT(actual.losses.back(), actual.losses.front());
  ASSERT_EQ(actual.parameters.size(), expected.parameters.size());
  for (std::size_t i = 0; i < actual.parameters.size(); ++i) {
    ASSERT_NEAR(actual.parameters[i], expected.parameters[i], 2e-4f) << i;
  }
}

}  // namespace
}  // namespace metal_candle::backend::metal
