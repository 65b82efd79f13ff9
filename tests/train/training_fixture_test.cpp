// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Twenty steps of AdamW, clipping, schedules and training, against PyTorch and transformers
// (scripts/fixtures/training.py).
#include <gtest/gtest.h>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/fixture.h"
#include "tests/train/toy_model.h"

namespace metal_candle::testing {
namespace {

std::vector<const FixtureCase*> cases_of(const std::string& op) {
  std::vector<const FixtureCase*> cases;
  for (const FixtureCase& c : fixture_cases("training")) {
    if (c.op == op) cases.push_back(&c);
  }
  EXPECT_FALSE(cases.empty());
  return cases;
}

void expect_near_relative(double actual, double expected, double tolerance) {
  EXPECT_NEAR(actual, expected, tolerance * std::abs(expected));
}

TEST(TrainingFixtureTest, Schedules) {
  for (const FixtureCase* c : cases_of("schedule")) {
    SCOPED_TRACE(c->describe());
    const LearningRateSchedule schedule{.peak = c->get<double>("peak"),
                                        .decay = parse_decay(c->get<std::string>("decay")),
                                        .warmup = c->get<std::int64_t>("warmup"),
                                        .total = c->get<std::int64_t>("total"),
                                        .final = c->get<double>("final")};
    const auto rates = c->get<std::vector<double>>("rates");
    for (std::size_t i = 0; i < rates.size(); ++i) {
      EXPECT_NEAR(schedule(static_cast<std::int64_t>(i)), rates[i], 1e-12) << i;
    }
  }
}

Tree tree_of(const FixtureCase& c, std::size_t first, std::size_t count) {
  Tree tree;
  for (std::size_t i = 0; i < count; ++i) tree[std::to_string(i)] = c.inputs[first + i].tensor();
  return tree;
}

// Outputs of the case from `first` on.
void expect_leaves(const Tree& tree, const FixtureCase& c, std::size_t first, Tolerance tolerance) {
  const std::vector<Tensor> leaves = tree.leaves();
  eval(leaves);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_TRUE(all_close(read_evaluated(leaves[i]), c.outputs[first + i], tolerance)) << i;
  }
}

TEST(TrainingFixtureTest, AdamWAndClipping) {
  for (const FixtureCase* c : cases_of("adamw")) {
    SCOPED_TRACE(c->describe());
    const AdamW optimizer({.beta1 = c->get<double>("beta1"),
                           .beta2 = c->get<double>("beta2"),
                           .eps = c->get<double>("eps"),
                           .weight_decay = c->get<double>("weight_decay")});
    const auto rates = c->get<std::vector<double>>("rates");
    const auto norms = c->get<std::vector<double>>("norms");
    const auto max_norm = c->get<double>("max_norm");
    Tree parameters = tree_of(*c, 0, 3);
    // bf16: PyTorch's float32 copies and ours may fall on different sides of a rounding boundary.
    const bool bf16 = parameters.leaves()[0].dtype() == DType::kBF16;
    const Tolerance tolerance = bf16 ? Tolerance{1.0 / 256, 0} : Tolerance{2e-6, 2e-7};
    Tree state = optimizer.initial_state(parameters);
    for (std::size_t step = 0; step < rates.size(); ++step) {
      const Tree gradients = tree_of(*c, 3 + 3 * step, 3);
      const Tensor norm = global_norm(gradients);
      const Tensor scale = max_norm > 0 ? clip_scale(norm, max_norm) : Tensor();
      AdamW::Updated updated =
          optimizer.update(parameters, gradients, state, Tensor(rates[step]), scale);
      parameters = std::move(updated.parameters);
      state = std::move(updated.state);
      eval(state.leaves());
      expect_near_relative(norm.item<double>(), norms[step], 1e-6);
      if (step == 0) expect_leaves(parameters, *c, 0, tolerance);
    }
    expect_leaves(parameters, *c, 3, tolerance);
    expect_leaves(state.at("m"), *c, 6, {1e-5, 1e-7});
    expect_leaves(state.at("v"), *c, 9, {1e-5, 1e-7});
    EXPECT_EQ(state.tensor("step").item<std::int32_t>(), static_cast<std::int32_t>(rates.size()));
  }
}

TEST(TrainingFixtureTest, ClippedGradientsHaveTheNorm) {
  const FixtureCase& c = *cases_of("adamw").front();
  const Tree gradients = tree_of(c, 3, 3);
  for (const double max_norm : {1e-3, 1e6}) {
    const ClippedGradients clipped = clip_by_global_norm(gradients, max_norm);
    const double norm = clipped.norm.item<double>();
    expect_near_relative(norm, c.get<std::vector<double>>("norms")[0], 1e-6);
    expect_near_relative(global_norm(clipped.gradients).item<double>(), std::min(norm, max_norm),
                         1e-5);
  }
}

/// The batches of a case, once.
class FixtureBatches final : public BatchSource {
 public:
  FixtureBatches(const FixtureCase& c, std::size_t first) : case_(c), at_(first) {}
  std::optional<TokenBatch> next() override {
    if (at_ + 1 >= case_.inputs.size()) return {};
    const auto tokens = case_.inputs[at_].tensor();
    const auto targets = case_.inputs[at_ + 1].tensor();
    at_ += 2;
    return make_token_batch(tokens.to_vector<std::int32_t>(), targets.to_vector<std::int32_t>(),
                            tokens.dim(0), tokens.dim(1));
  }
  [[nodiscard]] std::string state() const override { return std::to_string(at_); }
  void restore(const std::string& state) override { at_ = std::stoul(state); }

 private:
  const FixtureCase& case_;
  std::size_t at_;
};

TEST(TrainingFixtureTest, Training) {
  for (const FixtureCase* c : cases_of("train")) {
    SCOPED_TRACE(c->describe());
    const std::size_t count = c->outputs.size();
    std::vector<Tensor> initial;
    for (std::size_t i = 0; i < count; ++i) initial.push_back(c->inputs[i].tensor());
    const auto losses = c->get<std::vector<double>>("losses");
    const auto norms = c->get<std::vector<double>>("norms");
    TrainOptions options;
    options.iters = static_cast<std::int64_t>(losses.size());
    options.grad_accumulation_steps = c->get<int>("accumulation");
    options.learning_rate = c->get<double>("learning_rate");
    options.lr_schedule = Decay::kLinear;
    options.warmup = c->get<std::int64_t>("warmup");
    options.optimizer.weight_decay = c->get<double>("weight_decay");
    options.max_grad_norm = c->get<double>("max_norm");
    FixtureBatches batches(*c, count);
    Trainer trainer(options, toy_loss(), make_toy_parameters().with_leaves(initial), batches);
    Recorder recorder;
    trainer.run(recorder);
    ASSERT_EQ(recorder.steps.size(), losses.size());
    std::size_t update = 0;
    for (std::size_t i = 0; i < losses.size(); ++i) {
      expect_near_relative(recorder.steps[i].loss, losses[i], 1e-5);
      if (!recorder.steps[i].updated) continue;
      expect_near_relative(recorder.steps[i].gradient_norm, norms[update++], 1e-4);
    }
    EXPECT_EQ(update, norms.size());
    expect_leaves(trainer.parameters(), *c, 0, {1e-4, 2e-5});
  }
}

}  // namespace
}  // namespace metal_candle::testing
