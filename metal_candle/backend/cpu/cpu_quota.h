// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// How much processor time a container grants. A process in one sees all of the machine's
// processors, and threads for each of them would use up its time by waiting for each other.
#pragma once

#include <filesystem>
#include <optional>

namespace metal_candle::backend::cpu {

/// The processors that this process's control group and those above it grant, rounded up; nothing
/// where no quota is set or can be read. `root` is where /proc and /sys are. Linux, cgroup v2
/// (cpu.max) and v1 (cpu.cfs_quota_us).
[[nodiscard]] std::optional<int> cpu_quota(const std::filesystem::path& root = "/");

}  // namespace metal_candle::backend::cpu
