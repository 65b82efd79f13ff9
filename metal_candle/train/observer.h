// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What a training run tells whoever watches it: a terminal, a metrics file, a report, a user
// interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace metal_candle {

/// Names and values as they are shown to people, in order.
using Settings = std::vector<std::pair<std::string, std::string>>;

/// Before the first iteration.
struct TrainStart {
  std::int64_t first_iteration = 1;  // More than 1 when resumed.
  std::int64_t iterations = 0;       // The last one.
  std::int64_t parameters = 0;       // Trainable elements.
  std::size_t parameter_tensors = 0;
  /// All memory of tensors at the worst moment of a training step: what is in use already, and what
  /// the plan of the longest batch (the next one, if the source does not know its longest) adds.
  std::size_t predicted_peak_bytes = 0;
  std::size_t kernels = 0;  // That such a step runs.
  Settings settings;
};

/// Of one iteration, which is one batch. Told once its loss has been read, when the next iteration
/// may be under way.
struct StepReport {
  std::int64_t iteration = 0;  // From 1.
  double loss = 0;             // Mean over the batch's target tokens.
  std::int64_t tokens = 0;     // Target tokens.
  bool updated = false;        // Whether the parameters were; not while gradients accumulate.
  double learning_rate = 0;    // Of the update.
  double gradient_norm = 0;    // Of the update, before clipping.
};

/// Every steps_per_report iterations, and after the last.
struct TrainReport {
  std::int64_t iteration = 0;
  double loss = 0;               // Mean over the target tokens since the last report.
  double learning_rate = 0;      // Of the last update.
  double gradient_norm = 0;      // Of the last update, before clipping.
  double tokens_per_second = 0;  // Target tokens, while training: without evaluation and saving.
  double iterations_per_second = 0;
  std::int64_t trained_tokens = 0;  // Since iteration 1.
  double seconds = 0;               // Of training since iteration 1.
  std::size_t peak_memory = 0;      // Bytes: MemoryUse::peak.
};

/// Before the first iteration, every steps_per_eval iterations, and after the last.
struct EvaluationReport {
  std::int64_t iteration = 0;  // How many have been trained.
  double loss = 0;             // Mean over target tokens.
  double perplexity = 0;       // exp(loss).
  std::int64_t tokens = 0;
  double seconds = 0;
};

/// A checkpoint is safely on disk.
struct SaveReport {
  std::int64_t iteration = 0;
  std::string path;
};

enum class StopReason : std::uint8_t { kFinished, kRequested };

struct StopReport {
  StopReason reason = StopReason::kFinished;
  std::int64_t iteration = 0;
  std::string checkpoint;  // Empty without checkpoints.
};

/// Each function does nothing unless overridden. Called on the thread that runs the trainer. What a
/// function throws leaves Trainer::run(), which may be called again to go on.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_start(const TrainStart& /*start*/) {}
  virtual void on_step(const StepReport& /*step*/) {}
  virtual void on_report(const TrainReport& /*report*/) {}
  virtual void on_evaluate(const EvaluationReport& /*report*/) {}
  virtual void on_save(const SaveReport& /*report*/) {}
  virtual void on_stop(const StopReport& /*report*/) {}
};

/// Tells several observers, in order.
class TrainObservers final : public TrainObserver {
 public:
  explicit TrainObservers(std::vector<TrainObserver*> observers)
      : observers_(std::move(observers)) {}
  void on_start(const TrainStart& start) override {
    for (TrainObserver* observer : observers_) observer->on_start(start);
  }
  void on_step(const StepReport& step) override {
    for (TrainObserver* observer : observers_) observer->on_step(step);
  }
  void on_report(const TrainReport& report) override {
    for (TrainObserver* observer : observers_) observer->on_report(report);
  }
  void on_evaluate(const EvaluationReport& report) override {
    for (TrainObserver* observer : observers_) observer->on_evaluate(report);
  }
  void on_save(const SaveReport& report) override {
    for (TrainObserver* observer : observers_) observer->on_save(report);
  }
  void on_stop(const StopReport& report) override {
    for (TrainObserver* observer : observers_) observer->on_stop(report);
  }

 private:
  std::vector<TrainObserver*> observers_;
};

}  // namespace metal_candle
