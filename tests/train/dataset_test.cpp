// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/train/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "metal_candle/core/error.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::testing {
namespace {

using ::testing::HasSubstr;
using Order = DatasetBatches::Order;

const ChatTokenizer& tokenizer() {
  static const ChatTokenizer instance =
      ChatTokenizer::load(METAL_CANDLE_SOURCE_DIR "/assets/definitions-5m");
  return instance;
}

// count sequences; sequence i is i, i, ... of a length between 3 and 102.
Dataset numbered(int count) {
  std::vector<TokenSequence> sequences;
  for (int i = 0; i < count; ++i) {
    sequences.push_back(
        {std::vector<std::int32_t>(static_cast<std::size_t>(3 + i * 37 % 100), i), 1});
  }
  return Dataset::of(std::move(sequences), "numbered");
}

// The sequences that a pass gives, in order.
std::vector<std::int32_t> pass(DatasetBatches& batches) {
  std::vector<std::int32_t> seen;
  while (const auto batch = batches.next()) {
    const auto tokens = batch->tokens.to_vector<std::int32_t>();
    for (std::int64_t row = 0; row < batch->batch(); ++row)
      seen.push_back(tokens[static_cast<std::size_t>(row * batch->length())]);
  }
  return seen;
}

TEST(Dataset, CompletionsGoThroughTheChatTemplate) {
  const TemporaryFolder folder;
  const std::string path = folder / "train.jsonl";
  std::ofstream(path) << R"({"prompt": "Define cat.", "completion": "A small animal."})";
  const auto whole = tokenizer().tokenizer().encode("Define cat.\nA small animal.<|endoftext|>");
  const auto prompt = tokenizer().tokenizer().encode("Define cat.\n");

  const Dataset plain = Dataset::load(path, tokenizer());
  EXPECT_EQ(plain.sequences()[0].tokens, whole);
  EXPECT_EQ(plain.sequences()[0].first_target, 1u);
  const Dataset masked = Dataset::load(path, tokenizer(), {.mask_prompt = true});
  EXPECT_EQ(masked.sequences()[0].tokens, whole);
  EXPECT_EQ(masked.sequences()[0].first_target, prompt.size());
}

TEST(Dataset, TextsEndAndHaveNoPrompt) {
  const TemporaryFolder folder;
  const std::string path = folder / "train.jsonl";
  std::ofstream(path) << R"({"text": "A small animal."})";
  const Dataset data = Dataset::load(path, tokenizer());
  EXPECT_EQ(data.sequences()[0].tokens.back(), tokenizer().eos_id());
  try {
    static_cast<void>(Dataset::load(path, tokenizer(), {.mask_prompt = true}));
    FAIL();
  } catch (const FormatError& e) {
    EXPECT_THAT(e.what(), HasSubstr("train.jsonl:1: a text has no prompt"));
  }
}

TEST(Dataset, LongSequencesAreCutAndCounted) {
  const std::vector<TokenSequence> sequences = {
      {{1, 2, 3, 4, 5, 6}, 1}, {{1, 2, 3, 4, 5, 6}, 5}, {{1}, 1}, {{1, 2}, 1}};
  const Dataset data = Dataset::of(sequences, "some", {.max_seq_length = 4});
  EXPECT_EQ(data.size(), 2u);  // The second has no target within 4 tokens, the third none at all.
  EXPECT_EQ(data.truncated(), 2u);
  EXPECT_EQ(data.dropped(), 2u);
  EXPECT_EQ(data.num_tokens(), 6);
  EXPECT_EQ(data.num_targets(), 4);
  EXPECT_THROW(static_cast<void>(Dataset::of({{{1}, 1}}, "none")), FormatError);
}

TEST(Batches, TargetsFollowTokensAndPaddingIsIgnored) {
  const Dataset data = Dataset::of({{{5, 6, 7, 8}, 2}, {{9, 10}, 1}}, "two");
  DatasetBatches batches(data, 2, Order::kReading);
  const auto batch = batches.next();
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->tokens.shape(), (Shape{2, kLengthBucket}));
  const auto tokens = batch->tokens.to_vector<std::int32_t>();
  const auto targets = batch->targets.to_vector<std::int32_t>();
  const auto row = [&](const std::vector<std::int32_t>& values, std::size_t start) {
    return std::vector<std::int32_t>(values.begin() + static_cast<std::ptrdiff_t>(start),
                                     values.begin() + static_cast<std::ptrdiff_t>(start) + 4);
  };
  EXPECT_EQ(row(tokens, 0), (std::vector<std::int32_t>{5, 6, 7, 0}));
  EXPECT_EQ(row(targets, 0), (std::vector<std::int32_t>{-100, 7, 8, -100}));
  EXPECT_EQ(row(targets, kLengthBucket), (std::vector<std::int32_t>{10, -100, -100, -100}));
  EXPECT_FALSE(batches.next());
}

TEST(Batches, ReadingSeesEverySequenceOnce) {
  DatasetBatches batches(numbered(23), 4, Order::kReading);
  std::vector<std::int32_t> first = pass(batches);
  EXPECT_EQ(pass(batches), first);
  std::sort(first.begin(), first.end());
  for (int i = 0; i < 23; ++i) EXPECT_EQ(first[static_cast<std::size_t>(i)], i);
}

TEST(Batches, TrainingShufflesAndLeavesOutDifferentOnes) {
  DatasetBatches batches(numbered(23), 4, Order::kTraining, 7);
  const std::vector<std::int32_t> first = pass(batches), second = pass(batches);
  EXPECT_EQ(first.size(), 20u);
  EXPECT_NE(first, second);
  EXPECT_EQ(std::set<std::int32_t>(first.begin(), first.end()).size(), 20u);
  std::set<std::int32_t> seen(first.begin(), first.end());
  for (int i = 0; i < 10; ++i) {
    const auto more = pass(batches);
    seen.insert(more.begin(), more.end());
  }
  EXPECT_EQ(seen.size(), 23u);
  DatasetBatches again(numbered(23), 4, Order::kTraining, 7);
  EXPECT_EQ(pass(again), first);
  DatasetBatches other(numbered(23), 4, Order::kTraining, 8);
  EXPECT_NE(pass(other), first);
}

TEST(Batches, GoOnFromAnyState) {
  DatasetBatches batches(numbered(23), 4, Order::kTraining, 7);
  for (int step = 0; step < 14; ++step) {
    const std::string state = batches.state();
    const auto expected = batches.next();
    DatasetBatches restored(numbered(23), 4, Order::kTraining, 7);
    restored.restore(state);
    const auto actual = restored.next();
    ASSERT_EQ(actual.has_value(), expected.has_value()) << state;
    if (!expected) continue;
    EXPECT_EQ(actual->tokens.to_vector<std::int32_t>(), expected->tokens.to_vector<std::int32_t>());
  }
  for (const char* bad : {"", "pass x batch 1", "pass 1", "pass 0 batch 99", "pass 0 batch 1x"})
    EXPECT_THROW(batches.restore(bad), FormatError) << bad;
}

TEST(Batches, TooFewExamplesSayWhatToChange) {
  try {
    const DatasetBatches batches(numbered(3), 4, Order::kTraining);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("numbered: 3 examples do not fill a batch of 4"));
  }
}

}  // namespace
}  // namespace metal_candle::testing
