// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Options from a YAML file, as mlx-lm's --config: every key is the name of an option, with
// underscores for hyphens. What the command line says wins.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace metal_candle::cli {

/// Gives each option of `command` that the command line left out the value that the file has for
/// it. mlx-lm's nested sections mean: lora_parameters {rank, scale, alpha, dropout, keys} the
/// options --rank, --scale, --alpha, --dropout and --target-modules; lr_schedule {name, warmup,
/// warmup_init, arguments} the options --lr-schedule, --warmup, --warmup-init, and --learning-rate,
/// --decay-steps and --final-learning-rate in the order of the schedule's arguments: [init,
/// decay_steps, end] of cosine_decay, [init, end, steps] of linear_schedule. Throws IoError, or
/// FormatError naming file, line and key for what is not YAML or not an option.
void apply_yaml_config(CLI::App& command, const std::string& path);

}  // namespace metal_candle::cli
