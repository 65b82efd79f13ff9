// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Measuring: contestants take turns, many times, and each is judged by its median, so that a noisy
// machine disturbs all of them alike. Every call evaluates its result.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace metal_candle::bench {

/// One line of a suite's table.
struct Row {
  std::string name = {};
  std::optional<double> value = {};
  std::string unit = {};
  std::optional<double> reference = {};
  std::string reference_name = {};
  std::optional<double> ratio = {};  // value / reference.
  std::string goal = {};             // "ratio <= 4"; empty if there is none.
  std::optional<bool> met = {};
  std::string note = {};
  /// What every peer took, in the row's unit. The best of them is the reference; of first calls,
  /// the best of those that ran first in a process.
  std::vector<std::pair<std::string, double>> peers = {};
  /// Of what the machine could do at best (MachineLimits); above 1 where operands stay in a cache.
  std::optional<double> limit_fraction = {};
};

/// Of a clock that only goes forward.
[[nodiscard]] double wall_seconds();

/// How long a contestant runs before it is timed, at least. As in peers/ops_loop.py.
inline constexpr double kLeastWarmUpSeconds = 10e-3;

/// What contestants are timed with.
enum class Clock {
  kWall,
  kProcess,  // Of the processor, all threads together: waiting for a busy machine does not enter.
};
void set_clock(Clock clock);
[[nodiscard]] Clock clock_in_use();
/// Of that clock.
[[nodiscard]] double seconds_now();

/// Seconds of one call, as one batch of calls measured it.
using Contestant = std::function<double()>;

/// Runs fn, and again if kernels were compiled meanwhile that the next run will use: until a run is
/// what all later ones are.
void warm_up(const std::function<void()>& fn);

/// A contestant that times batches of fn, as many calls a batch as take about `batch_seconds`.
[[nodiscard]] Contestant timed(std::function<void()> fn, double batch_seconds = 2e-3);

/// Median seconds of a call of each contestant, over `rounds` rounds in which they take turns. One
/// round before that, which warms up, is thrown away. Slow contests stop after `max_seconds`, but
/// not before three rounds.
[[nodiscard]] std::vector<double> compete(const std::vector<Contestant>& contestants,
                                          int rounds = 15, double max_seconds = 10);

/// Bounds that a row can be held to.
enum class Bound { kAtMost, kAtLeast };
/// Fills ratio, goal ("ratio <= 4") and met.
Row& judge_ratio(Row& row, Bound bound, double limit);
/// Fills goal ("value <= 3") and met.
Row& judge_value(Row& row, Bound bound, double limit);

/// Collects rows, printing each as it comes.
class Table {
 public:
  explicit Table(std::string filter, bool quiet) : filter_(std::move(filter)), quiet_(quiet) {}
  /// One that wants no case, so that a suite measures nothing, and collects the names of those with
  /// the filter in them.
  [[nodiscard]] static Table listing(std::string filter);
  /// Whether a case with this name is asked for.
  [[nodiscard]] bool wants(const std::string& name);
  /// Whether it only collects names: a suite then starts no peer.
  [[nodiscard]] bool lists() const { return lists_; }
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  /// A line above the table.
  void note(const std::string& text) const;
  void header() const;
  void add(Row row);
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
  /// An array of objects with the keys name, value, unit, reference, ratio, goal, met (and
  /// reference_name, note, peers, limit_fraction).
  [[nodiscard]] std::string to_json() const;

 private:
  std::string filter_;
  bool quiet_;
  bool lists_ = false;
  std::vector<std::string> names_;
  std::vector<Row> rows_;
};

}  // namespace metal_candle::bench
