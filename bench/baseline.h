// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Regressions: rows of this run against those of a file that an earlier run wrote. Ratios are
// compared, not times: a reference that took turns with ours in the same run was slowed down by
// whatever slowed us down.
#pragma once

#include <string>
#include <vector>

#include "bench/harness.h"

namespace metal_candle::bench {

struct Regression {
  std::string row;
  std::string reference;       // The same in both runs.
  double before = 0, now = 0;  // How many times as good as it we were: higher is better.
};

struct BaselineReport {
  std::vector<Regression> regressions;
  std::size_t compared = 0;  // Rows that both have, with a reference in common.
};

/// Whether less of a unit is better: times and sizes. Rates are the others.
[[nodiscard]] bool less_is_better(const std::string& unit);

/// Of the rows whose ratio became worse by more than `tolerance`. `json` is what Table::to_json()
/// gave, and `path` its name for errors: throws FormatError if it is no such thing, and Error if no
/// row could be compared.
[[nodiscard]] BaselineReport compare_with_baseline(const std::vector<Row>& rows,
                                                   const std::string& json, const std::string& path,
                                                   double tolerance = 0.15);

}  // namespace metal_candle::bench
