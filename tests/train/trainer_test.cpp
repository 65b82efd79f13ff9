// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The training loop: what it reports and when, accumulation, memory and plans.
#include "metal_candle/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "metal_candle/execute/counters.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/host_tensor.h"
#include "tests/train/toy_model.h"

namespace metal_candle::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TrainOptions quick_options() {
  TrainOptions options;
  options.iters = 25;
  options.learning_rate = 1e-2;
  return options;
}

template <typename Report>
std::vector<std::int64_t> iterations(const std::vector<Report>& reports) {
  std::vector<std::int64_t> all;
  for (const Report& report : reports) all.push_back(report.iteration);
  return all;
}

TEST(TrainerTest, LearnsAndReports) {
  ToyBatches training;
  ToyBatches validation(3, 99);
  TrainOptions options = quick_options();
  options.steps_per_eval = 10;
  options.lr_schedule = Decay::kLinear;
  options.warmup = 5;
  options.settings = {{"model", "toy"}};
  Trainer trainer(options, toy_loss(), make_toy_parameters(), training, &validation);
  Recorder recorder;
  EXPECT_EQ(trainer.run(recorder), StopReason::kFinished);
  EXPECT_EQ(trainer.iteration(), 25);

  ASSERT_EQ(recorder.starts.size(), 1u);
  EXPECT_EQ(recorder.starts[0].parameters, 29 * 16 + (16 + 1) * 32 + (32 + 1) * 29);
  EXPECT_EQ(recorder.starts[0].parameter_tensors, 5u);
  EXPECT_EQ(recorder.starts[0].settings.front().second, "toy");
  EXPECT_EQ(recorder.steps.size(), 25u);
  EXPECT_THAT(iterations(recorder.reports), ElementsAre(10, 20, 25));
  EXPECT_THAT(iterations(recorder.evaluations), ElementsAre(0, 10, 20, 25));
  EXPECT_THAT(iterations(recorder.stops), ElementsAre(25));
  EXPECT_TRUE(recorder.saves.empty());

  EXPECT_LT(recorder.evaluations.back().loss, 0.85 * recorder.evaluations.front().loss);
  for (const EvaluationReport& evaluation : recorder.evaluations) {
    EXPECT_DOUBLE_EQ(evaluation.perplexity, std::exp(evaluation.loss));
  }
  // Reports sum up the steps since the last one.
  std::int64_t tokens = 0;
  std::size_t step = 0;
  for (const TrainReport& report : recorder.reports) {
    double loss = 0;
    std::int64_t interval = 0;
    for (; step < static_cast<std::size_t>(report.iteration); ++step) {
      const StepReport& s = recorder.steps[step];
      loss += s.loss * static_cast<double>(s.tokens);
      interval += s.tokens;
    }
    tokens += interval;
    EXPECT_NEAR(report.loss, loss / static_cast<double>(interval), 1e-12);
    EXPECT_EQ(report.trained_tokens, tokens);
    EXPECT_EQ(report.learning_rate, recorder.steps[step - 1].learning_rate);
    EXPECT_EQ(report.gradient_norm, recorder.steps[step - 1].gradient_norm);
    EXPECT_GT(report.tokens_per_second, 0);
    EXPECT_GT(report.iterations_per_second, 0);
    EXPECT_GT(report.peak_memory, 0u);
  }
}

TEST(TrainerTest, EvaluationIsTheMeanOverTargetsWithoutDropout) {
  ToyBatches training;
  Trainer trainer(quick_options(), toy_loss(0.5), make_toy_parameters(), training);
  ToyBatches validation(4, 5);
  const EvaluationReport all = trainer.evaluate(validation, -1);
  const EvaluationReport two = trainer.evaluate(validation, 2);
  double loss = 0;
  std::int64_t tokens = 0;
  ToyBatches again(4, 5);
  for (int i = 0; i < 4; ++i) {
    const LossAndCount result = toy_loss()(trainer.parameters(), *again.next(), Tensor());
    loss += result.loss.item<double>();
    tokens += result.count.item<std::int32_t>();
  }
  EXPECT_EQ(all.tokens, tokens);
  EXPECT_NEAR(all.loss, loss / static_cast<double>(tokens), 1e-12);
  EXPECT_LT(two.tokens, all.tokens);
}

/// Each batch of another source cut into single sequences.
class SingleSequences final : public BatchSource {
 public:
  explicit SingleSequences(BatchSource& whole) : whole_(whole) {}
  std::optional<TokenBatch> next() override {
    if (row_ == batch_.size()) {
      const std::optional<TokenBatch> whole = whole_.next();
      if (!whole) return {};
      batch_.clear();
      row_ = 0;
      const auto tokens = whole->tokens.to_vector<std::int32_t>();
      const auto targets = whole->targets.to_vector<std::int32_t>();
      const auto length = static_cast<std::size_t>(whole->length());
      for (std::size_t i = 0; i < tokens.size(); i += length) {
        batch_.push_back(make_token_batch(std::span(tokens).subspan(i, length),
                                          std::span(targets).subspan(i, length), 1,
                                          whole->length()));
      }
    }
    return batch_[row_++];
  }
  [[nodiscard]] std::string state() const override {
    return whole_.state() + " " + std::to_string(row_);
  }
  void restore(const std::string& state) override {
    // Enough for the trainer's look at its first batch.
    whole_.restore(state);
    batch_.clear();
    row_ = 0;
  }

 private:
  BatchSource& whole_;
  std::vector<TokenBatch> batch_;
  std::size_t row_ = 0;
};

TEST(TrainerTest, AccumulationEqualsTheBigBatch) {
  TrainOptions options = quick_options();
  options.max_grad_norm = 0.8;
  options.lr_schedule = Decay::kCosine;
  ToyBatches whole;
  Trainer expected(options, toy_loss(), make_toy_parameters(), whole);
  Recorder expected_record;
  expected.run(expected_record);

  options.iters *= 3;
  options.grad_accumulation_steps = 3;
  ToyBatches source;
  SingleSequences singles(source);
  Trainer trainer(options, toy_loss(), make_toy_parameters(), singles);
  Recorder record;
  trainer.run(record);

  ASSERT_EQ(record.steps.size(), 75u);
  for (std::size_t i = 0; i < 75; ++i) {
    const StepReport& step = record.steps[i];
    EXPECT_EQ(step.updated, i % 3 == 2);
    if (!step.updated) continue;
    const StepReport& big = expected_record.steps[i / 3];
    EXPECT_NEAR(step.gradient_norm, big.gradient_norm, 1e-4 * big.gradient_norm);
    EXPECT_EQ(step.learning_rate, big.learning_rate);
  }
  const auto actual = trainer.parameters().leaves();
  const auto wanted = expected.parameters().leaves();
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_TRUE(all_close(read_evaluated(actual[i]), read_evaluated(wanted[i]), {1e-3, 1e-4}));
  }
}

TEST(TrainerTest, TheLastIterationUpdatesWithWhatThereIs) {
  TrainOptions options = quick_options();
  options.iters = 8;
  options.grad_accumulation_steps = 3;
  ToyBatches training;
  Trainer trainer(options, toy_loss(), make_toy_parameters(), training);
  Recorder record;
  trainer.run(record);
  std::vector<std::int64_t> updates;
  for (const StepReport& step : record.steps) {
    if (step.updated) updates.push_back(step.iteration);
  }
  EXPECT_THAT(updates, ElementsAre(3, 6, 8));
}

TEST(TrainerTest, SameLossesInEveryMode) {
  const auto losses = [](ExecutionMode mode) {
    const ScopedExecutionMode scope(mode);
    TrainOptions options = quick_options();
    options.grad_accumulation_steps = 2;
    ToyBatches training;
    Trainer trainer(options, toy_loss(0.1), make_toy_parameters(), training);
    Recorder record;
    trainer.run(record);
    return record.losses();
  };
  const std::vector<double> expected = losses(ExecutionMode::kAsync);
  EXPECT_EQ(losses(ExecutionMode::kSync), expected);
  const std::vector<double> eager = losses(ExecutionMode::kEager);
  ASSERT_EQ(eager.size(), expected.size());
  for (std::size_t i = 0; i < eager.size(); ++i) EXPECT_NEAR(eager[i], expected[i], 1e-4);
}

TEST(TrainerTest, SeedsDifferInDropoutOnly) {
  const auto losses = [](std::uint64_t seed, double dropout) {
    TrainOptions options = quick_options();
    options.seed = seed;
    ToyBatches training;
    Trainer trainer(options, toy_loss(dropout), make_toy_parameters(), training);
    Recorder record;
    trainer.run(record);
    return record.losses();
  };
  EXPECT_NE(losses(1, 0.2), losses(2, 0.2));
  EXPECT_EQ(losses(1, 0.2), losses(1, 0.2));
  EXPECT_EQ(losses(1, 0), losses(2, 0));
}

/// One shape, known beforehand.
class EqualBatches final : public BatchSource {
 public:
  explicit EqualBatches(const Shape& shape) : shape_(shape) {}
  std::optional<TokenBatch> next() override {
    const std::vector<std::int32_t> tokens(static_cast<std::size_t>(num_elements(shape_)),
                                           static_cast<std::int32_t>(++count_ % kToyVocabulary));
    return make_token_batch(tokens, tokens, shape_[0], shape_[1]);
  }
  [[nodiscard]] std::string state() const override { return std::to_string(count_); }
  void restore(const std::string& state) override { count_ = std::stol(state); }
  [[nodiscard]] std::optional<Shape> largest() const override { return shape_; }

 private:
  Shape shape_;
  std::int64_t count_ = 0;
};

/// The predicted memory; counts afresh when training begins and once plans are made.
class Gauge final : public TrainObserver {
 public:
  void on_start(const TrainStart& start) override {
    predicted = start.predicted_peak_bytes;
    reset_peak_memory();
    reset_counters();
  }
  void on_step(const StepReport& step) override {
    if (step.iteration == 2) reset_counters();
  }
  std::size_t predicted = 0;
};

TEST(TrainerTest, UpdatesInPlaceWithOnePlanInThePredictedMemory) {
  for (const int accumulation : {1, 2}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(::testing::Message() << accumulation << " " << name(dtype));
      TrainOptions options = quick_options();
      options.iters = 12;
      options.grad_accumulation_steps = accumulation;
      EqualBatches training({8, 64});
      Trainer trainer(options, toy_loss(), make_toy_parameters(128, dtype), training);
      clear_memory_cache();
      Gauge gauge;
      trainer.run(gauge);
      // Blocks of memory are up to an eighth larger than what is asked for, and a GPU's small ones
      // come in heaps.
      const auto peak = static_cast<double>(memory_use().peak);
      const double heaps = default_device().type == DeviceType::kCpu ? 0 : 64 << 10;
      EXPECT_LE(peak, 1.125 * static_cast<double>(gauge.predicted) + heaps);
      EXPECT_GE(peak, 0.95 * static_cast<double>(gauge.predicted));
      EXPECT_EQ(counters().plans_made, 0u);  // After the second iteration.
      // Parameters or their masters, and first moments. (Second moments take over gradients.) Where
      // gradients accumulate, the iteration before an update may still be reading the parameters.
      const bool may_be_read = accumulation == 2 && dtype == DType::kF32;
      EXPECT_GE(counters().donations, (may_be_read ? 5u : 10u) * (accumulation == 1 ? 9u : 4u));
    }
  }
}

TEST(TrainerTest, RefusesWhatItCannotTrain) {
  ToyBatches training;
  const auto make = [&](TrainOptions options) {
    Trainer trainer(std::move(options), toy_loss(), make_toy_parameters(), training);
  };
  EXPECT_THAT([&] { make({.iters = -1}); }, ThrowsMessage<Error>(HasSubstr("iters cannot be -1")));
  EXPECT_THAT([&] { make({.grad_accumulation_steps = 0}); },
              ThrowsMessage<Error>(HasSubstr("grad_accumulation_steps cannot be 0")));
  EXPECT_THAT([&] { make({.learning_rate = -1e-3}); },
              ThrowsMessage<Error>(HasSubstr("learning_rate cannot be -0.001")));
  EXPECT_THAT([&] { make({.val_batches = 0}); },
              ThrowsMessage<Error>(HasSubstr("val_batches cannot be 0")));
  EXPECT_THAT([&] { Trainer({}, toy_loss(), Tree(), training); },
              ThrowsMessage<TrainError>(HasSubstr("no parameters")));

  ToyBatches none(0);
  Trainer without_data(quick_options(), toy_loss(), make_toy_parameters(), none);
  Recorder record;
  EXPECT_THAT([&] { without_data.run(record); },
              ThrowsMessage<TrainError>(HasSubstr("gives no batches")));
  EXPECT_THAT([&] { (void)without_data.evaluate(none, -1); },
              ThrowsMessage<TrainError>(HasSubstr("no target tokens")));

  const LossFunction wrong = [](const Tree& params, const TokenBatch& batch, const Tensor& key) {
    return LossAndCount{toy_loss()(params, batch, key).loss, Tensor(1.0)};
  };
  Trainer with_wrong_loss(quick_options(), wrong, make_toy_parameters(), training);
  EXPECT_THAT([&] { with_wrong_loss.run(record); },
              ThrowsMessage<ShapeError>(HasSubstr("not f32[] and f32[]")));
}

TEST(TokenBatchTest, LengthsEndAtTheLastTarget) {
  constexpr std::int32_t kNone = kIgnoredTarget;
  const TokenBatch batch = make_token_batch(std::vector<std::int32_t>(8, 1),
                                            std::vector<std::int32_t>{kNone, 5, 6, kNone,  //
                                                                      kNone, kNone, kNone, kNone},
                                            2, 4);
  EXPECT_THAT(batch.lengths.to_vector<std::int32_t>(), ElementsAre(3, 0));
  EXPECT_EQ(batch.batch(), 2);
  EXPECT_EQ(batch.length(), 4);
  EXPECT_THAT(
      [] {
        (void)make_token_batch(std::vector<std::int32_t>(8, 1), std::vector<std::int32_t>(7, 1), 2,
                               4);
      },
      ThrowsMessage<ShapeError>(HasSubstr("8 tokens and 7 targets for [2, 4]")));
}

}  // namespace
}  // namespace metal_candle::testing
