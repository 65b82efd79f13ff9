// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle tune: finds kernel parameters that are faster on this machine.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "metal_candle/backend/registry.h"
#include "metal_candle/backend/tuning_file.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/execute/device_info.h"
#include "metal_candle/execute/tuner.h"

namespace metal_candle::cli {
namespace {

struct TuneCommand {
  std::string device = to_string(default_device());
  std::string op;
  std::vector<std::string> shapes;
  std::string from;
  std::string output;
  double budget = 60;
  bool dry_run = false;
};

std::string read_file(const std::string& path, bool must_exist) {
  std::ifstream file(path, std::ios::binary);
  if (!file && must_exist) throw IoError(path + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<TuningJob> jobs_of(const TuneCommand& command, Device device) {
  // Those that are named come first: a short budget is spent on them.
  std::vector<TuningJob> jobs;
  for (const std::string& shape : command.shapes) jobs.push_back(parse_tuning_job(shape, device));
  if (!command.from.empty()) {
    std::ranges::move(tuning_jobs_of_trace(read_file(command.from, true), command.from, device),
                      std::back_inserter(jobs));
  }
  if (!jobs.empty() && command.op.empty()) return jobs;
  if (jobs.empty()) return default_tuning_jobs(device, command.op);
  std::erase_if(jobs, [&](const TuningJob& job) {
    return job.name.substr(0, job.name.find(' ')) != command.op;
  });
  if (jobs.empty()) throw FormatError("tune: none of the shapes is of operation " + command.op);
  return jobs;
}

std::string describe(const backend::Tuning::Key& key) {
  const backend::ShapeClass& shape = key.second;
  return fmt::format("{} ({} {} {} {})", backend::info_of(key.first).name, name(shape.dtype),
                     shape.sizes[0], shape.sizes[1], shape.sizes[2]);
}

void print_report(const TuningReport& report) {
  fmt::print("{:<36}{:>12}{:>12}{:>8}{:>8}{:>8}\n", "job", "default, us", "tuned, us", "won",
             "tried", "wrong");
  for (const TuningOutcome& outcome : report.outcomes) {
    if (outcome.before_seconds == 0 || outcome.after_seconds == outcome.before_seconds) {
      fmt::print("{:<36}{:>12}{:>12}{:>8}{:>8}{:>8}\n", outcome.job, "", "", "-", outcome.tried,
                 outcome.wrong);
      continue;
    }
    fmt::print("{:<36}{:>12.2f}{:>12.2f}{:>6.1f} %{:>8}{:>8}\n", outcome.job,
               outcome.before_seconds * 1e6, outcome.after_seconds * 1e6,
               100 * (outcome.before_seconds / outcome.after_seconds - 1), outcome.tried,
               outcome.wrong);
  }
  for (const TuningGain& gain : report.gains) {
    fmt::print("  {}: {} instead of {}\n", describe(gain.key), gain.value, gain.fallback);
  }
  if (report.unfinished > 0) {
    fmt::print("no time was left for {} of the jobs: --budget gives more\n", report.unfinished);
  }
}

void run(const TuneCommand& command) {
  const Device device = parse_device(command.device);
  static_cast<void>(device_info(device));  // Throws if there is no such device.
  const std::string path = command.output.empty() ? backend::tuning_path() : command.output;
  if (path.empty() && !command.dry_run) {
    throw Error(
        "tune: METAL_CANDLE_TUNING is off, or there is no folder for caches; give --output");
  }
  const std::string key = backend::tuning_key(backend::backend_for(device));
  // What cannot be added to is better known before the work than after it.
  const std::string before = path.empty() ? std::string() : read_file(path, false);
  backend::Tuning known;
  if (!before.empty()) backend::read_tuning(before, path, key, known);
  const std::vector<TuningJob> jobs = jobs_of(command, device);
  fmt::print("tuning {}: {} jobs, {:.0f} s\n", key, jobs.size(), command.budget);
  TuneOptions options{.budget_seconds = command.budget};
  TuningReport report;
  {
    StatusLine status;
    options.on_progress = [&](double done, const std::string& text) {
      status.show("tuning", done, text);
    };
    report = tune(device, jobs, options);
  }
  print_report(report);
  if (command.dry_run) return;
  for (const auto& [where, value] : report.values.values()) {
    known.set(where.first, where.second, value);
  }
  std::filesystem::create_directories(
      std::filesystem::absolute(std::filesystem::path(path)).parent_path());
  write_file_atomically(path, backend::with_tuning(before, path, key, known));
  fmt::print("saved {} values in {}\n", known.values().size(), path);
}

}  // namespace

void add_tune_command(CLI::App& app) {
  auto c = std::make_shared<TuneCommand>();
  CLI::App* command = app.add_subcommand(
      "tune",
      "Finds kernel parameters that are faster on this machine, and keeps them for later runs\n"
      "(in $METAL_CANDLE_TUNING, else tuning.json in the cache folder). Every candidate's result "
      "is\n"
      "compared with the default's before it is timed; only what wins twice is kept.");
  command->add_option("--device", c->device, "What to tune: cpu, cuda or cuda:1 ...")
      ->capture_default_str();
  command->add_option("--op", c->op,
                      "Only one operation: matmul, matmul_t, softmax, rms_norm, layer_norm, sum,\n"
                      "elementwise, attention or steps");
  command
      ->add_option("--shape", c->shapes,
                   "A job, such as \"matmul 128 4096 1024 bf16\" (m, n, k); may be given several "
                   "times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  command->add_option("--from", c->from, "The shapes in a trace that --trace wrote")
      ->type_name("TRACE");
  command->add_option("--budget", c->budget, "Seconds")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--output", c->output, "The file to add to")->type_name("FILE");
  command->add_flag("--dry-run", c->dry_run, "Keep nothing");
  command->callback([c] { run(*c); });
}

}  // namespace metal_candle::cli
