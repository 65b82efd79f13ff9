// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// AdamW's memory, number of steps and refusals. Its numbers are compared with PyTorch's in
// training_fixture_test.cpp.
#include "metal_candle/train/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/train/schedule.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Low-rank matrices of 24 layers: 48 tensors.
Tree adapter(std::uint64_t seed, DType dtype = DType::kF32) {
  Tree tree;
  for (std::uint32_t i = 0; i < 24; ++i) {
    const Tensor key = random::fold_in(random::key(seed), i);
    Tree& layer = tree["layers." + std::to_string(i)];
    layer["a"] = random::normal({512, 8}, key, dtype);
    layer["b"] = random::normal({8, 512}, random::fold_in(key, 1), dtype);
  }
  eval(tree.leaves());
  return tree;
}

std::vector<Tensor> leaves_of(const AdamW::Updated& updated) {
  std::vector<Tensor> leaves = updated.parameters.leaves();
  for (const Tensor& leaf : updated.state.leaves()) leaves.push_back(leaf);
  return leaves;
}

std::vector<const void*> addresses(const Tree& tree) {
  std::vector<const void*> all;
  for (const Tensor& leaf : tree.leaves()) {
    const Value& value = leaf.node()->value();
    all.push_back(static_cast<const std::byte*>(value.storage->contents()) + value.offset);
  }
  return all;
}

TEST(AdamWTest, UpdatesInPlaceWithOnePlan) {
  const AdamW optimizer;
  Tree parameters = adapter(1);
  const Tree gradients = adapter(2);
  Tree state = optimizer.initial_state(parameters);
  eval(state.leaves());
  std::vector<const void*> parameters_at;
  std::vector<const void*> moments_at;
  std::size_t in_use = 0;
  for (int step = 0; step < 4; ++step) {
    reset_counters();
    {
      const Tensor rate(1e-3 / (step + 1));
      AdamW::Updated updated = optimizer.update(parameters, gradients, state, rate);
      parameters = std::move(updated.parameters);
      state = std::move(updated.state);
      std::vector<Tensor> outputs = parameters.leaves();
      for (const Tensor& leaf : state.leaves()) outputs.push_back(leaf);
      eval(outputs);
    }
    EXPECT_EQ(counters().plans_made, step == 0 ? 1u : 0u);
    if (step == 0) {  // The zeros it begins with share their memory.
      parameters_at = addresses(parameters);
      moments_at = addresses(state);
      in_use = memory_use().in_use;
      continue;
    }
    // Parameters, first and second moments of 48 tensors, and the step.
    EXPECT_GE(counters().donations, 3u * 48u);
    EXPECT_EQ(addresses(parameters), parameters_at);
    EXPECT_EQ(addresses(state), moments_at);
    EXPECT_EQ(memory_use().in_use, in_use);
  }
}

TEST(AdamWTest, ThreeStepsATensor) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool scaled : {false, true}) {
      const AdamW optimizer;
      const Tree parameters = adapter(1, dtype);
      const Tree state = optimizer.initial_state(parameters);
      eval(state.leaves());
      const auto updated = optimizer.update(parameters, adapter(2, dtype), state, Tensor(1e-3),
                                            scaled ? Tensor(0.5) : Tensor());
      const EvaluationPlan plan = plan_evaluation(leaves_of(updated));
      const std::size_t per_tensor = dtype == DType::kF32 ? 3 : 4;  // And one to round.
      EXPECT_GE(plan.steps, 48 * per_tensor);
      EXPECT_LE(plan.steps, 48 * per_tensor + 6) << plan.optimized.to_text();
    }
  }
}

TEST(AdamWTest, MasterWeightsKeepWhatRoundingWouldLose) {
  const auto train = [](bool master_weights) {
    const AdamW optimizer({.weight_decay = 0, .master_weights = master_weights});
    Tree parameters(astype(ones({4}), DType::kBF16));
    Tree state = optimizer.initial_state(parameters);
    EXPECT_EQ(state.dict().count("master"), master_weights ? 1u : 0u);
    for (int step = 0; step < 100; ++step) {
      // Moves each parameter by 1e-3, a quarter of a unit in the last place.
      auto updated = optimizer.update(parameters, ones({4}), state, Tensor(1e-3));
      parameters = std::move(updated.parameters);
      state = std::move(updated.state);
    }
    return parameters.tensor().to_vector<float>()[0];
  };
  EXPECT_EQ(train(false), 1.0f);
  EXPECT_NEAR(train(true), 0.9f, 0.002f);
}

TEST(AdamWTest, RefusesWhatDoesNotFit) {
  const AdamW optimizer;
  Tree parameters;
  parameters["w"] = zeros({2, 3});
  Tree gradients = parameters;
  const Tree state = optimizer.initial_state(parameters);
  gradients["w"] = zeros({3, 2});
  EXPECT_THAT([&] { (void)optimizer.update(parameters, gradients, state, Tensor(1.0)); },
              ThrowsMessage<ShapeError>(HasSubstr("w is [2, 3], but its gradient is [3, 2]")));
  gradients["v"] = zeros({1});
  EXPECT_THAT([&] { (void)optimizer.update(parameters, gradients, state, Tensor(1.0)); },
              ThrowsMessage<Error>(HasSubstr("different structures")));
  parameters["w"] = zeros({2}, DType::kI32);
  EXPECT_THAT([&] { (void)optimizer.initial_state(parameters); },
              ThrowsMessage<DTypeError>(HasSubstr("w is i32")));
  EXPECT_THAT([] { AdamW({.beta2 = 1}); }, ThrowsMessage<Error>(HasSubstr("beta2 cannot be 1")));
  EXPECT_THAT([] { AdamW({.eps = 0}); }, ThrowsMessage<Error>(HasSubstr("eps cannot be 0")));
  EXPECT_THAT([] { (void)clip_scale(Tensor(1.0), 0); },
              ThrowsMessage<Error>(HasSubstr("cannot be limited to 0")));
}

TEST(ScheduleTest, Names) {
  for (const Decay decay : {Decay::kConstant, Decay::kLinear, Decay::kCosine}) {
    EXPECT_EQ(parse_decay(name(decay)), decay);
  }
  EXPECT_EQ(parse_decay("cosine_decay"), Decay::kCosine);
  EXPECT_EQ(parse_decay("linear_schedule"), Decay::kLinear);
  EXPECT_THAT([] { (void)parse_decay("step"); },
              ThrowsMessage<FormatError>(HasSubstr("constant, linear and cosine")));
}

TEST(ScheduleTest, StaysAtTheFinalValue) {
  const LearningRateSchedule schedule{
      .peak = 1, .decay = Decay::kCosine, .warmup = 2, .total = 6, .initial = 0.5, .final = 0.25};
  EXPECT_EQ(schedule(0), 0.5);
  EXPECT_EQ(schedule(1), 0.75);
  EXPECT_EQ(schedule(2), 1);
  EXPECT_NEAR(schedule(4), 0.625, 1e-15);
  for (const std::int64_t update : {6, 7, 1000}) EXPECT_EQ(schedule(update), 0.25);
}

// mlx-lm joins linear_schedule(0.5, 1, 2) and, from update 3 on, cosine_decay(1, 4, 0.2).
TEST(ScheduleTest, DecayStepsAreMlxLms) {
  LearningRateSchedule schedule{.peak = 1,
                                .decay = Decay::kCosine,
                                .warmup = 2,
                                .total = 100,
                                .decay_steps = 4,
                                .initial = 0.5,
                                .final = 0.2};
  const double expected[] = {0.5, 0.75, 1, 1, 0.2 + 0.4 * (1 + 0.7071067811865476), 0.6};
  for (std::size_t i = 0; i < std::size(expected); ++i)
    EXPECT_NEAR(schedule(static_cast<std::int64_t>(i)), expected[i], 1e-15) << i;
  for (const std::int64_t update : {7, 8, 99, 1000}) EXPECT_EQ(schedule(update), 0.2) << update;
  // linear_schedule(1, 0.2, 4) alone.
  schedule.decay = Decay::kLinear;
  schedule.warmup = 0;
  const double linear[] = {1, 0.8, 0.6, 0.4, 0.2, 0.2};
  for (std::size_t i = 0; i < std::size(linear); ++i)
    EXPECT_NEAR(schedule(static_cast<std::int64_t>(i)), linear[i], 1e-15) << i;
}

}  // namespace
}  // namespace metal_candle
