// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The loop: iterations are queued here, and their losses read one iteration late, so that the
// device works on one while the next is built. How an iteration is built is in trainer_step.cpp;
// what a checkpoint holds, in trainer_state.cpp.
#include "metal_candle/train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/execute/profiler.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

}  // namespace

StopReason Trainer::run(TrainObserver& observer, const std::atomic<bool>* stop) {
  const auto stop_requested = [&] { return stop != nullptr && stop->load(); };
  if (iteration_ < options_.iters) observer.on_start(start_report());
  // Neither saved nor restored: this run replaces the one whose checkpoints are there.
  if (!options_.checkpoint_folder.empty() && saved_iteration_ < 0)
    remove_checkpoints(options_.checkpoint_folder);
  // After an error of the observer, losses may be left to read.
  resolve_all(&observer);
  if (iteration_ == 0 && validation_ != nullptr) evaluate_and_report(observer);
  (void)lap();
  while (iteration_ < options_.iters && !stop_requested()) {
    begin_iteration(observer);
    while (pending_.size() > 1) resolve_oldest(&observer);
    const bool last = iteration_ == options_.iters;
    const bool evaluates =
        validation_ != nullptr && (last || iteration_ % options_.steps_per_eval == 0);
    const bool saves =
        !options_.checkpoint_folder.empty() && (last || iteration_ % options_.save_every == 0);
    if (last || evaluates || saves) resolve_all(&observer);
    if (evaluates) evaluate_and_report(observer);
    if (saves) save_and_report(observer);
    if (evaluates || saves) (void)lap();
  }
  resolve_all(&observer);
  if (!options_.checkpoint_folder.empty() && saved_iteration_ != iteration_) {
    save_and_report(observer);
  }
  const StopReason reason =
      iteration_ < options_.iters ? StopReason::kRequested : StopReason::kFinished;
  observer.on_stop({reason, iteration_, last_checkpoint_});
  return reason;
}

void Trainer::begin_iteration(TrainObserver& observer) {
  const std::int64_t iteration = iteration_;
  const std::string data = training_.state();
  try {
    const TokenBatch batch = next_batch();
    // Iterations share the memory of their intermediates, unless the later one needs more.
    if (!pending_.empty() && batch.tokens.size() > pending_.back().batch_elements) {
      resolve_all(&observer);
    }
    queue_step(batch);
  } catch (...) {
    if (iteration_ == iteration) training_.restore(data);
    throw;
  }
}

TokenBatch Trainer::next_batch() {
  // A pass may end here; the next one must have something.
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (std::optional<TokenBatch> batch = training_.next()) return *std::move(batch);
  }
  throw TrainError("the training data gives no batches");
}

void Trainer::resolve_all(TrainObserver* observer) {
  while (!pending_.empty()) resolve_oldest(observer);
}

void Trainer::resolve_oldest(TrainObserver* observer) {
  // Taken out first: whatever is thrown below, it has been read.
  const Pending pending = std::move(pending_.front());
  pending_.pop_front();
  StepReport step = pending.report;
  const double sum = pending.loss.item<double>();
  step.tokens = pending.count.item<std::int64_t>();
  step.loss = ratio(sum, static_cast<double>(step.tokens));
  if (step.updated) step.gradient_norm = pending.gradient_norm.item<double>();
  if (!std::isfinite(sum) || !std::isfinite(step.gradient_norm)) {
    failed_ = true;
    throw TrainError(fmt::format(
        "iteration {}: the {} is {}; {}. A lower learning rate, warm-up or clipping may help",
        step.iteration, std::isfinite(sum) ? "norm of the gradient" : "loss",
        std::isfinite(sum) ? step.gradient_norm : sum,
        last_checkpoint_.empty() ? "there is no checkpoint before it"
                                 : fmt::format("the last good checkpoint is {} (iteration {})",
                                               last_checkpoint_, saved_iteration_)));
  }
  progress_.trained_tokens += step.tokens;
  progress_.interval_loss += sum;
  progress_.interval_tokens += step.tokens;
  progress_.interval_iterations += 1;
  if (step.updated) {
    progress_.learning_rate = step.learning_rate;
    progress_.gradient_norm = step.gradient_norm;
  }
  const double seconds = lap();
  progress_.interval_seconds += seconds;
  progress_.seconds += seconds;
  if (observer == nullptr) return;
  observer->on_step(step);
  if (step.iteration % options_.steps_per_report == 0 || step.iteration == options_.iters) {
    report(*observer, step.iteration);
  }
}

void Trainer::report(TrainObserver& observer, std::int64_t iteration) {
  TrainReport report;
  report.iteration = iteration;
  report.loss = ratio(progress_.interval_loss, static_cast<double>(progress_.interval_tokens));
  report.learning_rate = progress_.learning_rate;
  report.gradient_norm = progress_.gradient_norm;
  report.tokens_per_second =
      ratio(static_cast<double>(progress_.interval_tokens), progress_.interval_seconds);
  report.iterations_per_second =
      ratio(static_cast<double>(progress_.interval_iterations), progress_.interval_seconds);
  report.trained_tokens = progress_.trained_tokens;
  report.seconds = progress_.seconds;
  report.peak_memory = memory_use(key_.device()).peak;
  progress_.interval_loss = 0;
  progress_.interval_tokens = 0;
  progress_.interval_iterations = 0;
  progress_.interval_seconds = 0;
  observer.on_report(report);
}

EvaluationReport Trainer::evaluate(BatchSource& source, std::int64_t batches) const {
  const ProfileScope range("validation");
  const double start = now();
  double sum = 0;
  EvaluationReport report;
  report.iteration = iteration_;
  std::deque<LossAndCount> queued;
  std::int64_t elements = 0;
  const auto read_oldest = [&] {
    sum += queued.front().loss.item<double>();
    report.tokens += queued.front().count.item<std::int64_t>();
    queued.pop_front();
  };
  for (std::int64_t i = 0; i != batches; ++i) {
    const std::optional<TokenBatch> batch = source.next();
    if (!batch) break;
    LossAndCount result = loss_(parameters_, batch->to(key_.device()), Tensor());
    result.count = astype(result.count, DType::kI64);
    if (batch->tokens.size() > elements && !queued.empty()) read_oldest();
    elements = batch->tokens.size();
    (void)eval_async(result.loss, result.count);
    queued.push_back(std::move(result));
    if (queued.size() > 1) read_oldest();
  }
  while (!queued.empty()) read_oldest();
  if (report.tokens == 0) throw TrainError("evaluation: the data has no target tokens");
  report.loss = sum / static_cast<double>(report.tokens);
  report.perplexity = std::exp(report.loss);
  report.seconds = now() - start;
  return report;
}

void Trainer::evaluate_and_report(TrainObserver& observer) {
  validation_->restore(validation_start_);
  observer.on_evaluate(evaluate(*validation_, options_.val_batches));
}

std::string Trainer::save() {
  const ProfileScope range("checkpoint");
  if (options_.checkpoint_folder.empty()) throw Error("Trainer::save: no checkpoint_folder is set");
  if (!failed_) resolve_all(nullptr);
  if (failed_) {
    throw TrainError("the parameters are not finite and are not saved; resume from a checkpoint");
  }
  last_checkpoint_ =
      write_checkpoint(options_.checkpoint_folder, make_checkpoint(), options_.keep_checkpoints);
  saved_iteration_ = iteration_;
  return last_checkpoint_;
}

void Trainer::save_and_report(TrainObserver& observer) {
  const std::string path = save();
  observer.on_save({iteration_, path});
}

double Trainer::lap() {
  const double time = now();
  return time - std::exchange(lap_start_, time);
}

}  // namespace metal_candle
