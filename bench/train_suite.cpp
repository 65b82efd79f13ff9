// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See train_suite.h. A step is some sequences, forward and backward through the whole model, and an
// update of the adapter by AdamW with the gradient clipped; its loss is read.
#include "bench/train_suite.h"

#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "bench/memory.h"
#include "bench/model_case.h"
#include "bench/start.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/train/fine_tune.h"

namespace metal_candle::bench {
namespace {

constexpr int kRounds = 7;
constexpr double kMaxSeconds = 40;  // The rate of memory changes in between.
constexpr double kTurnSeconds = 0.3;

constexpr const char *kTokens = "tokens trained", *kLoss = "loss of the first step",
                     *kMemory = "peak memory";

// Sequences of a step, and what it should reach on an H200.
struct Size {
  std::int64_t batch, length;
  std::optional<double> tokens_per_second, gigabytes;

  [[nodiscard]] std::string text() const { return fmt::format("{} {}", batch, length); }
  [[nodiscard]] double tokens() const { return static_cast<double>(batch * length); }
};

std::vector<Size> sizes() {
  if (default_device() == Device::cpu()) return {{1, 128, {}, {}}};
  return {{2, 128, 40'000, {}}, {4, 512, 180'000, {}}, {8, 2048, 230'000, 12.9}};
}

Dataset some_tokens(const Decoder& model, const Size& size) {
  TokenSequence sequence;
  for (std::int64_t i = 0; i <= size.length; ++i) {
    sequence.tokens.push_back(static_cast<std::int32_t>(i * 7 % model.config().vocab_size));
  }
  return Dataset::of(std::vector<TokenSequence>(static_cast<std::size_t>(size.batch), sequence),
                     "bench");
}

FineTuneOptions options_for(const Size& size, std::int64_t iterations) {
  FineTuneOptions options;
  options.lora = {.rank = 8, .alpha = 16, .target_modules = {"q_proj", "v_proj"}};
  options.num_layers = -1;
  options.batch_size = size.batch;
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
    last_ = wall_seconds();
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
  Training(const Decoder& model, const Size& size)
      : tuner_(model, some_tokens(model, size), options_for(size, std::int64_t{1} << 40)) {}

  double seconds_a_step(int steps, double seconds) {
    StepTimer timer(steps, seconds);
    tuner_.run(timer, &timer.stop());
    return timer.seconds_a_step();
  }

 private:
  FineTuner tuner_;
};

double loss_of_first_step(const Decoder& model, const Size& size) {
  FineTuner tuner(model, some_tokens(model, size), options_for(size, 1));
  StepTimer timer(1, 0);
  tuner.run(timer);
  return timer.loss();
}

// Where there are several sizes, rows say which.
std::string with_size(const char* what, const Size& size) {
  if (sizes().size() == 1) return what;
  return fmt::format("{}, {} x {}", what, size.batch, size.length);
}
std::string row_name(const ModelCase& c, const char* what, const Size& size) {
  return c.row(with_size(what, size));
}

std::vector<std::string> all_rows() {
  std::vector<std::string> rows = start_row_names("step");
  for (const Size& size : sizes()) {
    for (const char* what : {kTokens, kLoss, kMemory}) rows.push_back(with_size(what, size));
  }
  return rows;
}

void memory_row(Table& table, const ModelCase& c, const Decoder& model, const Size& size) {
  const std::string name = row_name(c, kMemory, size);
  if (!table.wants(name)) return;
  clear_memory_cache();
  const auto ours = peak_bytes([&] { Training(model, size).seconds_a_step(2, 0); });
  Row row{.name = name, .unit = "MB"};
  if (ours) row.value = 1e-6 * *ours;
  PeerValues peers = c.ask("trainpeak " + size.text());
  for (double& value : peers) value *= 1e-6;
  row = c.compare(row, peers);
  judge_ratio(row, Bound::kAtMost, 1);
  if (size.gigabytes) judge_value(row, Bound::kAtMost, 1e3 * *size.gigabytes);
  c.add(table, row, peers);
}

std::string tune_command(const Size& size) { return "tune " + size.text(); }

// That all compute the same.
void loss_row(Table& table, const ModelCase& c, const Decoder& model, const Size& size) {
  const std::string name = row_name(c, kLoss, size);
  if (!table.wants(name)) return;
  const Row row{.name = name, .value = loss_of_first_step(model, size), .unit = "nats"};
  const PeerValues peers = c.ask(tune_command(size));
  c.add(table, c.compare(row, peers), peers);
}

void speed_row(Table& table, const ModelCase& c, const Decoder& model, const Size& size) {
  const std::string name = row_name(c, kTokens, size);
  if (!table.wants(name)) return;
  const bool on_cpu = default_device() == Device::cpu();
  Training training(model, size);
  const std::string turn = fmt::format("{} {}", size.text(), kTurnSeconds);
  std::vector<Contestant> contestants = c.contestants("train " + turn);
  contestants.emplace_back([&] { return training.seconds_a_step(1, kTurnSeconds); });
  const bool compiled = !on_cpu && c.torch() != nullptr;
  if (compiled) {
    add_compiling_row(table, c, name, "tunecompiled " + size.text());
    contestants.push_back(c.torch()->contestant("traincompiled " + turn));
  }
  PeerValues rates = compete(contestants, kRounds, kMaxSeconds);
  for (double& rate : rates) rate = size.tokens() / rate;
  const std::size_t ours = c.peers.size();
  Row row = c.compare({.name = name, .value = rates[ours], .unit = "token/s"}, rates);
  if (!on_cpu) row.reference_name = "torch.compile";
  if (compiled && !std::isnan(rates.back())) {
    row.reference = rates.back();
    row.note = fmt::format("PyTorch eager {:.0f}", rates[0]);
  }
  judge_ratio(row, Bound::kAtLeast, 1.5);
  if (size.tokens_per_second) judge_value(row, Bound::kAtLeast, *size.tokens_per_second);
  c.add(table, row, rates);
}

}  // namespace

void run_train_suite(Table& table, const std::string& folder,
                     const std::vector<std::string>& peers) {
  constexpr const char* note =
      "LoRA of rank 8 on q_proj and v_proj, AdamW; one sequence of 128 tokens, "
      "or as many of as many tokens as a row says.";
  for_each_model(table, folder, peers, note, all_rows(), [&](const ModelCase& c) {
    const Decoder model = Decoder::load(c.folder);
    for (const Size& size : sizes()) {
      loss_row(table, c, model, size);
      memory_row(table, c, model, size);
      speed_row(table, c, model, size);
    }
    add_start_rows(table, c, "step", tune_command(sizes()[0]));
  });
}

void train_first_step(const std::string& folder) {
  const Decoder model = Decoder::load(folder);
  answer_start([&] { return loss_of_first_step(model, sizes()[0]); });
}

}  // namespace metal_candle::bench
