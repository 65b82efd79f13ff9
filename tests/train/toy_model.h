// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A language model and data small enough to train in a blink: an embedding and two linear layers
// that guess the next token from one token, and tokens that follow each other by a rule.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "metal_candle/autograd/tree.h"
#include "metal_candle/train/trainer.h"

namespace metal_candle::testing {

inline constexpr std::int64_t kToyVocabulary = 29;

/// {"embedding": [29, width], "layers": [{"weight", "bias"}, {"weight", "bias"}]}, evaluated.
[[nodiscard]] Tree make_toy_parameters(std::int64_t width = 16, DType dtype = DType::kF32);

/// Dropout of the given rate before the last layer.
[[nodiscard]] LossFunction toy_loss(double dropout = 0);

/// Batches of pseudo-random lengths and tokens, `batches` of them a pass; some targets are ignored.
class ToyBatches final : public BatchSource {
 public:
  explicit ToyBatches(std::int64_t batches = 12, std::uint32_t seed = 1, std::int64_t batch = 3)
      : batches_(batches), seed_(seed), batch_(batch) {}

  std::optional<TokenBatch> next() override;
  [[nodiscard]] std::string state() const override;
  void restore(const std::string& state) override;

 private:
  std::int64_t batches_;
  std::uint32_t seed_;
  std::int64_t batch_;
  std::int64_t pass_ = 0;
  std::int64_t position_ = 0;
};

/// Remembers everything it is told.
class Recorder final : public TrainObserver {
 public:
  void on_start(const TrainStart& start) override { starts.push_back(start); }
  void on_step(const StepReport& step) override { steps.push_back(step); }
  void on_report(const TrainReport& report) override { reports.push_back(report); }
  void on_evaluate(const EvaluationReport& report) override { evaluations.push_back(report); }
  void on_save(const SaveReport& report) override { saves.push_back(report); }
  void on_stop(const StopReport& report) override { stops.push_back(report); }

  [[nodiscard]] std::vector<double> losses() const;

  std::vector<TrainStart> starts;
  std::vector<StepReport> steps;
  std::vector<TrainReport> reports;
  std::vector<EvaluationReport> evaluations;
  std::vector<SaveReport> saves;
  std::vector<StopReport> stops;
};

/// Fails unless both saw the same: all but times and memory, to the bit.
void expect_same_record(const Recorder& actual, const Recorder& expected);

/// Options in which everything has a state: moments, accumulation, a schedule, several passes over
/// the data, reports that lie between checkpoints. No checkpoints if folder is empty.
[[nodiscard]] TrainOptions stateful_options(const std::string& folder);

/// The toy model in training, with dropout.
struct ToyRun {
  ToyBatches training;
  ToyBatches validation{3, 99};
  Recorder record;
  Trainer trainer;

  explicit ToyRun(const TrainOptions& options, DType dtype = DType::kF32)
      : trainer(options, toy_loss(0.2), make_toy_parameters(16, dtype), training, &validation) {}
  StopReason run(const std::atomic<bool>* stop = nullptr) { return trainer.run(record, stop); }
};

}  // namespace metal_candle::testing
