// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Losses that are not finite, disks that are full, folders that cannot be written, observers that
// throw: what is on disk stays good, and the trainer goes on where it can.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/train/metrics.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/toy_model.h"

namespace metal_candle::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::int32_t kPoison = static_cast<std::int32_t>(kToyVocabulary) - 1;
constexpr std::int64_t kPoisoned = 14;  // The iteration.

/// Batches of harmless tokens, but for one that is nothing but poison.
class PoisonedBatches final : public BatchSource {
 public:
  std::optional<TokenBatch> next() override {
    const std::int32_t token =
        ++count_ == kPoisoned ? kPoison : static_cast<std::int32_t>(count_ % 7);
    const std::vector<std::int32_t> tokens(12, token);
    const std::vector<std::int32_t> targets(12, 3);
    return make_token_batch(tokens, targets, 3, 4);
  }
  [[nodiscard]] std::string state() const override { return std::to_string(count_); }
  void restore(const std::string& state) override { count_ = std::stol(state); }

 private:
  std::int64_t count_ = 0;
};

Tensor is_poisoned(const TokenBatch& batch) {
  return max(astype(batch.tokens == kPoison, DType::kF32));
}

/// The toy's loss, infinite in the poisoned batch.
LossAndCount infinite_loss(const Tree& params, const TokenBatch& batch, const Tensor& key) {
  LossAndCount result = toy_loss()(params, batch, key);
  result.loss = result.loss / (1.0 - is_poisoned(batch));
  return result;
}

/// The toy's loss, which is finite in the poisoned batch but has no gradient there: that of the
/// square root at 0.
LossAndCount infinite_gradient(const Tree& params, const TokenBatch& batch, const Tensor& key) {
  LossAndCount result = toy_loss()(params, batch, key);
  const Tensor weight = sum(params.tensor("embedding"));
  result.loss = result.loss + sqrt(square(weight) * (1.0 - is_poisoned(batch)));
  return result;
}

bool all_finite(const Tensor& tensor) {
  return all(isfinite(astype(tensor, DType::kF32))).item<bool>();
}

TEST(TrainerFailureTest, StopsWhereALossOrAGradientIsNotFinite) {
  for (const bool in_the_loss : {true, false}) {
    const TemporaryFolder folder;
    TrainOptions options = stateful_options(folder.path());
    options.grad_accumulation_steps = 1;
    options.save_every = 5;
    PoisonedBatches training;
    Trainer trainer(options, in_the_loss ? infinite_loss : infinite_gradient, make_toy_parameters(),
                    training);
    Recorder record;
    const std::string good = checkpoint_path(folder.path(), 10);
    EXPECT_THAT([&] { trainer.run(record); },
                ThrowsMessage<TrainError>(AllOf(
                    HasSubstr("iteration 14: the " +
                              std::string(in_the_loss ? "loss is inf" : "norm of the gradient")),
                    HasSubstr(good), HasSubstr("(iteration 10)"), HasSubstr("learning rate"))));
    EXPECT_EQ(record.steps.size(), 13u);
    EXPECT_TRUE(record.stops.empty());
    // It neither saves nor goes on.
    EXPECT_THAT([&] { trainer.save(); }, ThrowsMessage<TrainError>(HasSubstr("not finite")));
    EXPECT_THROW(trainer.run(record), TrainError);
    EXPECT_EQ(latest_checkpoint(folder.path()), good);
    for (const auto& [name, tensor] : read_checkpoint(good).tensors) {
      EXPECT_TRUE(all_finite(tensor)) << name;
    }
    // What was wrong is put right: it goes on from the checkpoint.
    Trainer again(options, toy_loss(), make_toy_parameters(), training);
    again.restore(good);
    EXPECT_EQ(again.run(record), StopReason::kFinished);
  }
}

TEST(TrainerFailureTest, AnInfiniteLossBeforeAnyCheckpoint) {
  TrainOptions options = stateful_options("");
  PoisonedBatches training;
  Trainer trainer(options, infinite_loss, make_toy_parameters(), training);
  Recorder record;
  EXPECT_THAT([&] { trainer.run(record); },
              ThrowsMessage<TrainError>(HasSubstr("there is no checkpoint before it")));
}

TEST(TrainerFailureTest, AFullDiskLosesNothing) {
  ToyRun unbroken(stateful_options(""));
  unbroken.run();

  const TemporaryFolder folder;
  ToyRun run(stateful_options(folder.path()));
  {
    // The first checkpoint does not fit.
    const FileSizeLimit full(1000);
    EXPECT_THAT([&] { run.run(); },
                ThrowsMessage<IoError>(HasSubstr(checkpoint_path(folder.path(), 4))));
    EXPECT_EQ(folder.num_files(), 0u);
    EXPECT_THROW(run.trainer.save(), IoError);
  }
  EXPECT_EQ(run.trainer.iteration(), 4);
  EXPECT_EQ(run.trainer.save(), checkpoint_path(folder.path(), 4));
  EXPECT_EQ(run.run(), StopReason::kFinished);
  expect_same_record(run.record, unbroken.record);
}

TEST(TrainerFailureTest, AFullDiskLeavesTheLastCheckpoint) {
  const TemporaryFolder folder;
  std::atomic<bool> stop = true;
  ToyRun run(stateful_options(folder.path()));
  run.run(&stop);
  const std::string first = checkpoint_path(folder.path(), 0);
  EXPECT_EQ(latest_checkpoint(folder.path()), first);
  {
    const FileSizeLimit full(1000);
    EXPECT_THROW(run.run(), IoError);
  }
  EXPECT_EQ(folder.num_files(), 1u);
  EXPECT_EQ(read_checkpoint(first).iteration, 0);
}

TEST(TrainerFailureTest, FoldersThatCannotBeWritten) {
  const TemporaryFolder folder;
  folder.write("file", "not a folder");
  ToyRun run(stateful_options(folder / "file/checkpoints"));
  EXPECT_THAT([&] { run.run(); },
              ThrowsMessage<IoError>(
                  AllOf(HasSubstr(folder / "file/checkpoints"), HasSubstr("Not a directory"))));
  EXPECT_EQ(run.trainer.iteration(), 0);  // Found before anything is trained.
  EXPECT_THAT([&] { (void)latest_checkpoint(folder / "file"); },
              ThrowsMessage<IoError>(HasSubstr(folder / "file")));

  MetricsWriter metrics(folder / "none/metrics.jsonl");
  EXPECT_THAT([&] { run.trainer.run(metrics); },
              ThrowsMessage<IoError>(
                  AllOf(HasSubstr(folder / "none/metrics.jsonl"), HasSubstr("No such file"))));
  ToyRun without_folder(stateful_options(""));
  EXPECT_THAT([&] { without_folder.trainer.save(); },
              ThrowsMessage<Error>(HasSubstr("no checkpoint_folder")));
}

/// Throws at the given calls.
class Thrower final : public TrainObserver {
 public:
  explicit Thrower(Recorder& record) : record_(record) {}
  void on_start(const TrainStart& start) override { record_.on_start(start); }
  void on_step(const StepReport& step) override {
    record_.on_step(step);
    maybe_throw();
  }
  void on_report(const TrainReport& report) override {
    record_.on_report(report);
    maybe_throw();
  }
  void on_evaluate(const EvaluationReport& report) override { record_.on_evaluate(report); }
  int throws = 0;

 private:
  void maybe_throw() {
    if (++calls_ % 6 != 0) return;
    ++throws;
    throw std::runtime_error("the observer is unwell");
  }
  Recorder& record_;
  int calls_ = 0;
};

TEST(TrainerFailureTest, GoesOnAfterAnObserverHasThrown) {
  TrainOptions options = stateful_options("");
  // The report of an iteration whose on_step() has thrown is not made up for.
  options.steps_per_report = options.iters + 1;
  ToyRun unbroken(options);
  unbroken.run();
  ToyRun run(options);
  Thrower thrower(run.record);
  for (bool finished = false; !finished;) {
    try {
      run.trainer.run(thrower);
      finished = true;
    } catch (const std::runtime_error&) {
    }
  }
  EXPECT_GT(thrower.throws, 5);
  EXPECT_EQ(run.record.losses(), unbroken.record.losses());
}

TEST(TrainerFailureTest, RunningOutOfMemoryIsNotTheEnd) {
  TrainOptions options = stateful_options("");
  ToyRun unbroken(options);
  unbroken.run();
  ToyRun run(options);
  const std::size_t limit = memory_use().limit;
  synchronize();
  set_memory_limit(memory_use().in_use + 30000);
  EXPECT_THROW(run.run(), OutOfMemoryError);
  set_memory_limit(limit);
  run.run();
  EXPECT_EQ(run.record.losses(), unbroken.record.losses());
}

}  // namespace
}  // namespace metal_candle::testing
