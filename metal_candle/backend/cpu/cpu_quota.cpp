// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/backend/cpu/cpu_quota.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

namespace metal_candle::backend::cpu {
namespace {

namespace fs = std::filesystem;

// Microseconds of processor time in each period; "max" and -1 stand for no limit.
std::optional<double> processors(const std::string& quota, double period) {
  if (quota.empty() || quota == "max" || quota[0] == '-' || !(period > 0)) return {};
  try {
    return std::stod(quota) / period;
  } catch (const std::exception&) {
    return {};
  }
}

std::optional<double> quota_of_group(const fs::path& folder) {
  std::string quota;
  double period = 0;
  if (std::ifstream both(folder / "cpu.max"); both >> quota >> period) {
    return processors(quota, period);
  }
  std::ifstream first(folder / "cpu.cfs_quota_us"), second(folder / "cpu.cfs_period_us");
  if (first >> quota && second >> period) return processors(quota, period);
  return {};
}

// The group's path in a line of /proc/self/cgroup, "0::/a/b" or "4:cpu,cpuacct:/a/b", if the line
// is about processor time.
std::optional<std::string> group_of(const std::string& line) {
  const std::size_t first = line.find(':');
  const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
  if (second == std::string::npos) return {};
  const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
  if (controllers != ",," && controllers.find(",cpu,") == std::string::npos) return {};
  return line.substr(second + 1);
}

}  // namespace

std::optional<int> cpu_quota(const fs::path& root) {
  std::optional<double> least;
  const auto look = [&](const fs::path& folder) {
    const std::optional<double> found = quota_of_group(folder);
    if (found && *found > 0) least = std::min(found, least ? least : found);
  };
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::optional<std::string> group = group_of(line);
    if (!group) continue;
    for (const fs::path& hierarchy : {root / "sys/fs/cgroup", root / "sys/fs/cgroup/cpu"}) {
      // In a container the path may be the host's: its own group is then at the top.
      for (fs::path path = fs::path(*group).relative_path();; path = path.parent_path()) {
        look(hierarchy / path);
        if (path.empty()) break;
      }
    }
  }
  if (!least) return {};
  return std::max(1, static_cast<int>(std::ceil(*least - 1e-6)));
}

}  // namespace metal_candle::backend::cpu
