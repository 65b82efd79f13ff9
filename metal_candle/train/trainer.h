// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The training loop. It knows a tree of parameters, a loss function and a source of batches, and no
// model.
//
//   Trainer trainer({.iters = 600, .checkpoint_folder = "adapters/checkpoints"}, loss,
//                   std::move(parameters), batches, &validation);
//   if (auto path = latest_checkpoint("adapters/checkpoints")) trainer.restore(*path);
//   trainer.run(observer);
//
// An iteration is one batch, as in mlx-lm. With grad_accumulation_steps = n, the parameters are
// updated after every n-th iteration (and after the last one, with what there is) by the gradient
// of the mean loss over all target tokens of those n batches: what one batch of them all would
// give.
//
// Given the same parameters, options, batches and loss function, every loss is the same to the bit,
// whether the run is unbroken or was stopped, or killed, and resumed.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "metal_candle/autograd/tree.h"
#include "metal_candle/core/error.h"
#include "metal_candle/graph/tensor.h"
#include "metal_candle/train/batch.h"
#include "metal_candle/train/checkpoint.h"
#include "metal_candle/train/observer.h"
#include "metal_candle/train/optimizer.h"
#include "metal_candle/train/schedule.h"

namespace metal_candle {

/// Training that cannot go on: a loss that is not finite, data that has run out, a checkpoint of
/// another run.
class TrainError : public Error {
 public:
  using Error::Error;
};

struct LossAndCount {
  Tensor loss;   // f32 []: summed over target tokens.
  Tensor count;  // Integer []: how many target tokens there are.
};

/// Lazy and differentiable in params. `key` is for dropout: another one each iteration, and empty
/// when evaluating, where there is no dropout. Must build the same graph for batches of one shape,
/// or every step needs a plan of its own.
using LossFunction =
    std::function<LossAndCount(const Tree& params, const TokenBatch& batch, const Tensor& key)>;

struct TrainOptions {
  std::int64_t iters = 1000;
  int grad_accumulation_steps = 1;

  double learning_rate = 1e-5;
  Decay lr_schedule = Decay::kConstant;
  std::int64_t warmup = 0;         // Updates.
  double warmup_init = 0;          // The learning rate that the warm-up begins with.
  std::int64_t decay_steps = 0;    // Updates; 0: to the last one. See LearningRateSchedule.
  double final_learning_rate = 0;  // After the decay; not of a constant schedule.
  AdamWOptions optimizer = {};
  double max_grad_norm = 1;  // Gradients are clipped to this global norm; 0: they are not.

  std::int64_t steps_per_report = 10;
  std::int64_t steps_per_eval = 200;
  std::int64_t val_batches = 25;  // -1: all.
  std::int64_t save_every = 100;
  std::string checkpoint_folder = {};  // Empty: no checkpoints are written.
  int keep_checkpoints = 2;

  std::uint64_t seed = 0;
  /// What else makes the run what it is: the model, the data, the batch size. Reported, and
  /// compared with those of a checkpoint before resuming.
  Settings settings = {};
};

/// Not thread safe: one thread runs it. Others may set the flag that stops it.
class Trainer {
 public:
  /// `parameters` are overwritten in place if handed over (std::move) and held by nobody else.
  /// `validation` may be null. The sources and what loss refers to must outlive the trainer. Throws
  /// Error naming an option that is out of range, DTypeError for a parameter that is not floating.
  Trainer(TrainOptions options, LossFunction loss, Tree parameters, BatchSource& training,
          BatchSource* validation = nullptr);

  /// Goes on from a checkpoint, before run(). Throws TrainError naming the option in which its run
  /// differs from this one; iters, intervals and folders may differ. Throws FormatError naming a
  /// tensor that is missing or of another shape.
  void restore(const std::string& path);

  /// Trains until iteration `iters`, or until *stop (which a signal handler may set) is true: then
  /// finishes the iteration under way. Saves in both cases if there is a checkpoint_folder; unless
  /// it has been restored, it first removes the checkpoints of another run from there. Throws
  /// TrainError naming the iteration and the last checkpoint when a loss or gradient is not finite:
  /// such parameters are never saved. Throws IoError when a checkpoint cannot be written. After
  /// that or an error of the observer, the trainer is whole: run() goes on, save() tries again.
  StopReason run(TrainObserver& observer, const std::atomic<bool>* stop = nullptr);

  /// Writes a checkpoint now; returns its path. Throws as run() does, and Error without a
  /// checkpoint_folder.
  std::string save();

  /// The loss over up to `batches` batches (-1: all) of a pass over the source from where it is,
  /// without dropout.
  [[nodiscard]] EvaluationReport evaluate(BatchSource& source, std::int64_t batches) const;

  [[nodiscard]] const Tree& parameters() const { return parameters_; }
  /// How many iterations have been trained, or queued to be.
  [[nodiscard]] std::int64_t iteration() const { return iteration_; }
  /// The options as they are reported and compared.
  [[nodiscard]] Settings settings() const;

 private:
  // Counters that a resumed run needs in order to report what the unbroken one would.
  struct Progress {
    std::int64_t updates = 0;  // Queued.
    std::int64_t trained_tokens = 0;
    double seconds = 0;
    // Since the last report.
    double interval_loss = 0;
    std::int64_t interval_tokens = 0;
    std::int64_t interval_iterations = 0;
    double interval_seconds = 0;
    // Of the last update.
    double learning_rate = 0;
    double gradient_norm = 0;

    // Calls visit(name, field) for each, with the names that checkpoints have.
    template <typename Self, typename Visit>
    static void for_each(Self& progress, Visit&& visit) {
      visit("updates", progress.updates);
      visit("trained_tokens", progress.trained_tokens);
      visit("seconds", progress.seconds);
      visit("interval_loss", progress.interval_loss);
      visit("interval_tokens", progress.interval_tokens);
      visit("interval_iterations", progress.interval_iterations);
      visit("interval_seconds", progress.interval_seconds);
      visit("learning_rate", progress.learning_rate);
      visit("gradient_norm", progress.gradient_norm);
    }
  };
  // An iteration that has been queued and whose loss has not been read.
  struct Pending {
    StepReport report;
    Tensor loss, count, gradient_norm;  // gradient_norm is empty without an update.
    std::int64_t batch_elements = 0;
  };
  // A built iteration: lazy, nothing changed yet.
  struct Step;

  [[nodiscard]] Step build_step(const TokenBatch& batch, bool update);
  void sort_gradients(const Tree& gradients);
  void begin_iteration(TrainObserver& observer);
  void queue_step(const TokenBatch& batch);
  [[nodiscard]] TokenBatch next_batch();
  void resolve_oldest(TrainObserver* observer);
  void resolve_all(TrainObserver* observer);
  void report(TrainObserver& observer, std::int64_t iteration);
  [[nodiscard]] TrainStart start_report();
  void evaluate_and_report(TrainObserver& observer);
  void save_and_report(TrainObserver& observer);
  [[nodiscard]] Checkpoint make_checkpoint() const;
  [[nodiscard]] double lap();

  TrainOptions options_;
  LearningRateSchedule schedule_;
  AdamW optimizer_;
  LossFunction loss_;
  BatchSource& training_;
  BatchSource* validation_;
  std::string validation_start_;  // Its state before the first batch.
  Tensor key_;

  Tree parameters_;
  Tree state_;                // Of the optimizer.
  Tree accumulated_;          // Gradients of losses summed since the last update; or empty.
  Tensor accumulated_count_;  // Their target tokens.
  std::vector<std::size_t> gradient_order_;
  std::int64_t iteration_ = 0;  // Queued.
  Progress progress_;
  std::deque<Pending> pending_;
  std::string last_checkpoint_;
  std::int64_t saved_iteration_ = -1;
  bool failed_ = false;  // The parameters are not finite.
  double lap_start_ = 0;
};

}  // namespace metal_candle
