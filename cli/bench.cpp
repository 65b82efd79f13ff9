// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle bench: measures this machine.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "bench/baseline.h"
#include "bench/engine_suite.h"
#include "bench/generate_suite.h"
#include "bench/harness.h"
#include "bench/ops_suite.h"
#include "bench/train_suite.h"
#include "cli/commands.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/device_info.h"

namespace metal_candle::cli {
namespace {

struct BenchOptions {
  std::string suite = "engine";
  std::string first;
  std::string model;
  std::string json;
  std::string filter;
  bool list = false;
  std::string baseline;
  std::vector<std::string> compare = {"torch"};
  std::string clock = "wall";
  std::string device = to_string(default_device());
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw IoError(path + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

void check_baseline(const bench::Table& table, const std::string& json, const std::string& path) {
  const bench::BaselineReport report = bench::compare_with_baseline(table.rows(), json, path);
  for (const bench::Regression& r : report.regressions) {
    fmt::print(stderr, "regression: {}: {:.2f} times as good as {}, {:.2f} in {}\n", r.row, r.now,
               r.reference, r.before, path);
  }
  fmt::print(stderr, "{} of {} rows in common with {} fell by more than 15 %\n",
             report.regressions.size(), report.compared, path);
  if (!report.regressions.empty()) throw CLI::RuntimeError(1);
}

void run_suite(const BenchOptions& options, bench::Table& table,
               const std::vector<std::string>& peers) {
  if (options.suite == "generate") {
    bench::run_generate_suite(table, options.model, peers);
  } else if (options.suite == "train") {
    bench::run_train_suite(table, options.model, peers);
  } else if (options.suite == "ops") {
    bench::run_ops_suite(table, default_device(), peers);
  } else {
    bench::run_engine_suite(table);
  }
}

// Of the cases that the filter lets through; throws if there are none.
std::vector<std::string> names_of_cases(const BenchOptions& options) {
  bench::Table table = bench::Table::listing(options.filter);
  run_suite(options, table, {});
  if (table.names().empty()) {
    throw Error(fmt::format(
        "bench: no case of the suite {0} has \"{1}\" in its name; \"metal-candle bench --suite {0} "
        "--list\" prints the names",
        options.suite, options.filter));
  }
  return table.names();
}

void run(const BenchOptions& options) {
  set_default_device(parse_device(options.device));
  static_cast<void>(device_info(default_device()));  // Throws if there is no such device.
  if (options.first == "token") return bench::generate_first_token(options.model);
  if (options.first == "step") return bench::train_first_step(options.model);
  if (options.first == "call") return bench::first_call(default_device());
  if (options.clock == "process") {
    if (options.suite != "ops") throw CLI::ValidationError("--clock", "process is for --suite ops");
    bench::set_clock(bench::Clock::kProcess);
  }
  const std::vector<std::string> names = names_of_cases(options);
  if (options.list) {
    for (const std::string& name : names) fmt::print("{}\n", name);
    return;
  }
  // Read before hours of measuring, and before --json may write it anew.
  const std::string baseline = options.baseline.empty() ? "" : read_file(options.baseline);
  const bool json_to_stdout = options.json == "-";
  bench::Table table(options.filter, json_to_stdout);
  run_suite(options, table, options.compare);
  if (table.rows().empty()) {
    throw Error(fmt::format("bench: {} cannot be measured here", fmt::join(names, ", ")));
  }
  if (json_to_stdout) {
    std::fputs(table.to_json().c_str(), stdout);
  } else if (!options.json.empty()) {
    write_file_atomically(options.json, table.to_json());
  }
  if (!options.baseline.empty()) check_baseline(table, baseline, options.baseline);
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand(
      "bench",
      "Measures this machine: one row a case, against a reference that takes turns with ours in "
      "the same run.\n"
      "Set METAL_CANDLE_PYTHON to a Python that has the peers (bench/setup_peers.sh makes one): "
      "PyTorch,\nand transformers for the suites generate and train; MLX and JAX "
      "(with safetensors)\nfor --compare.");
  command->add_option("--suite", options->suite, "What to measure")
      ->check(CLI::IsMember({"engine", "ops", "generate", "train"}))
      ->capture_default_str();
  command
      ->add_option("--device", options->device, "Where to compute: cpu, metal, cuda or cuda:1 ...")
      ->capture_default_str();
  command
      ->add_option("--model", options->model,
                   "A model folder for the suites generate and train to measure, too")
      ->type_name("FOLDER");
  command
      ->add_option(
          "--compare", options->compare,
          "Peers of the suites ops, generate and train, separated by commas: torch, mlx, jax; "
          "or none")
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->check(CLI::IsMember({"torch", "mlx", "jax", "none"}))
      ->capture_default_str();
  command
      ->add_option("--clock", options->clock,
                   "What the suite ops is timed with: wall, or process: the time of the processor, "
                   "all threads together,\nfor a machine that is busy (METAL_CANDLE_NUM_THREADS=1 "
                   "then makes contestants alike)")
      ->check(CLI::IsMember({"wall", "process"}))
      ->capture_default_str();
  command
      ->add_option("--baseline", options->baseline,
                   "What --json wrote in an earlier run: exit with 1 and name the rows whose ratio "
                   "to their reference\nhas fallen by more than 15 % since")
      ->type_name("FILE");
  command->add_option("--filter", options->filter, "Only cases whose name contains this");
  command->add_flag("--list", options->list, "Only print the names of the cases");
  command
      ->add_option("--json", options->json,
                   "Also write the rows to FILE as JSON; - for standard output instead")
      ->type_name("FILE");
  // What the suites start as processes of their own.
  command
      ->add_option(
          "--first", options->first,
          "Say when the library, or --model, is loaded; then compute an operation, a token or a "
          "training step for each line of the standard input")
      ->check(CLI::IsMember({"call", "token", "step"}))
      ->group("");
  command->callback([options] { run(*options); });
}

}  // namespace metal_candle::cli
