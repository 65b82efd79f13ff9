// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Finds parameters of kernels (backend/tuning.h) by measuring: which ones an evaluation asks for,
// and which of their candidates make it faster. A candidate's result is compared with that of the
// backend's own choice before it is timed, so that tuning never makes a result wrong.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/backend/tuning.h"
#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// What is evaluated to try parameters on.
struct TuningJob {
  std::string name;                               // "matmul 128 4096 1024 bf16".
  std::function<std::function<Tensor()>()> make;  // Makes the operands, and then what to time.
  bool queued = false;                            // Timed as eval_async() runs it.
};

/// "matmul M N K DTYPE" (and "matmul_t", the weight lying in columns), "softmax M N DTYPE",
/// "rms_norm M N DTYPE", "layer_norm M N DTYPE", "sum M N DTYPE" (of rows), "elementwise M N
/// DTYPE", "attention B H LQ LK D DTYPE", "steps N" (N small steps). Throws FormatError, naming the
/// known ones.
[[nodiscard]] TuningJob parse_tuning_job(std::string_view text, Device device);

/// Those that are tuned where none are named: what decoders of 0.5 to 8 billion parameters do.
/// `op`: only jobs of that name; empty for all. Throws FormatError if there are none of that name.
[[nodiscard]] std::vector<TuningJob> default_tuning_jobs(Device device, std::string_view op = {});

/// The jobs that stand for the steps in a trace (start_trace()), the longest in all first, at most
/// `most`. Steps of other operations are left out. Throws FormatError, naming `path`, if it is no
/// trace.
[[nodiscard]] std::vector<TuningJob> tuning_jobs_of_trace(std::string_view json,
                                                          const std::string& path, Device device,
                                                          std::size_t most = 32);

/// A parameter for which something better was found.
struct TuningGain {
  std::string job;
  backend::Tuning::Key key;
  std::int64_t fallback = 0, value = 0;
};
struct TuningOutcome {
  std::string job;
  double before_seconds = 0, after_seconds = 0;  // Of one evaluation, measured in turns.
  std::size_t tried = 0, wrong = 0;              // Candidates; of them, those with another result.
};
struct TuningReport {
  backend::Tuning values;  // All that are better than the backend's own.
  std::vector<TuningGain> gains;
  std::vector<TuningOutcome> outcomes;
  std::size_t unfinished = 0;  // Jobs for which there was no time.
};

struct TuneOptions {
  double budget_seconds = 60;
  /// A candidate must be so much faster to be taken, as noise is not a gain.
  double least_gain = 0.03;
  /// The part of the budget that is used up, and what is tried.
  std::function<void(double done, const std::string& text)> on_progress = {};
};

/// Tries the jobs on the device one after another. Nothing else should run on it. The device's
/// tuning is afterwards what it was before.
[[nodiscard]] TuningReport tune(Device device, const std::vector<TuningJob>& jobs,
                                const TuneOptions& options = {});

}  // namespace metal_candle
