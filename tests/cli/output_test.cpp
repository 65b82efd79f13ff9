// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the command prints: before, while and after it works, on a terminal and elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <util.h>
#else
#include <pty.h>
#endif

#include <algorithm>
#include <array>
#include <string>

#include "tests/cli/command_fixture.h"

namespace metal_candle::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CommandOutput : public Command {
 protected:
  // What the command writes to a terminal of 132 columns; errors go there too.
  static Outcome run_on_terminal(const std::string& arguments) {
    winsize size{};
    size.ws_row = 40;
    size.ws_col = 132;
    int terminal = -1;
    const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
    if (child == 0) {
      setenv("TERM", "xterm", 1);
      execl("/bin/sh", "sh", "-c", ("exec " METAL_CANDLE_COMMAND " " + arguments).c_str(), nullptr);
      _exit(127);
    }
    Outcome outcome;
    std::array<char, 4096> buffer{};
    // The end is an error on Linux: there is no other side any more.
    for (ssize_t count; (count = read(terminal, buffer.data(), buffer.size())) > 0;)
      outcome.out.append(buffer.data(), static_cast<std::size_t>(count));
    close(terminal);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
    return outcome;
  }
  // A short run with a high learning rate: an adapter that says other things than the model.
  void train_adapter(const std::string& name) {
    const Outcome outcome =
        run(train_arguments(name) + "--learning-rate 1e-2 --num-layers 6 --json");
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  std::string answer(const std::string& arguments, const std::string& input = "") {
    const Outcome outcome =
        run("generate --temp 0 --max-tokens 12 --quiet --model " + kModel + " " + arguments, input);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  }
};

TEST_F(CommandOutput, InfoShowsDevicesThreadsInstructionsLibrariesAndLimits) {
  const Outcome text = run("info");
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out,
              AllOf(StartsWith("metal-candle "), HasSubstr("\ncpu\n"),
                    ContainsRegex("threads +[1-9]"), ContainsRegex("instructions +[A-Z]"),
                    ContainsRegex("memory limit +[0-9.]+ GB"), ContainsRegex("queues +[1-9]"),
                    ContainsRegex("libraries .*oneDNN.*Highway"), ContainsRegex("models .*qwen2")));
  const auto json = nlohmann::json::parse(run("info --json").out);
  const auto& cpu = json.at("devices").at(0);
  EXPECT_EQ(cpu.at("device"), "cpu");
  EXPECT_GE(cpu.at("threads").get<int>(), 1);
  EXPECT_GT(cpu.at("memory_limit").get<double>(), 1e8);
  EXPECT_GE(cpu.at("libraries").size(), 2u);
  EXPECT_THAT(text.out, HasSubstr(cpu.at("name").get<std::string>()));
}

TEST_F(CommandOutput, TrainingSaysWhatItWillTakeAndPrintsLinesWhereThereIsNoTerminal) {
  const Outcome trained =
      run(train_arguments("a") + "--iters 10 --rank 8 --target-modules q_proj,v_proj");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  // One block: 8 x (256 + 256) for q_proj, 8 x (256 + 128) for v_proj.
  EXPECT_THAT(trained.out, ContainsRegex("parameters  7,168 trained, [0-9,]+ frozen"));
  EXPECT_THAT(trained.out, ContainsRegex("training    24 examples, [0-9,]+ tokens"));
  EXPECT_THAT(trained.out, HasSubstr("validation  1 examples"));
  EXPECT_THAT(trained.out, ContainsRegex("memory      [0-9]+ MB predicted at the peak of a step"));
  EXPECT_THAT(trained.out, ContainsRegex("iter 1: train loss [0-9.]+, learning rate .*, tokens/sec "
                                         "[0-9]+, .*peak memory [0-9]+ MB"));
  EXPECT_THAT(trained.out, ContainsRegex("iter 10: val loss [0-9.]+, perplexity"));
  EXPECT_THAT(trained.out, HasSubstr("saved       the adapter in "));
  EXPECT_LT(trained.out.find("predicted"), trained.out.find("iter 1:"));
  EXPECT_THAT(trained.out, Not(HasSubstr("\x1b")));
}

TEST_F(CommandOutput, ATerminalHasAProgressBar) {
  const Outcome trained = run_on_terminal(train_arguments("a") + "--iters 10");
  ASSERT_EQ(trained.exit_code, 0) << trained.out;
  EXPECT_THAT(trained.out, Not(HasSubstr("train loss")));
  // The bar's last state: all of it filled.
  const std::size_t last = trained.out.rfind("   10/10 ");
  ASSERT_NE(last, std::string::npos) << trained.out;
  const std::string bar = trained.out.substr(last, trained.out.find('\r', last) - last);
  EXPECT_THAT(bar, AllOf(HasSubstr("━━━━━━━━━━━━━━━━━━━━━━━━ "), Not(HasSubstr("─"))));
  EXPECT_THAT(bar,
              ContainsRegex("loss [0-9.]+  lr [0-9.e-]+  [0-9,]+ tok/s  [0-9]+ MB  0:00 left"));
  EXPECT_THAT(trained.out, HasSubstr("    1/10 ━━──"));
  EXPECT_THAT(trained.out, AllOf(HasSubstr("val loss"), HasSubstr("report      ")));
}

TEST_F(CommandOutput, GenerationEndsWithItsFigures) {
  const Outcome spoken = run("generate --max-tokens 8 --prompt 'Define w1.' --model " + kModel);
  ASSERT_EQ(spoken.exit_code, 0) << spoken.err;
  EXPECT_THAT(spoken.err, ContainsRegex("prompt      [0-9]+ tokens, [0-9.]+ tokens/s"));
  EXPECT_THAT(spoken.err, ContainsRegex("generation  [1-8] tokens, [0-9.]+ tokens/s, first after"));
  EXPECT_THAT(spoken.err,
              ContainsRegex("memory      [0-9]+ [kM]B at the peak, 1[0-9] MB of weights"));
  EXPECT_THAT(spoken.out, Not(HasSubstr("tokens/s")));
}

TEST_F(CommandOutput, AChatSwitchesAdapters) {
  train_adapter("first");
  const std::string adapter = " --adapter-path " + (folder_ / "first") + " ";
  const std::string prompt = "--prompt 'Define w1.'";
  const std::string base = answer(prompt), adapted = answer(prompt + adapter);
  ASSERT_NE(base, adapted);
  EXPECT_EQ(answer("--chat" + adapter, "Define w1.\n"), adapted);
  EXPECT_EQ(answer("--chat" + adapter, "/adapter base\nDefine w1.\n"), base);
  EXPECT_EQ(answer("--chat" + adapter, "/adapter base\n/adapter first\nDefine w1.\n"), adapted);
  EXPECT_EQ(answer("--chat" + adapter, "/adapter nobody\nDefine w1.\n"), adapted);
  EXPECT_THAT(folder_.read("stderr"), AllOf(HasSubstr("first, base"), HasSubstr("nobody")));
  // A conversation is one: the second answer knows the first.
  EXPECT_THAT(answer("--chat", "Define w1.\nDefine w1.\n"),
              AllOf(StartsWith(base), Not(base + base)));
}

TEST_F(CommandOutput, AFullFineTuneIsAModelFolder) {
  const Outcome trained = run(train_arguments("whole") +
                              "--fine-tune-type full --grad-checkpoint --grad-accumulation-steps 2 "
                              "--iters 4 --mask-prompt");
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("saved       the model in "));
  const auto loss = [&](const std::string& model) {
    const Outcome outcome = run("evaluate --json --model " + model + " --data " + folder_.path());
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out)["loss"].get<double>();
  };
  EXPECT_LT(loss(folder_ / "whole"), loss(kModel));
}

TEST_F(CommandOutput, ALossThatIsNotFiniteNamesTheStepAndTheCheckpoint) {
  const Outcome trained = run(train_arguments("a") +
                              "--learning-rate 1e38 --warmup 6 --warmup-init 1e-4 "
                              "--max-grad-norm 0 --save-every 1");
  EXPECT_EQ(trained.exit_code, 1);
  EXPECT_THAT(trained.err, ContainsRegex("iteration [0-9]+: the loss is .*nan"));
  EXPECT_THAT(trained.err, ContainsRegex("the last good checkpoint is .*/a/checkpoints/checkpoint-"
                                         "[0-9]+\\.safetensors \\(iteration [0-9]+\\)"));
}

}  // namespace
}  // namespace metal_candle::testing
