// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The subcommands: each adds itself to the parser and returns what runs it.
#pragma once

#include <CLI/CLI.hpp>

namespace metal_candle::cli {

void add_bench_command(CLI::App& app);
void add_evaluate_command(CLI::App& app);
void add_fuse_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_info_command(CLI::App& app);
void add_train_command(CLI::App& app);
void add_tune_command(CLI::App& app);

}  // namespace metal_candle::cli
