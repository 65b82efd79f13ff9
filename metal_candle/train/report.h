// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A report of a training run: one HTML page that needs nothing else, no network and no script to be
// read, in light and dark.
#pragma once

#include <string>
#include <vector>

#include "metal_candle/train/observer.h"

namespace metal_candle {

/// A text before and after training, or whatever else comes in pairs.
struct ReportSample {
  std::string prompt;
  std::string before;
  std::string after;
};

struct ReportData {
  std::string title;                               // "Fine-tuning base-4m on devils-dictionary".
  std::string subtitle = {};                       // When, on what; may be empty.
  std::vector<TrainReport> reports = {};           // By iteration.
  std::vector<EvaluationReport> evaluations = {};  // By iteration.
  Settings settings = {};
  std::vector<ReportSample> samples = {};  // May be empty.
};

/// The page: the figures that matter; curves of training and validation loss, learning rate, tokens
/// per second and norm of the gradient; samples; settings. Curves of any number of points are drawn
/// with a bounded number that keeps each extreme. Texts may hold anything. Values that are not
/// finite are gaps.
[[nodiscard]] std::string render_report(const ReportData& data);

}  // namespace metal_candle
