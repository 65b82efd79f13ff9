// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// --profile and --trace, which every subcommand has.
#pragma once

#include <CLI/CLI.hpp>

namespace metal_candle::cli {

/// Adds the options to every subcommand there is. What they ask for begins when the command line
/// has been read.
void add_profile_options(CLI::App& app);

/// Prints the profile to standard error and writes the trace, whichever was asked for: also when
/// the command has failed, but then no profile without a step. Throws IoError if the trace cannot
/// be written.
void finish_profile(bool failed);

}  // namespace metal_candle::cli
