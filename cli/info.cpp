// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle info: what this machine offers and what this build makes of it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {
namespace {

void print_text() {
  fmt::print("metal-candle {}\n", METAL_CANDLE_VERSION);
  for (const Device device : available_devices()) {
    const DeviceInfo info = device_info(device);
    fmt::print("\n{}\n", to_string(device));
    fmt::print("  name            {}\n", info.name);
    fmt::print("  instructions    {}\n", info.instructions);
    fmt::print("  threads         {}\n", info.threads);
    fmt::print("  queues          {}\n", info.queues);
    fmt::print("  memory limit    {:.1f} GB\n", static_cast<double>(info.memory_limit) / 1e9);
    fmt::print("  libraries       {}\n", fmt::join(info.libraries, ", "));
  }
  fmt::print("\nmode              {}\n", name(execution_mode()));
  fmt::print("models            {}\n", fmt::join(model_types(), ", "));
  fmt::print("passes            {}\n", fmt::join(pass_names(), ", "));
}

void print_json() {
  nlohmann::ordered_json out;
  out["version"] = METAL_CANDLE_VERSION;
  for (const Device device : available_devices()) {
    const DeviceInfo info = device_info(device);
    out["devices"].push_back({{"device", to_string(device)},
                              {"name", info.name},
                              {"instructions", info.instructions},
                              {"threads", info.threads},
                              {"queues", info.queues},
                              {"memory_limit", info.memory_limit},
                              {"libraries", info.libraries}});
  }
  out["mode"] = name(execution_mode());
  out["models"] = model_types();
  out["passes"] = pass_names();
  fmt::print("{}\n", out.dump(2));
}

}  // namespace

void add_info_command(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "info", "Shows the devices, threads, instruction set, libraries and limits.");
  command->add_flag("--json", *json, "As JSON");
  command->callback([json] { *json ? print_json() : print_text(); });
}

}  // namespace metal_candle::cli
