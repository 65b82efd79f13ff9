// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle bench: measures this machine.
#include <memory>
#include <string>

#include "bench/engine_suite.h"
#include "bench/generate_suite.h"
#include "bench/harness.h"
#include "cli/commands.h"
#include "metal_candle/core/atomic_file.h"

namespace metal_candle::cli {
namespace {

struct BenchOptions {
  std::string suite = "engine";
  std::string model;
  std::string json;
  std::string filter;
};

void run(const BenchOptions& options) {
  const bool json_to_stdout = options.json == "-";
  bench::Table table(options.filter, json_to_stdout);
  if (options.suite == "generate") {
    bench::run_generate_suite(table, options.model);
  } else {
    bench::run_engine_suite(table);
  }
  if (json_to_stdout) {
    std::fputs(table.to_json().c_str(), stdout);
  } else if (!options.json.empty()) {
    write_file_atomically(options.json, table.to_json());
  }
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand(
      "bench",
      "Measures this machine: one row a case, against a reference that takes turns with ours in "
      "the same run.\n"
      "Set METAL_CANDLE_PYTHON to a Python that has PyTorch (and transformers, for the suite "
      "generate) for the rows that compare with it.");
  command->add_option("--suite", options->suite, "What to measure")
      ->check(CLI::IsMember({"engine", "generate"}))
      ->capture_default_str();
  command
      ->add_option("--model", options->model,
                   "A model folder for the suite generate to measure, too")
      ->type_name("FOLDER");
  command->add_option("--filter", options->filter, "Only cases whose name contains this");
  command
      ->add_option("--json", options->json,
                   "Also write the rows to FILE as JSON; - for standard output instead")
      ->type_name("FILE");
  command->callback([options] { run(*options); });
}

}  // namespace metal_candle::cli
