// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See harness.h.
#include "bench/harness.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <thread>

#include "metal_candle/backend/registry.h"

namespace metal_candle::bench {
namespace {

Clock current_clock = Clock::kWall;

// NaN if any is.
double median(std::vector<double> values) {
  for (const double value : values) {
    if (std::isnan(value)) return value;
  }
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double time_batch(const std::function<void()>& fn, std::int64_t calls) {
  const double start = seconds_now();
  for (std::int64_t i = 0; i < calls; ++i) fn();
  return (seconds_now() - start) / static_cast<double>(calls);
}

std::string cell(const std::optional<double>& value) {
  if (!value) return "-";
  const double size = std::abs(*value);
  return size >= 1000 ? fmt::format("{:.0f}", *value) : fmt::format("{:.3g}", *value);
}

bool within(Bound bound, double value, double limit) {
  return bound == Bound::kAtMost ? value <= limit : value >= limit;
}

const char* symbol(Bound bound) { return bound == Bound::kAtMost ? "<=" : ">="; }

nlohmann::json or_null(const std::optional<double>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

}  // namespace

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void set_clock(Clock clock) { current_clock = clock; }
Clock clock_in_use() { return current_clock; }

double seconds_now() {
  if (current_clock == Clock::kWall) return wall_seconds();
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void warm_up(const std::function<void()>& fn) {
  backend::Backend& backend = backend::backend_for(default_device());
  std::uint64_t before = 0;
  std::uint64_t compiled = backend.finish_compiling();
  do {
    before = compiled;
    fn();
    compiled = backend.finish_compiling();
  } while (compiled != before);
}

Contestant timed(std::function<void()> fn, double batch_seconds) {
  warm_up(fn);  // Planning and first touches are not what is measured.
  const double once = std::max(time_batch(fn, 1), 1e-9);
  const auto calls = std::max<std::int64_t>(1, static_cast<std::int64_t>(batch_seconds / once));
  return [fn = std::move(fn), calls] {
    // Caches, clock rate and sleeping threads are as the contestant before left them, and a thread
    // that wakes where another runs waits there until the system looks after it, 4 ms perhaps.
    const double begin = wall_seconds();
    do {
      (void)time_batch(fn, calls);
    } while (wall_seconds() - begin < kLeastWarmUpSeconds);
    return time_batch(fn, calls);
  };
}

std::vector<double> compete(const std::vector<Contestant>& contestants, int rounds,
                            double max_seconds) {
  constexpr int kMinRounds = 3;
  std::vector<std::vector<double>> samples(contestants.size());
  const double start = wall_seconds();
  for (int round = -1; round < rounds; ++round) {
    if (round >= kMinRounds && wall_seconds() - start > max_seconds) break;
    for (std::size_t i = 0; i < contestants.size(); ++i) {
      // OpenMP's threads wait actively for a while after a call; they must not do so on the next
      // one's cores.
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      if (round < 0) {
        warm_up([&] { static_cast<void>(contestants[i]()); });
      } else {
        samples[i].push_back(contestants[i]());
      }
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& s : samples) medians.push_back(median(std::move(s)));
  return medians;
}

Row& judge_ratio(Row& row, Bound bound, double limit) {
  row.goal = fmt::format("ratio {} {}", symbol(bound), limit);
  if (row.value && row.reference && *row.reference != 0) {
    row.ratio = *row.value / *row.reference;
    row.met = within(bound, *row.ratio, limit);
  }
  return row;
}

Row& judge_value(Row& row, Bound bound, double limit) {
  row.goal = fmt::format("value {} {}", symbol(bound), limit);
  if (row.value) row.met = within(bound, *row.value, limit);
  return row;
}

Table Table::listing(std::string filter) {
  Table table(std::move(filter), /*quiet=*/true);
  table.lists_ = true;
  return table;
}

bool Table::wants(const std::string& name) {
  const bool matches = name.find(filter_) != std::string::npos;
  if (matches && lists_) names_.push_back(name);
  return matches && !lists_;
}

void Table::note(const std::string& text) const {
  if (!quiet_) std::fputs((text + "\n").c_str(), stdout);
}

void Table::header() const {
  if (quiet_) return;
  std::fputs(fmt::format("{:<52}{:>10} {:<8}{:>10} {:<22}{:>7}{:>7}  {:<14}{}\n", "case", "value",
                         "unit", "reference", "of", "ratio", "limit", "goal", "met")
                 .c_str(),
             stdout);
}

void Table::add(Row row) {
  if (!row.ratio && row.value && row.reference && *row.reference != 0)
    row.ratio = *row.value / *row.reference;
  if (!quiet_) {
    std::string note = row.note;
    for (const auto& [name, value] : row.peers) {
      note += fmt::format("{}{} {}", note.empty() ? "" : ", ", name, cell(value));
    }
    std::fputs(fmt::format("{:<52}{:>10} {:<8}{:>10} {:<22}{:>7}{:>7}  {:<14}{}{}\n", row.name,
                           cell(row.value), row.unit, cell(row.reference), row.reference_name,
                           cell(row.ratio), row.limit_fraction ? cell(row.limit_fraction) : "",
                           row.goal, row.met ? (*row.met ? "yes" : "NO") : "",
                           note.empty() ? "" : "  (" + note + ")")
                   .c_str(),
               stdout);
    std::fflush(stdout);
  }
  rows_.push_back(std::move(row));
}

std::string Table::to_json() const {
  nlohmann::json rows = nlohmann::json::array();
  for (const Row& row : rows_) {
    nlohmann::json peers = nlohmann::json::object();
    for (const auto& [name, value] : row.peers) peers[name] = value;
    rows.push_back({{"name", row.name},
                    {"value", or_null(row.value)},
                    {"unit", row.unit},
                    {"reference", or_null(row.reference)},
                    {"reference_name", row.reference_name},
                    {"ratio", or_null(row.ratio)},
                    {"goal", row.goal.empty() ? nlohmann::json(nullptr) : nlohmann::json(row.goal)},
                    {"met", row.met ? nlohmann::json(*row.met) : nlohmann::json(nullptr)},
                    {"note", row.note},
                    {"peers", peers},
                    {"limit_fraction", or_null(row.limit_fraction)}});
  }
  return rows.dump(2) + "\n";
}

}  // namespace metal_candle::bench
