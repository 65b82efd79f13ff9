// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See train_suite.h. A step is one sequence, forward and backward through the whole model, and an
// update of the adapter by AdamW with the gradient clipped; its loss is read.
#include "bench/train_suite.h"

#include <fmt/format.h>

#include <atomic>
#include <utility>
#include <vector>

#include "bench/memory.h"
#include "bench/model_case.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/train/fine_tune.h"

namespace metal_candle::bench {
namespace {

constexpr std::int64_t kLength = 128;
constexpr int kRounds = 7;
constexpr double kTurnSeconds = 0.3;

constexpr const char *kTokens = "tokens trained", *kLoss = "loss of the first step",
                     *kMemory = "peak resident memory", *kStart = "process start to first step";
constexpr const char* kRows[] = {kTokens, kLoss, kMemory, kStart};

Dataset some_tokens(const Decoder& model) {
  TokenSequence sequence;
  for (std::int64_t i = 0; i <= kLength; ++i) {
    sequence.tokens.push_back(static_cast<std::int32_t>(i * 7 % model.config().vocab_size));
  }
  return Dataset::of({sequence}, "bench");
}

FineTuneOptions options_for(std::int64_t iterations) {
  FineTuneOptions options;
  options.lora = {.rank = 8, .alpha = 16, .target_modules = {"q_proj", "v_proj"}};
  options.num_layers = -1;
  options.batch_size = 1;
  options.train.iters = iterations;
  return options;
}

// Stops a run when it has taken so many steps, and so long, after its first one. What is told after
// that does not count: the last step of a run is told of at its end, others when the next has
// mostly been computed.
class StepTimer final : public TrainObserver {
 public:
  StepTimer(int steps, double seconds) : least_steps_(steps), least_seconds_(seconds) {}

  void on_step(const StepReport& step) override {
    if (stop_) return;
    last_ = seconds_now();
    if (++steps_ == 1) {
      first_ = last_;
      loss_ = step.loss;
    }
    stop_.store(steps_ > least_steps_ && last_ - first_ >= least_seconds_);
  }

  [[nodiscard]] const std::atomic<bool>& stop() const { return stop_; }
  [[nodiscard]] double loss() const { return loss_; }  // Of the first step.
  [[nodiscard]] double seconds_a_step() const { return (last_ - first_) / (steps_ - 1); }

 private:
  int least_steps_;
  double least_seconds_;
  int steps_ = 0;
  double first_ = 0, last_ = 0, loss_ = 0;
  std::atomic<bool> stop_{false};
};

// A run that goes on whenever it is asked to.
class Training {
 public:
  explicit Training(const Decoder& model)
      : tuner_(model, some_tokens(model), options_for(std::int64_t{1} << 40)) {}

  double seconds_a_step(int steps, double seconds) {
    StepTimer timer(steps, seconds);
    tuner_.run(timer, &timer.stop());
    return timer.seconds_a_step();
  }

 private:
  FineTuner tuner_;
};

double loss_of_first_step(const Decoder& model) {
  FineTuner tuner(model, some_tokens(model), options_for(1));
  StepTimer timer(1, 0);
  tuner.run(timer);
  return timer.loss();
}

void memory_row(Table& table, const ModelCase& c, const Decoder& model) {
  const std::string name = c.row(kMemory);
  if (!table.wants(name)) return;
  clear_memory_cache();
  const auto ours = peak_resident_bytes([&] { Training(model).seconds_a_step(2, 0); });
  Row row{.name = name, .unit = "MB"};
  if (ours) row.value = 1e-6 * *ours;
  row.reference_name = "PyTorch";
  if (c.torch != nullptr) {
    row.reference = 1e-6 * c.torch->measure(fmt::format("trainpeak {}", kLength));
  }
  table.add(judge_ratio(row, Bound::kAtMost, 1));
}

std::string tune_command() { return fmt::format("tune {}", kLength); }

// That both compute the same.
void loss_row(Table& table, const ModelCase& c, const Decoder& model) {
  const std::string name = c.row(kLoss);
  if (!table.wants(name)) return;
  Row row{.name = name, .value = loss_of_first_step(model), .unit = "nats"};
  row.reference_name = "PyTorch";
  if (c.torch != nullptr) row.reference = c.torch->measure(tune_command());
  table.add(row);
}

void speed_row(Table& table, const ModelCase& c, const Decoder& model) {
  const std::string name = c.row(kTokens);
  if (!table.wants(name)) return;
  Training training(model);
  std::vector<Contestant> contestants{[&] { return training.seconds_a_step(1, kTurnSeconds); }};
  if (c.torch != nullptr) {
    contestants.push_back(c.torch->contestant(fmt::format("train {} {}", kLength, kTurnSeconds)));
  }
  const std::vector<double> seconds = compete(contestants, kRounds);
  Row row{.name = name, .value = kLength / seconds[0], .unit = "token/s"};
  row.reference_name = "PyTorch";
  if (seconds.size() > 1) row.reference = kLength / seconds[1];
  table.add(judge_ratio(row, Bound::kAtLeast, 1.5));
}

}  // namespace

void run_train_suite(Table& table, const std::string& folder) {
  const std::string note =
      fmt::format("One sequence of {} tokens; LoRA of rank 8 on q_proj and v_proj.", kLength);
  for_each_model(table, folder, note, kRows, [&](const ModelCase& c) {
    const Decoder model = Decoder::load(c.folder);
    loss_row(table, c, model);
    memory_row(table, c, model);
    speed_row(table, c, model);
    start_row(table, c, kStart, "step", tune_command());
  });
}

void train_first_step(const std::string& folder) {
  static_cast<void>(loss_of_first_step(Decoder::load(folder)));
}

}  // namespace metal_candle::bench
