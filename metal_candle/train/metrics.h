// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metrics.jsonl: one JSON object a line for each report and each evaluation of a run, readable
// while the run goes on. The names are those of mlx-lm's callbacks where it has them:
//
//   {"iteration":10,"train_loss":3.2,"learning_rate":1e-05,"gradient_norm":0.9,
//    "tokens_per_second":812.5,"iterations_per_second":1.6,"trained_tokens":5021,
//    "train_seconds":6.2,"peak_memory_bytes":123456789}
//   {"iteration":10,"val_loss":3.1,"val_perplexity":22.2,"val_tokens":2048,"val_seconds":1.9}
//
// Numbers read back as the same doubles; one that is not finite is null.
#pragma once

#include <string>
#include <vector>

#include "metal_candle/train/observer.h"

namespace metal_candle {

/// Appends to the file; each line is in the file when the call returns. A run that begins at
/// iteration 1 begins the file anew; a resumed one first removes the lines after the iteration it
/// resumes from, which it will write again. Functions throw IoError naming the file, and
/// FormatError naming file and line when a file to be continued is not of this format.
class MetricsWriter final : public TrainObserver {
 public:
  explicit MetricsWriter(std::string path) : path_(std::move(path)) {}
  ~MetricsWriter() override;
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;

  void on_start(const TrainStart& start) override;
  void on_report(const TrainReport& report) override;
  void on_evaluate(const EvaluationReport& report) override;

 private:
  void append(const std::string& text);
  [[noreturn]] void fail(const char* doing) const;

  std::string path_;
  int descriptor_ = -1;
};

struct Metrics {
  std::vector<TrainReport> reports;
  std::vector<EvaluationReport> evaluations;
};
/// Throws IoError, FormatError naming file and line. A last line without an end, as a crash may
/// leave, is left out.
[[nodiscard]] Metrics read_metrics(const std::string& path);

}  // namespace metal_candle
