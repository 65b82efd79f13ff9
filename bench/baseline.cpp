// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See baseline.h.
#include "bench/baseline.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "metal_candle/core/error.h"

namespace metal_candle::bench {
namespace {

using References = std::map<std::string, double>;

struct Measured {
  double value = 0;
  References references;  // All that there were.
};

std::optional<Measured> measured(const Row& row) {
  if (!row.value || *row.value <= 0) return {};
  Measured result{*row.value, {}};
  if (row.reference && *row.reference > 0) result.references[row.reference_name] = *row.reference;
  for (const auto& [name, value] : row.peers) {
    if (value > 0) result.references[name] = value;
  }
  return result;
}

std::map<std::string, Measured> read_rows(const std::string& json, const std::string& path) {
  std::map<std::string, Measured> rows;
  try {
    for (const nlohmann::json& item : nlohmann::json::parse(json)) {
      Row row{.name = item.at("name").get<std::string>()};
      const auto number = [&](const char* key) -> std::optional<double> {
        return item.at(key).is_null() ? std::nullopt : std::optional(item.at(key).get<double>());
      };
      row.value = number("value");
      row.reference = number("reference");
      row.reference_name = item.at("reference_name").get<std::string>();
      if (item.contains("peers")) {
        for (const auto& [name, value] : item["peers"].items()) {
          row.peers.emplace_back(name, value.get<double>());
        }
      }
      if (const auto found = measured(row)) rows[row.name] = *found;
    }
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(
        fmt::format("{}: not what `metal-candle bench --json` writes: {}", path, error.what()));
  }
  return rows;
}

}  // namespace

bool less_is_better(const std::string& unit) {
  constexpr std::array<std::string_view, 7> kUnits = {"ns", "us", "ms", "s", "MB", "GB", "nats"};
  return std::ranges::find(kUnits, unit) != kUnits.end();
}

BaselineReport compare_with_baseline(const std::vector<Row>& rows, const std::string& json,
                                     const std::string& path, double tolerance) {
  const std::map<std::string, Measured> before = read_rows(json, path);
  BaselineReport report;
  for (const Row& row : rows) {
    const auto old = before.find(row.name);
    const std::optional<Measured> now = measured(row);
    if (old == before.end() || !now) continue;
    // Of several references in common, the one that is the best now: it is the one to beat.
    const bool less = less_is_better(row.unit);
    std::optional<Regression> judged;
    for (const auto& [name, value] : now->references) {
      const auto other = old->second.references.find(name);
      if (other == old->second.references.end()) continue;
      const auto score = [&](double ours, double reference) {
        return less ? reference / ours : ours / reference;
      };
      const double now_score = score(now->value, value);
      if (judged && judged->now <= now_score) continue;
      judged = {row.name, name, score(old->second.value, other->second), now_score};
    }
    if (!judged) continue;
    ++report.compared;
    if (judged->now < judged->before * (1 - tolerance)) report.regressions.push_back(*judged);
  }
  if (report.compared == 0) {
    throw Error(fmt::format("{}: has no row with a reference in common with this run", path));
  }
  return report;
}

}  // namespace metal_candle::bench
