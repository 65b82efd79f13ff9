// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Stopping, being killed, and going on: every loss is that of the unbroken run, to the bit.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "metal_candle/train/metrics.h"
#include "metal_candle/train/trainer.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/toy_model.h"

namespace metal_candle::testing {
namespace {

using ::testing::Each;

/// Stops after an iteration, as a signal handler would.
class StopAfter final : public TrainObserver {
 public:
  StopAfter(std::int64_t iteration, std::atomic<bool>& stop) : iteration_(iteration), stop_(stop) {}
  void on_step(const StepReport& step) override {
    if (step.iteration == iteration_) stop_ = true;
  }

 private:
  std::int64_t iteration_;
  std::atomic<bool>& stop_;
};

template <typename T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

TEST(ResumeTest, AFreshRunReplacesTheCheckpointsOfAnother) {
  /// Whether there are checkpoints after the first iteration.
  class Look final : public TrainObserver {
   public:
    explicit Look(std::string folder) : folder_(std::move(folder)) {}
    void on_step(const StepReport& step) override {
      if (step.iteration == 1) found = latest_checkpoint(folder_).has_value();
    }
    bool found = false;

   private:
    std::string folder_;
  };
  const TemporaryFolder folder;
  ToyRun(stateful_options(folder.path())).run();
  (void)folder.write("notes.txt", "stay");
  Look fresh(folder.path());
  ToyRun(stateful_options(folder.path())).trainer.run(fresh);
  EXPECT_FALSE(fresh.found);
  EXPECT_EQ(folder.read("notes.txt"), "stay");

  TrainOptions longer = stateful_options(folder.path());
  longer.iters += 2;
  ToyRun third(longer);
  third.trainer.restore(*latest_checkpoint(folder.path()));
  const std::string before = *latest_checkpoint(folder.path());
  third.run();
  EXPECT_NE(*latest_checkpoint(folder.path()), before);
  EXPECT_TRUE(std::filesystem::exists(before));
}

TEST(ResumeTest, AStoppedRunGoesOnWhereverItStopped) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    ToyRun unbroken(stateful_options(""), dtype);
    EXPECT_EQ(unbroken.run(), StopReason::kFinished);
    // In the middle of an accumulation, at an update, next to a save, near the end.
    for (const std::int64_t stop_after : {1, 5, 19, 27, 58}) {
      SCOPED_TRACE(stop_after);
      const TemporaryFolder folder;
      Recorder all;
      {
        ToyRun first(stateful_options(folder.path()), dtype);
        std::atomic<bool> stop = false;
        StopAfter stopper(stop_after, stop);
        TrainObservers both({&first.record, &stopper});
        EXPECT_EQ(first.trainer.run(both, &stop), StopReason::kRequested);
        ASSERT_EQ(first.record.stops.size(), 1u);
        const StopReport& report = first.record.stops[0];
        EXPECT_EQ(report.reason, StopReason::kRequested);
        EXPECT_EQ(report.iteration, first.trainer.iteration());
        // One iteration may have been queued by then.
        EXPECT_LE(report.iteration, stop_after + 1);
        EXPECT_EQ(report.checkpoint, checkpoint_path(folder.path(), report.iteration));
        all = first.record;
      }
      ToyRun second(stateful_options(folder.path()), dtype);
      second.trainer.restore(*latest_checkpoint(folder.path()));
      EXPECT_EQ(second.run(), StopReason::kFinished);
      EXPECT_EQ(second.record.starts[0].first_iteration, all.stops[0].iteration + 1);
      append(all.steps, second.record.steps);
      append(all.reports, second.record.reports);
      append(all.evaluations, second.record.evaluations);
      expect_same_record(all, unbroken.record);
    }
  }
}

TEST(ResumeTest, AFinishedRunHasNothingLeftToDo) {
  const TemporaryFolder folder;
  ToyRun first(stateful_options(folder.path()));
  first.run();
  ToyRun second(stateful_options(folder.path()));
  second.trainer.restore(*latest_checkpoint(folder.path()));
  EXPECT_EQ(second.run(), StopReason::kFinished);
  EXPECT_TRUE(second.record.steps.empty());
  EXPECT_TRUE(second.record.saves.empty());
  EXPECT_EQ(second.record.stops[0].iteration, 60);
  // More iterations than before are allowed.
  TrainOptions longer = stateful_options(folder.path());
  longer.iters = 64;
  ToyRun third(longer);
  third.trainer.restore(*latest_checkpoint(folder.path()));
  third.run();
  EXPECT_EQ(third.record.steps.size(), 4u);
}

constexpr const char* kFolderVariable = "METAL_CANDLE_TEST_RESUME_FOLDER";

/// Appends "iteration loss" to a file with one system call, the loss as its bits.
class LossWriter final : public TrainObserver {
 public:
  explicit LossWriter(const std::string& path)
      : descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666)) {}
  ~LossWriter() override { ::close(descriptor_); }
  void on_step(const StepReport& step) override {
    std::ostringstream line;
    line << step.iteration << ' ' << std::hex << std::bit_cast<std::uint64_t>(step.loss) << '\n';
    const std::string text = line.str();
    ASSERT_EQ(::write(descriptor_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

 private:
  int descriptor_;
};

// Trains in the folder, from its latest checkpoint if it has one.
void train_in(const std::string& folder) {
  TrainOptions options = stateful_options(folder + "/checkpoints");
  options.save_every = 2;
  ToyRun run(options);
  if (const auto checkpoint = latest_checkpoint(options.checkpoint_folder)) {
    run.trainer.restore(*checkpoint);
  }
  LossWriter losses(folder + "/losses");
  MetricsWriter metrics(folder + "/metrics.jsonl");
  TrainObservers observers({&losses, &metrics});
  run.trainer.run(observers);
}

/// Makes this program train, instead of running tests, where the variable is set.
class ChildProcess final : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* folder = std::getenv(kFolderVariable);
    if (folder == nullptr) return;
    train_in(folder);
    std::exit(::testing::Test::HasFailure() ? 1 : 0);
  }
};
[[maybe_unused]] const auto* const child_process =
    ::testing::AddGlobalTestEnvironment(new ChildProcess);

pid_t start_child(const std::string& folder) {
  const std::string variable = std::string(kFolderVariable) + "=" + folder;
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  environment.push_back(const_cast<char*>(variable.c_str()));
  environment.push_back(nullptr);
  std::string program = "/proc/self/exe";
  char* arguments[] = {program.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = -1;
  EXPECT_EQ(
      ::posix_spawn(&child, program.c_str(), &actions, nullptr, arguments, environment.data()), 0);
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

std::int64_t count_lines(const std::string& path) {
  std::ifstream file(path);
  return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
}

// Kills the child some iterations, and some moments, from now, wherever that is. Its status.
int let_run_and_kill(pid_t child, const std::string& losses, std::mt19937& engine) {
  const std::int64_t until = count_lines(losses) + static_cast<std::int64_t>(engine() % 5);
  const auto pause = std::chrono::microseconds(engine() % 3000);
  int status = 0;
  while (count_lines(losses) < until) {
    if (::waitpid(child, &status, WNOHANG) == child) return status;
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  std::this_thread::sleep_for(pause);
  ::kill(child, SIGKILL);
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST(ResumeTest, KilledAtAnyMoment) {
  ToyRun unbroken(stateful_options(""));
  unbroken.run();
  const std::vector<double> expected = unbroken.record.losses();

  const TemporaryFolder folder;
  const auto seed = static_cast<std::uint32_t>(::getpid());
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 engine(seed);
  std::set<std::string> resumed_from;
  for (;;) {
    resumed_from.insert(latest_checkpoint(folder / "checkpoints").value_or("the beginning"));
    const pid_t child = start_child(folder.path());
    ASSERT_GT(child, 0);
    const int status = let_run_and_kill(child, folder / "losses", engine);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      break;
    }
    ASSERT_EQ(WTERMSIG(status), SIGKILL);
  }
  EXPECT_GT(resumed_from.size(), 10u);

  // Iterations after the last checkpoint were run again; all losses are what they were.
  std::vector<int> times(expected.size(), 0);
  std::ifstream file(folder / "losses");
  std::int64_t iteration = 0;
  std::uint64_t bits = 0;
  while (file >> std::dec >> iteration >> std::hex >> bits) {
    const auto index = static_cast<std::size_t>(iteration - 1);
    ASSERT_LT(index, expected.size());
    EXPECT_EQ(std::bit_cast<double>(bits), expected[index]) << "iteration " << iteration;
    ++times[index];
  }
  EXPECT_THAT(times, Each(::testing::Ge(1)));

  Recorder recorded;
  Metrics metrics = read_metrics(folder / "metrics.jsonl");
  recorded.steps = unbroken.record.steps;
  recorded.reports = std::move(metrics.reports);
  recorded.evaluations = std::move(metrics.evaluations);
  expect_same_record(recorded, unbroken.record);
}

}  // namespace
}  // namespace metal_candle::testing
