// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See tuner.h. Coordinate descent: each parameter that a job asks for, in the order of the Tunable
// enumeration, takes the best of its candidates while the others keep what they have.
#include "metal_candle/execute/tuner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <mutex>

#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

using backend::Tuning;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

using Values = std::map<Tuning::Key, std::int64_t>;

// How far results may be apart, as a part of the largest element: other orders of adding up.
double tolerance(DType dtype) { return size_of(dtype) == 2 ? 2e-2 : 1e-4; }

bool agree(const std::vector<float>& a, const std::vector<float>& b, double allowed) {
  double largest = 0;
  for (const float x : a) largest = std::max(largest, std::abs(static_cast<double>(x)));
  for (std::size_t i = 0; i < a.size(); ++i) {
    // Not true for NaN.
    if (!(std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) <= allowed * largest)) {
      return false;
    }
  }
  return a.size() == b.size();
}

class JobTuner {
 public:
  JobTuner(Device device, const TuningJob& job, const TuneOptions& options, double deadline)
      : device_(device), job_(job), options_(options), deadline_(deadline), fn_(job.make()) {}

  // Adds what was found to the report.
  void run(TuningReport& report, const std::function<void(const std::string&)>& progress) {
    TuningOutcome outcome{.job = job_.name};
    const Values asked = find_parameters();
    expected_ = result_of({});
    Values chosen;
    for (const auto& [key, fallback] : asked) {
      for (const std::int64_t candidate : backend::info_of(key.first).candidates) {
        if (now() > deadline_) break;
        if (candidate == fallback) continue;
        progress(fmt::format("{}: {} {}", job_.name, backend::info_of(key.first).name, candidate));
        Values attempt = chosen;
        attempt[key] = candidate;
        ++outcome.tried;
        if (!agree(expected_, result_of(attempt), allowed_)) {
          ++outcome.wrong;
          continue;
        }
        if (ratio(attempt, chosen, kQuickRounds) < 1 - options_.least_gain &&
            ratio(attempt, chosen, kRounds) < 1 - options_.least_gain) {
          chosen = attempt;
        }
      }
    }
    confirm(chosen, outcome);
    for (const auto& [key, value] : chosen) {
      report.values.set(key.first, key.second, value);
      report.gains.push_back({job_.name, key, asked.at(key), value});
    }
    report.outcomes.push_back(outcome);
  }

 private:
  static constexpr int kQuickRounds = 3;
  static constexpr int kRounds = 9;
  static constexpr int kConfirmRounds = 25;
  static constexpr double kBatchSeconds = 2e-3;

  void install(const Values& values) const {
    auto tuning = std::make_unique<Tuning>();
    for (const auto& [key, value] : values) tuning->set(key.first, key.second, value);
    backend::install_tuning(device_, std::move(tuning));
  }

  // What an evaluation asks for, and what it gets by itself.
  Values find_parameters() const {
    Values asked;
    std::mutex mutex;
    auto tuning = std::make_unique<Tuning>();
    tuning->listen([&](const Tuning::Key& key, std::int64_t fallback) {
      const std::lock_guard lock(mutex);
      asked.emplace(key, fallback);
    });
    backend::install_tuning(device_, std::move(tuning));
    evaluate(1);
    synchronize(device_);
    install({});
    return asked;
  }

  void evaluate(int count) const {
    if (!job_.queued) {
      for (int i = 0; i < count; ++i) fn_().eval();
      return;
    }
    Tensor last;
    for (int i = 0; i < count; ++i) {
      last = fn_();
      static_cast<void>(last.eval_async());
    }
    last.eval();
  }

  std::vector<float> result_of(const Values& values) {
    install(values);
    const Tensor result = fn_();
    allowed_ = tolerance(result.dtype());
    std::vector<float> elements = astype(result, DType::kF32).to_vector<float>();
    synchronize(device_);
    return elements;
  }

  double seconds_of_batch() const {
    evaluate(1);  // Plans, and brings caches to where they are.
    const double start = now();
    evaluate(batch_);
    return (now() - start) / batch_;
  }

  // How long `values` take for what `reference` takes 1, in turns.
  double ratio(const Values& values, const Values& reference, int rounds) {
    if (batch_ == 0) {
      batch_ = 1;
      install(reference);
      evaluate(1);
      batch_ =
          std::clamp(static_cast<int>(kBatchSeconds / std::max(seconds_of_batch(), 1e-9)), 1, 2000);
    }
    std::vector<double> ours, theirs;
    for (int i = 0; i < rounds; ++i) {
      install(values);
      ours.push_back(seconds_of_batch());
      synchronize(device_);
      install(reference);
      theirs.push_back(seconds_of_batch());
      synchronize(device_);
    }
    last_ours_ = median(std::move(ours));
    last_theirs_ = median(std::move(theirs));
    return last_ours_ / last_theirs_;
  }

  // Chance has had many goes, so what it may have picked has to win once more.
  void confirm(Values& chosen, TuningOutcome& outcome) {
    if (chosen.empty()) return;
    if (ratio(chosen, {}, kConfirmRounds) >= 1 - options_.least_gain) chosen.clear();
    outcome.before_seconds = last_theirs_;
    outcome.after_seconds = chosen.empty() ? last_theirs_ : last_ours_;
  }

  Device device_;
  const TuningJob& job_;
  const TuneOptions& options_;
  double deadline_;
  std::function<Tensor()> fn_;
  std::vector<float> expected_;
  double allowed_ = 0;
  int batch_ = 0;
  double last_ours_ = 0, last_theirs_ = 0;
};

// Puts back the tuning that there was.
class Restore {
 public:
  explicit Restore(Device device) : device_(device), values_(backend::tuning(device).values()) {}
  ~Restore() {
    auto before = std::make_unique<Tuning>();
    for (const auto& [key, value] : values_) before->set(key.first, key.second, value);
    backend::install_tuning(device_, std::move(before));
  }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  Device device_;
  Values values_;
};

}  // namespace

TuningReport tune(Device device, const std::vector<TuningJob>& jobs, const TuneOptions& options) {
  const ScopedExecutionMode async(ExecutionMode::kAsync);
  synchronize(device);
  const Restore restore(device);
  TuningReport report;
  const double start = now(), end = start + options.budget_seconds;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (now() >= end) {
      report.unfinished = jobs.size() - i;
      break;
    }
    // Each may take its share of what is left.
    const double deadline = now() + (end - now()) / static_cast<double>(jobs.size() - i);
    JobTuner(device, jobs[i], options, deadline).run(report, [&](const std::string& text) {
      if (!options.on_progress) return;
      options.on_progress(std::min(1.0, (now() - start) / options.budget_seconds), text);
    });
  }
  return report;
}

}  // namespace metal_candle
