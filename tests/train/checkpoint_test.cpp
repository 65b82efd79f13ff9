// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Checkpoints as files: which are kept, and which are refused.
#include "metal_candle/train/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "metal_candle/io/safetensors.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/toy_model.h"

namespace metal_candle::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::vector<std::string> sorted_files(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(CheckpointTest, KeepsTheLatestAndDropsWhatIsLeftOver) {
  const TemporaryFolder folder;
  const std::string checkpoints = folder / "deep/checkpoints";
  EXPECT_EQ(latest_checkpoint(checkpoints), std::nullopt);
  Checkpoint checkpoint;
  checkpoint.tensors.emplace("x", Tensor({1.5f, -2.0f}));
  checkpoint.values.emplace("data", "3 \"quoted\"\n");
  checkpoint.settings = {{"z", "1"}, {"a", "é"}};
  for (const std::int64_t iteration : {10, 20, 30}) {
    checkpoint.iteration = iteration;
    EXPECT_EQ(write_checkpoint(checkpoints, checkpoint, 2),
              checkpoint_path(checkpoints, iteration));
  }
  EXPECT_THAT(sorted_files(checkpoints), ::testing::ElementsAre("checkpoint-0000020.safetensors",
                                                                "checkpoint-0000030.safetensors"));
  EXPECT_EQ(latest_checkpoint(checkpoints), checkpoint_path(checkpoints, 30));
  const Checkpoint read = read_checkpoint(checkpoint_path(checkpoints, 30));
  EXPECT_EQ(read.iteration, 30);
  EXPECT_EQ(read.values, checkpoint.values);
  EXPECT_EQ(read.settings, checkpoint.settings);
  EXPECT_EQ(read.tensors.at("x").to_vector<float>(), (std::vector<float>{1.5f, -2.0f}));

  // A new run in the old one's folder; a file of somebody else's; what a crash left.
  std::ofstream(checkpoints + "/notes.txt") << "mine";
  std::ofstream(checkpoints + "/checkpoint-0000040.safetensors.77-0.tmp") << "half";
  EXPECT_EQ(latest_checkpoint(checkpoints), checkpoint_path(checkpoints, 30));
  checkpoint.iteration = 5;
  write_checkpoint(checkpoints, checkpoint, 2);
  EXPECT_THAT(sorted_files(checkpoints),
              ::testing::ElementsAre("checkpoint-0000005.safetensors", "notes.txt"));
}

TEST(CheckpointTest, OfAnotherRunIsRefused) {
  const TemporaryFolder folder;
  TrainOptions options = stateful_options(folder.path());
  options.settings = {{"model", "toy-1"}};
  options.iters = 4;
  ToyRun first(options);
  first.run();
  const std::string path = *latest_checkpoint(folder.path());
  const auto restore = [&](const TrainOptions& others, DType dtype = DType::kF32) {
    ToyRun run(others, dtype);
    run.trainer.restore(path);
  };
  options.iters = 8;
  options.save_every = 100;
  options.steps_per_report = 1;
  options.checkpoint_folder = "elsewhere";
  restore(options);
  TrainOptions other = options;
  other.learning_rate = 2e-2;
  EXPECT_THAT(
      [&] { restore(other); },
      ThrowsMessage<TrainError>(HasSubstr("its run had learning_rate = 0.01, this one has 0.02")));
  other = options;
  other.settings = {{"model", "toy-2"}};
  EXPECT_THAT([&] { restore(other); },
              ThrowsMessage<TrainError>(HasSubstr("model = toy-1, this one has toy-2")));
  other.settings = {{"model", "toy-1"}, {"rank", "8"}};
  EXPECT_THAT([&] { restore(other); },
              ThrowsMessage<TrainError>(HasSubstr("rank = none, this one has 8")));
  EXPECT_THAT([&] { restore(options, DType::kBF16); },
              ThrowsMessage<FormatError>(
                  HasSubstr("parameters.embedding is f32[29, 16], not bf16[29, 16]")));
}

TEST(CheckpointTest, MalformedOnesAreRefusedAndChangeNothing) {
  const TemporaryFolder folder;
  TrainOptions options = stateful_options(folder / "good");
  options.iters = 4;
  ToyRun first(options);
  first.run();
  const std::string good = *latest_checkpoint(folder / "good");
  ToyRun run(options);
  const auto expect_refused = [&](const std::string& path, const char* why) {
    EXPECT_THAT([&] { run.trainer.restore(path); }, ThrowsMessage<Error>(HasSubstr(path)));
    EXPECT_THAT([&] { run.trainer.restore(path); }, ThrowsMessage<Error>(HasSubstr(why)));
  };
  expect_refused(folder / "none.safetensors", "No such file");
  std::ifstream file(good, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  expect_refused(folder.write("short.safetensors", bytes.substr(0, bytes.size() - 1)), "");
  save_safetensors(folder / "plain.safetensors", {{"x", Tensor({1.0f})}});
  expect_refused(folder / "plain.safetensors", "not a checkpoint");

  Checkpoint checkpoint = read_checkpoint(good);
  const auto expect_altered_refused = [&](const Checkpoint& altered, const char* why) {
    expect_refused(write_checkpoint(folder / "altered", altered, 1), why);
  };
  Checkpoint altered = checkpoint;
  altered.tensors.erase("optimizer.m.embedding");
  expect_altered_refused(altered, "optimizer.m.embedding is missing");
  altered = checkpoint;
  altered.values.erase("data");
  expect_altered_refused(altered, "data is missing");
  altered = checkpoint;
  altered.values["updates"] = "1x";
  expect_altered_refused(altered, "updates is not a number");
  altered = checkpoint;
  altered.values["data"] = "?";
  EXPECT_THAT([&] { run.trainer.restore(write_checkpoint(folder / "altered", altered, 1)); },
              ThrowsMessage<FormatError>(HasSubstr("not a state of ToyBatches: ?")));

  EXPECT_EQ(run.trainer.iteration(), 0);
  run.run();
  expect_same_record(run.record, first.record);
}

}  // namespace
}  // namespace metal_candle::testing
