// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The metal-candle command. Exit codes: 0 success, 1 failure, 2 usage error.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "cli/commands.h"
#include "cli/profile.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app("metal-candle: a lazy, asynchronous tensor engine for language models.",
               "metal-candle");
  app.set_version_flag("--version", "metal-candle " METAL_CANDLE_VERSION);
  app.require_subcommand(1);
  // As elsewhere, the last of an option given twice wins.
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  metal_candle::cli::add_train_command(app);
  metal_candle::cli::add_generate_command(app);
  metal_candle::cli::add_evaluate_command(app);
  metal_candle::cli::add_fuse_command(app);
  metal_candle::cli::add_info_command(app);
  metal_candle::cli::add_bench_command(app);
  metal_candle::cli::add_tune_command(app);
  metal_candle::cli::add_profile_options(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return 0;
}

}  // namespace

// Runs fn; the exit code of what it throws.
template <typename Fn>
int report_errors(Fn fn) {
  try {
    return fn();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "metal-candle: %s\n", error.what());
    return 1;
  }
}

int main(int argc, char** argv) {
  const int ran = report_errors([&] { return run(argc, argv); });
  const int finished = report_errors([ran] {
    metal_candle::cli::finish_profile(/*failed=*/ran != 0);
    return 0;
  });
  return ran != 0 ? ran : finished;
}
