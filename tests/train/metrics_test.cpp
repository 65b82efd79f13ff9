// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metrics.jsonl: what is in it, and how it is continued.
#include "metal_candle/train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "metal_candle/core/error.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TrainReport report_at(std::int64_t iteration) {
  return {.iteration = iteration,
          .loss = 3.1 / static_cast<double>(iteration),
          .learning_rate = 1e-5,
          .gradient_norm = 0.1,
          .tokens_per_second = 812.5,
          .iterations_per_second = 1.625,
          .trained_tokens = 500 * iteration,
          .seconds = 0.7,
          .peak_memory = std::size_t{5} << 30};
}

EvaluationReport evaluation_at(std::int64_t iteration) {
  return {.iteration = iteration, .loss = 2.5, .perplexity = 12.2, .tokens = 77, .seconds = 0.25};
}

void write_twenty(const std::string& path) {
  MetricsWriter writer(path);
  writer.on_start({});
  writer.on_evaluate(evaluation_at(0));
  writer.on_report(report_at(10));
  writer.on_report(report_at(20));
  writer.on_evaluate(evaluation_at(20));
}

TEST(MetricsTest, OneObjectALineWithAllDigits) {
  const TemporaryFolder folder;
  write_twenty(folder / "metrics.jsonl");
  const std::string text = folder.read("metrics.jsonl");
  std::vector<nlohmann::json> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    lines.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], nlohmann::json::parse(R"({"iteration": 0, "val_loss": 2.5,
      "val_perplexity": 12.2, "val_tokens": 77, "val_seconds": 0.25})"));
  EXPECT_EQ(lines[1], nlohmann::json::parse(R"({"iteration": 10, "train_loss": 0.31,
      "learning_rate": 1e-05, "gradient_norm": 0.1, "tokens_per_second": 812.5,
      "iterations_per_second": 1.625, "trained_tokens": 5000, "train_seconds": 0.7,
      "peak_memory_bytes": 5368709120})"));

  const Metrics metrics = read_metrics(folder / "metrics.jsonl");
  ASSERT_EQ(metrics.reports.size(), 2u);
  ASSERT_EQ(metrics.evaluations.size(), 2u);
  EXPECT_EQ(metrics.reports[1].loss, 3.1 / 20);
  EXPECT_EQ(metrics.reports[1].peak_memory, std::size_t{5} << 30);
  EXPECT_EQ(metrics.evaluations[1].perplexity, 12.2);
}

TEST(MetricsTest, ValuesThatAreNotFiniteAreNull) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder / "m");
  writer.on_start({});
  EvaluationReport evaluation = evaluation_at(0);
  evaluation.perplexity = std::numeric_limits<double>::infinity();
  writer.on_evaluate(evaluation);
  EXPECT_THAT(folder.read("m"), HasSubstr("\"val_perplexity\":null"));
  EXPECT_TRUE(std::isnan(read_metrics(folder / "m").evaluations[0].perplexity));
}

TEST(MetricsTest, AResumedRunWritesItsLinesAgain) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  write_twenty(path);
  const std::string whole = folder.read("metrics.jsonl");
  const std::size_t twenty = whole.find("{\"iteration\":20");
  const auto resume_at = [&](std::int64_t first_iteration) {
    MetricsWriter writer(path);
    writer.on_start({.first_iteration = first_iteration, .settings = {}});
    return folder.read("metrics.jsonl");
  };
  EXPECT_EQ(resume_at(21), whole);
  EXPECT_EQ(resume_at(20), whole.substr(0, twenty));
  // Half a line, as a crash leaves it.
  folder.write("metrics.jsonl", whole.substr(0, twenty + 30));
  EXPECT_EQ(read_metrics(path).reports.size(), 1u);
  EXPECT_EQ(resume_at(21), whole.substr(0, twenty));
  // Another run.
  EXPECT_EQ(resume_at(1), "");
  // It was removed meanwhile.
  std::filesystem::remove(path);
  EXPECT_EQ(resume_at(21), "");
}

TEST(MetricsTest, OtherFilesAreRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.write("m", "{\"iteration\":1,\"val_loss\":0}\nnotes\n");
  EXPECT_THAT([&] { (void)read_metrics(path); },
              ThrowsMessage<FormatError>(HasSubstr(path + ":1: ")));
  MetricsWriter writer(path);
  EXPECT_THAT([&] { writer.on_start({.first_iteration = 5, .settings = {}}); },
              ThrowsMessage<FormatError>(HasSubstr(path + ":2: ")));
  EXPECT_THAT([&] { (void)read_metrics(folder / "none"); },
              ThrowsMessage<IoError>(AllOf(HasSubstr("none"), HasSubstr("No such file"))));
}

TEST(MetricsTest, AFullDiskLeavesWholeLines) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder / "m");
  writer.on_start({});
  writer.on_report(report_at(10));
  const std::string before = folder.read("m");
  {
    const FileSizeLimit full(before.size() + 20);
    EXPECT_THAT([&] { writer.on_report(report_at(20)); },
                ThrowsMessage<IoError>(HasSubstr(folder / "m")));
  }
  EXPECT_EQ(folder.read("m"), before);
  writer.on_report(report_at(30));
  EXPECT_EQ(read_metrics(folder / "m").reports[1].iteration, 30);
}

}  // namespace
}  // namespace metal_candle::testing
