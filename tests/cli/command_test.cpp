// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The command as a user meets it: exit codes, messages, files, and runs that are killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/cli/command_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(Command, UsageErrorsExitWithTwo) {
  for (const char* arguments :
       {"", "nonsense", "train", "train --train", "generate --model x", "train --batch-size many",
        "generate --model x --prompt y --dtype f64"}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << arguments << outcome.err;
    EXPECT_FALSE(outcome.err.empty()) << arguments;
  }
  EXPECT_EQ(run("--help").exit_code, 0);
  for (const char* command : {"train", "generate", "evaluate", "fuse", "info", "bench", "tune"})
    EXPECT_THAT(run(std::string(command) + " --help").out, HasSubstr("--")) << command;
  EXPECT_THAT(run("--version").out, StartsWith("metal-candle "));
}

TEST_F(Command, FailuresExitWithOneAndSayWhat) {
  const Outcome missing = run("generate --model " + folder_.path() + " --prompt x");
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, HasSubstr("config.json"));

  folder_.write("train.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}\n");
  const Outcome bad_line = run(train_arguments("a"));
  EXPECT_EQ(bad_line.exit_code, 1);
  EXPECT_THAT(bad_line.err, HasSubstr("train.jsonl:2: \"text\": expected a string"));

  EXPECT_THAT(run("generate --prompt x --device cuda:99 --model " + kModel).err, HasSubstr("cuda"));
  EXPECT_THAT(run("generate --prompt x --adapter-path /nonexistent --model " + kModel).err,
              HasSubstr("/nonexistent"));
  // The last of an option given twice wins.
  EXPECT_THAT(run(train_arguments("a") + "--adapter-path /proc/none/adapter").err,
              HasSubstr("/proc/none/adapter"));
  EXPECT_THAT(
      run("train --train --resume --model " + kModel + " --data " + folder_.path()).exit_code, 1);
}

TEST_F(Command, TrainWritesWhatItSays) {
  const Outcome trained = run(train_arguments("a") + "--test --json");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors", "metrics.jsonl",
                           "report.html", "checkpoints/checkpoint-0000040.safetensors"})
    EXPECT_FALSE(folder_.read(std::string("a/") + file).empty()) << file;
  EXPECT_THAT(folder_.read("a/report.html"), HasSubstr("<svg"));
  const auto summary = nlohmann::json::parse(trained.out.substr(0, trained.out.find('\n')));
  EXPECT_EQ(summary["iterations"], 40);
  const std::vector<double> all = losses("a");
  ASSERT_EQ(all.size(), 40u);
  EXPECT_LT(all.back(), all.front());

  // The adapter makes the text likelier, beside the weights and merged into them.
  const auto perplexity = [&](const std::string& arguments) {
    const Outcome outcome = run("evaluate --json --data " + folder_.path() + " " + arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out)["perplexity"].get<double>();
  };
  const double base = perplexity("--model " + kModel);
  const double adapted = perplexity("--model " + kModel + " --adapter-path " + (folder_ / "a"));
  EXPECT_LT(adapted, base);
  const Outcome fused = run("fuse --model " + kModel + " --adapter-path " + (folder_ / "a") +
                            " --save-path " + (folder_ / "fused"));
  ASSERT_EQ(fused.exit_code, 0) << fused.err;
  EXPECT_NEAR(perplexity("--model " + (folder_ / "fused")) / adapted, 1, 0.02);
}

TEST_F(Command, ProfilesAndTracesAnySubcommand) {
  const std::string trace = folder_ / "trace.json";
  const Outcome outcome = run("generate --quiet --max-tokens 4 --prompt hope --model " + kModel +
                              " --profile --trace " + trace);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* word : {"operation", "matmul", "GB/s", "find plan", "wait", "plan hits",
                           "graphs replayed", "recording took"}) {
    EXPECT_THAT(outcome.err, HasSubstr(word));
  }
  EXPECT_THAT(outcome.err, HasSubstr(device_name() + " queue 0"));
  EXPECT_THAT(outcome.err, HasSubstr("memory of " + device_name()));
  const auto events = nlohmann::json::parse(folder_.read("trace.json")).at("traceEvents");
  EXPECT_GT(events.size(), 20u);

  const Outcome idle = run("info --json --profile");
  EXPECT_EQ(idle.exit_code, 0) << idle.err;
  EXPECT_TRUE(nlohmann::json::accept(idle.out));
  EXPECT_THAT(idle.err, HasSubstr("no step ran"));

  // Of a command that fails there is a trace, too; and a trace that cannot be written is a failure.
  const std::string failed = folder_ / "failed.json";
  EXPECT_EQ(run("generate --prompt x --model /nonexistent --trace " + failed).exit_code, 1);
  EXPECT_TRUE(nlohmann::json::accept(folder_.read("failed.json")));
  const Outcome unwritten = run("info --trace /nonexistent/trace.json");
  EXPECT_EQ(unwritten.exit_code, 1);
  EXPECT_THAT(unwritten.err, HasSubstr("/nonexistent/trace.json"));
}

TEST_F(Command, BenchNamesItsCasesAndMeasuresNothingWhereNoneMatches) {
  // A peer that is started would say so.
  folder_.write("python", "#!/bin/sh\ntouch " + (folder_ / "started") + "\n");
  std::filesystem::permissions(folder_ / "python", std::filesystem::perms::owner_all);
  setenv("METAL_CANDLE_PYTHON", (folder_ / "python").c_str(), 1);
  const std::string trace = folder_ / "trace";
  for (const std::string suite : {"engine", "ops", "generate", "train"}) {
    const std::string bench = "bench --compare torch,mlx,jax --suite " + suite;
    for (const std::string& profiling : {std::string(), " --profile --trace " + trace}) {
      const Outcome outcome = run(bench + " --filter 9x9" + profiling);
      EXPECT_EQ(outcome.exit_code, 1);
      EXPECT_EQ(outcome.out, "");
      EXPECT_EQ(outcome.err, "metal-candle: bench: no case of the suite " + suite +
                                 " has \"9x9\" in its name; \"metal-candle bench --suite " + suite +
                                 " --list\" prints the names\n");
    }
    const Outcome all = run(bench + " --list");
    EXPECT_EQ(all.exit_code, 0) << all.err;
    EXPECT_GE(std::ranges::count(all.out, '\n'), 4) << all.out;
    const std::string first = all.out.substr(0, all.out.find('\n'));
    EXPECT_THAT(run(bench + " --list --filter '" + first + "'").out, StartsWith(first + "\n"));
  }
  unsetenv("METAL_CANDLE_PYTHON");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "started"));
  EXPECT_THAT(run("bench --suite train --list --filter 5m --model " + kModel).out,
              StartsWith("definitions-5m, "));
}

TEST_F(Command, BenchDoesWithoutPeersAndFindsRegressions) {
  const std::string first = folder_ / "first.json", second = folder_ / "second.json";
  const std::string bench =
      "bench --suite ops --compare torch,mlx,jax --filter 'pass softmax' --json ";
  setenv("METAL_CANDLE_PYTHON", "/nonexistent/python", 1);
  const Outcome measured = run(bench + first);
  ASSERT_EQ(measured.exit_code, 0) << measured.err;
  for (const char* word : {"without PyTorch: /nonexistent/python did not start", "without MLX",
                           "without JAX", "pass softmax"}) {
    EXPECT_THAT(measured.out, HasSubstr(word));
  }
  EXPECT_THAT(measured.out, HasSubstr("limits of " + device_name() + ": copies"));
  auto rows = nlohmann::json::parse(folder_.read("first.json"));
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0]["name"], "pass softmax");
  EXPECT_GT(rows[0]["value"].get<double>(), 0);

  // Against a baseline that was so much better, and so much worse, that nothing else matters.
  const double reference = rows[0]["reference"].get<double>();
  rows[0]["reference"] = reference * 1e6;
  folder_.write("better.json", rows.dump());
  const Outcome worse = run(bench + second + " --baseline " + (folder_ / "better.json"));
  EXPECT_EQ(worse.exit_code, 1);
  EXPECT_THAT(worse.err, HasSubstr("regression: pass softmax: "));
  rows[0]["reference"] = reference / 1e6;
  folder_.write("worse.json", rows.dump());
  const Outcome better = run(bench + second + " --baseline " + (folder_ / "worse.json"));
  EXPECT_EQ(better.exit_code, 0) << better.err;
  EXPECT_THAT(better.err, HasSubstr("0 of 1 rows"));
  EXPECT_EQ(run(bench + second + " --baseline /nonexistent.json").exit_code, 1);
  const Outcome unknown = run("bench --suite train --compare torch,tensorflow");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("--compare: tensorflow not in {torch,mlx,jax,none}"));
  unsetenv("METAL_CANDLE_PYTHON");
}

TEST_F(Command, BenchHasARowForEachPeerThatLoadsTheModel) {
  // In the place of Python: an MLX that takes two of whatever it is asked for, and a JAX that knows
  // no such model.
  folder_.write("python",
                "#!/bin/sh\ncase \"$3\" in\n"
                "  *'import mlx'*) echo mlx 1; while read line; do echo 2; done;;\n"
                "  *'import jax'*) echo jax 1; while read line; do echo 'error: no'; done;;\n"
                "  *) echo not installed;;\nesac\n");
  std::filesystem::permissions(folder_ / "python", std::filesystem::perms::owner_all);
  setenv("METAL_CANDLE_PYTHON", (folder_ / "python").c_str(), 1);
  const Outcome outcome = run("bench --suite generate --compare torch,mlx,jax --model " + kModel +
                              " --filter 'definitions-5m, prompt' --json " + (folder_ / "rows"));
  unsetenv("METAL_CANDLE_PYTHON");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* word :
       {"without PyTorch: not installed", "peer: MLX 1", "peer: JAX 1", "jax failed on 'load "}) {
    EXPECT_THAT(outcome.out, HasSubstr(word));
  }
  const auto rows = nlohmann::json::parse(folder_.read("rows"));
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["name"], "definitions-5m, prompt to first token");
  EXPECT_TRUE(rows[0]["reference"].is_null());
  EXPECT_EQ(rows[1]["name"], "definitions-5m, prompt to first token, against MLX");
  EXPECT_EQ(rows[1]["reference"], 2000);
  EXPECT_EQ(rows[1]["reference_name"], "MLX");
  EXPECT_EQ(rows[1]["value"], rows[0]["value"]);
}

TEST_F(Command, BenchHasRowsOfStartsForEachPeer) {
  // In the place of Python: any framework, which takes two of whatever it is asked for.
  folder_.write("python",
                "#!/bin/sh\ncase \"$3\" in\n  *'import mlx'*) echo mlx 1;;\n"
                "  *'import jax'*) echo jax 1;;\n  *) echo torch 1;;\nesac\n"
                "while read line; do echo 2; done\n");
  std::filesystem::permissions(folder_ / "python", std::filesystem::perms::owner_all);
  setenv("METAL_CANDLE_PYTHON", (folder_ / "python").c_str(), 1);
  const auto rows_of = [&](const std::string& suite, const std::string& filter) {
    const Outcome outcome = run("bench --compare torch,mlx,jax --json - --model " + kModel +
                                " --suite " + suite + " --filter '" + filter + "'");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  for (const std::string what : {"token", "step"}) {
    for (const std::string name :
         {"process start to ready", "ready to first ", "process start to first "}) {
      const std::string row =
          "definitions-5m, " + name + (name.ends_with(' ') ? what : std::string());
      const auto rows = rows_of(what == "token" ? "generate" : "train", row);
      ASSERT_EQ(rows.size(), 3u) << row;
      EXPECT_EQ(rows[0]["name"], row);
      EXPECT_EQ(rows[0]["reference_name"], "PyTorch");
      EXPECT_EQ(rows[1]["name"], row + ", against MLX");
      EXPECT_EQ(rows[2]["name"], row + ", against JAX");
      for (const auto& each : rows) {
        EXPECT_GT(each["value"].get<double>(), 0);
        EXPECT_GT(each["reference"].get<double>(), 0);
      }
    }
  }
  for (const char* name : {"process start to ready", "first call of a process"}) {
    const auto rows = rows_of("ops", name);
    ASSERT_EQ(rows.size(), 1u) << name;
    EXPECT_GT(rows[0]["value"].get<double>(), 0);
    for (const char* peer : {"PyTorch eager", "torch.compile", "MLX", "MLX compiled", "JAX jit"}) {
      EXPECT_GT(rows[0]["peers"][peer].get<double>(), 0) << peer;
    }
  }
  unsetenv("METAL_CANDLE_PYTHON");
}

TEST_F(Command, BenchStartsComputeWhenTheyAreToldTo) {
  for (const char* what : {"call", "token", "step"}) {
    const Outcome outcome =
        run(std::string("bench --model ") + kModel + " --first " + what, "once\nagain\n");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, StartsWith("metal-candle ready\n"));
    EXPECT_EQ(std::ranges::count(outcome.out, '\n'), 3) << outcome.out;
    EXPECT_EQ(run(std::string("bench --device cuda:99 --first ") + what).exit_code, 1);
  }
}

TEST_F(Command, TuneKeepsWhatItFindsAndRefusesWhatItCannotRead) {
  setenv("METAL_CANDLE_CACHE", (folder_ / "cache").c_str(), 1);
  const std::string trace = folder_ / "trace.json";
  ASSERT_EQ(
      run("generate --quiet --max-tokens 2 --prompt hope --model " + kModel + " --trace " + trace)
          .exit_code,
      0);
  // The first job has its turn however slow the machine is: a trace's longest, and what is named
  // before that.
  const Outcome traced = run("tune --budget 1 --from " + trace);
  ASSERT_EQ(traced.exit_code, 0) << traced.err;
  for (const char* word : {"tuning ", "\nmatmul ", "saved ", "tuning.json"}) {
    EXPECT_THAT(traced.out, HasSubstr(word));
  }
  const Outcome named = run("tune --budget 1 --from " + trace + " --shape 'softmax 64 512 f32'");
  ASSERT_EQ(named.exit_code, 0) << named.err;
  EXPECT_THAT(named.out, HasSubstr("\nsoftmax 64 512 f32 "));
  const auto file = nlohmann::json::parse(folder_.read("cache/tuning.json"));
  EXPECT_EQ(file["version"], 1);
  ASSERT_EQ(file["devices"].size(), 1u);
  const Outcome dry = run("tune --dry-run --budget 1 --op sum");
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_THAT(dry.out, ::testing::Not(HasSubstr("saved")));

  EXPECT_THAT(run("tune --shape 'conv 1 2'").err, HasSubstr("known are matmul"));

  // A cache that cannot be read is a warning where it would only help, and an error where it would
  // be written over.
  folder_.write("cache/tuning.json", "{\"format\": \"metal-candle tuning\", \"version\": 2}");
  const Outcome later = run("generate --quiet --max-tokens 2 --prompt hope --model " + kModel);
  EXPECT_EQ(later.exit_code, 0);
  EXPECT_THAT(later.err, HasSubstr("cache/tuning.json: tuned parameters of version 2"));
  EXPECT_EQ(run("tune --budget 1 --shape 'sum 4 4'").exit_code, 1);
  EXPECT_THAT(folder_.read("cache/tuning.json"), HasSubstr("2}"));
  EXPECT_EQ(run("tune --budget -1").exit_code, 2);
  unsetenv("METAL_CANDLE_CACHE");
}

TEST_F(Command, KilledRunsGoOnToTheBit) {
  ASSERT_EQ(run(train_arguments("unbroken") + "--json").exit_code, 0);
  const std::vector<double> expected = losses("unbroken");
  // The command line as words, for a process that can be killed.
  const std::string script =
      "exec " METAL_CANDLE_COMMAND " " + train_arguments("killed") + "--json";
  bool finished = false;
  for (int attempt = 0; attempt < 40 && !finished; ++attempt) {
    const pid_t child = fork();
    if (child == 0) {
      const std::string line =
          script + (attempt > 0 ? " --resume" : "") + " >/dev/null 2>" + (folder_ / "child_error");
      execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    std::thread killer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(900 + 350 * attempt));
      kill(child, SIGKILL);
    });
    int status = 0;
    waitpid(child, &status, 0);
    killer.join();
    finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    // Killed before the first checkpoint: there is nothing to resume from yet.
    if (WIFEXITED(status) && WEXITSTATUS(status) == 1) {
      ASSERT_THAT(folder_.read("child_error"), HasSubstr("no checkpoint"));
      std::error_code ignored;
      std::filesystem::remove_all(folder_ / "killed", ignored);
      const Outcome whole = run(train_arguments("killed") + "--json");
      finished = whole.exit_code == 0;
    }
  }
  ASSERT_TRUE(finished);
  EXPECT_EQ(losses("killed"), expected);
}

TEST_F(Command, InterruptSavesAndSaysHowToGoOn) {
  const pid_t child = fork();
  if (child == 0) {
    const std::string line = "exec " METAL_CANDLE_COMMAND " " + train_arguments("stopped") +
                             "--iters 100000 >/dev/null 2>" + (folder_ / "child_error");
    execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    _exit(127);
  }
  const std::string first = "stopped/checkpoints/checkpoint-0000005.safetensors";
  for (int i = 0; i < 600 && folder_.read(first).empty(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  kill(child, SIGINT);
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(folder_.read("child_error"), HasSubstr("--resume"));
  EXPECT_FALSE(folder_.read("stopped/adapter_model.safetensors").empty());
}

TEST_F(Command, GenerateIsTheSameInEveryMode) {
  std::string first;
  for (const char* mode : {"eager", "sync", "async"}) {
    const Outcome outcome =
        run("generate --quiet --max-tokens 20 --temp 0.8 --seed 4 --prompt "
            "'Define river.' --dtype f32 --model " +
            kModel + " --mode " + mode);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    if (first.empty()) first = outcome.out;
    EXPECT_EQ(outcome.out, first) << mode;
  }
  const Outcome json =
      run("generate --json --max-tokens 5 --prompt 'Define river.' --model " + kModel);
  EXPECT_LE(nlohmann::json::parse(json.out)["generated_tokens"].get<int>(), 5);
}

TEST_F(Command, YamlConfigurationsAreReadAndFlagsWin) {
  const std::string good = folder_.write(
      "good.yaml", "model: " + kModel + "\ntrain: true\ndata: " + folder_.path() +
                       "\niters: 3\nbatch_size: 2\nlora_parameters:\n  rank: 4\n  scale: 2.0\n"
                       "  keys: [self_attn.q_proj]\n");
  const Outcome outcome =
      run("train --json --iters 2 --config " + good + " --adapter-path " + (folder_ / "y"));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["iterations"], 2);
  const auto config = nlohmann::json::parse(folder_.read("y/adapter_config.json"));
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 8);
  const std::string bad = folder_.write("bad.yaml", "model: x\nlearning_speed: 1\n");
  const Outcome refused = run("train --config " + bad);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("bad.yaml:2: learning-speed is not an option"));
}

TEST_F(Command, SchedulesAreReadAsMlxLmWritesThem) {
  // The learning rates of metrics.jsonl, by iteration.
  const auto rates = [&](const std::string& adapter, const std::string& schedule,
                         const std::string& flags = "") {
    const std::string config =
        folder_.write(adapter + ".yaml", "batch_size: 2\niters: 6\nlr_schedule:\n" + schedule);
    const Outcome outcome = run(
        "train --train --json --steps-per-report 1 --num-layers 1 --model " + kModel + " --data " +
        folder_.path() + " --config " + config + " --adapter-path " + (folder_ / adapter) + flags);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    std::vector<double> found;
    std::istringstream lines(folder_.read(adapter + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains("learning_rate")) found.push_back(json["learning_rate"].get<double>());
    }
    return found;
  };
  const auto near = [](std::vector<double> values) {
    return ::testing::Pointwise(::testing::DoubleNear(1e-9), values);
  };
  EXPECT_THAT(rates("cosine",
                    "  name: cosine_decay\n  arguments: [1e-4, 2, 2e-5]\n  warmup: 2\n"
                    "  warmup_init: 5e-5\n"),
              near({5e-5, 7.5e-5, 1e-4, 1e-4, 6e-5, 2e-5}));
  EXPECT_THAT(rates("linear", "  arguments: [1e-4, 2e-5, 4]\n  name: linear_schedule\n"),
              near({1e-4, 8e-5, 6e-5, 4e-5, 2e-5, 2e-5}));
  EXPECT_THAT(rates("flags", "  arguments: [1e-4, 2e-5, 4]\n  name: linear_schedule\n",
                    " --decay-steps 2 --warmup 1 --warmup-init 9e-5"),
              near({9e-5, 1e-4, 1e-4, 6e-5, 2e-5, 2e-5}));
  const std::string bad =
      folder_.write("bad.yaml", "lr_schedule:\n  name: step_decay\n  arguments: [1, 2, 3]\n");
  EXPECT_THAT(run("train --train --config " + bad).err,
              HasSubstr("bad.yaml:2: unknown learning-rate schedule 'step_decay'"));
}

TEST_F(Command, TestBatchesLimitWhatIsMeasured) {
  std::string lines;
  for (const char* word : {"a", "b", "c", "d", "e"})
    lines += std::string(R"({"text": "The letter )") + word + R"(."})" + "\n";
  folder_.write("test.jsonl", lines);
  const auto tokens = [&](const std::string& options) {
    const Outcome outcome = run("evaluate --json --batch-size 2 --model " + kModel + " --data " +
                                folder_.path() + " " + options);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out)["tokens"].get<int>();
  };
  const int all = tokens("");
  EXPECT_EQ(tokens("--test-batches 2"), all / 5 * 4);
  EXPECT_EQ(tokens("--test-batches -1"), all);
  EXPECT_EQ(tokens("--test-batches 9"), all);
  EXPECT_EQ(run("evaluate --test-batches 0 --model " + kModel).exit_code, 2);
  const Outcome tested = run("train --test --json --batch-size 2 --test-batches 1 --model " +
                             kModel + " --data " + folder_.path());
  EXPECT_EQ(nlohmann::json::parse(tested.out)["tokens"].get<int>(), all / 5 * 2) << tested.err;
}

TEST_F(Command, BenchMeasuresTrainingAndGeneration) {
  for (const char* suite : {"train", "generate"}) {
    const Outcome outcome = run(std::string("bench --json - --filter definitions-5m --suite ") +
                                suite + " --model " + kModel);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const auto rows = nlohmann::json::parse(outcome.out);
    ASSERT_GE(rows.size(), 4u);
    for (const auto& row : rows) {
      EXPECT_THAT(row["name"].get<std::string>(), StartsWith("definitions-5m, "));
      // A peer's form that we have no counterpart of has no value of ours.
      const auto& shown = row[row["value"].is_null() ? "reference" : "value"];
      EXPECT_GT(shown.get<double>(), 0) << row;
      EXPECT_TRUE(row["reference"].is_number() || row["reference_name"] == "PyTorch" ||
                  row["reference_name"] == "Hugging Face tokenizers")
          << row;
      EXPECT_TRUE(row.contains("unit") && row.contains("ratio") && row.contains("goal") &&
                  row.contains("met"));
    }
  }
}

}  // namespace
}  // namespace metal_candle::testing
