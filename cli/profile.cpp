// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See profile.h.
#include "cli/profile.h"

#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <optional>
#include <string>

#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {
namespace {

bool profiling = false;
bool tracing = false;

// Measured when first asked for, which is after the run: none where there is no room.
const MachineLimits* limits_of(Device device) {
  static std::map<std::string, std::optional<MachineLimits>> measured;
  const auto [found, added] = measured.try_emplace(to_string(device));
  if (added) {
    try {
      found->second = measure_machine_limits(device);
      fmt::print(stderr,
                 "limits of {}: copies {:.1f} GB/s, products {:.0f} GFLOP/s in f32 and {:.0f} in "
                 "bf16\n",
                 to_string(device), found->second->copy_bytes_per_second * 1e-9,
                 found->second->f32_flops_per_second * 1e-9,
                 found->second->bf16_flops_per_second * 1e-9);
    } catch (const OutOfMemoryError& error) {
      fmt::print(stderr, "limits of {} are not known: {}\n", to_string(device), error.what());
    }
  }
  return found->second ? &*found->second : nullptr;
}

}  // namespace

void add_profile_options(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    command
        ->add_flag_callback(
            "--profile",
            [] {
              start_profile();
              profiling = true;
            },
            "At the end, say where time and memory went")
        ->group("Profiling");
    command
        ->add_option_function<std::string>(
            "--trace",
            [](const std::string& path) {
              start_trace(path);
              tracing = true;
            },
            "Write a trace of every step to FILE, for ui.perfetto.dev")
        ->type_name("FILE")
        ->group("Profiling");
  }
}

void finish_profile(bool failed) {
  if (profiling) {
    profiling = false;
    const Profile profile = stop_profile();
    if (tracing) {  // What follows is no part of it.
      tracing = false;
      stop_trace();
    }
    if (!failed || !profile.steps.empty()) {
      fmt::print(stderr, "\n{}", profile.to_string(limits_of));
    }
  }
  if (tracing) {
    tracing = false;
    stop_trace();
  }
}

}  // namespace metal_candle::cli
