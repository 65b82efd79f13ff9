// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Runs the command on a few lines of data in a folder of their own.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metal_candle/core/device.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::testing {

inline const std::string kModel = METAL_CANDLE_SOURCE_DIR "/assets/definitions-5m";

/// As the command prints it.
inline std::string device_name() { return to_string(default_device()); }

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

class Command : public ::testing::Test {
 protected:
  Command() {
    std::string lines;
    for (int i = 0; i < 24; ++i) {
      lines += R"({"prompt": "Define w)" + std::to_string(i) +
               R"(.", "completion": "One more word of a list."})" + "\n";
    }
    folder_.write("train.jsonl", lines);
    folder_.write("valid.jsonl", lines.substr(0, lines.find('\n') + 1));
    folder_.write("test.jsonl", lines.substr(0, lines.find('\n') + 1));
  }

  Outcome run(const std::string& arguments, const std::string& input = "") {
    const std::string out = folder_ / "stdout", err = folder_ / "stderr";
    const std::string in = folder_.write("stdin", input);
    const int status = std::system(
        (METAL_CANDLE_COMMAND " " + arguments + " >" + out + " 2>" + err + " <" + in).c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, folder_.read("stdout"),
            folder_.read("stderr")};
  }
  [[nodiscard]] std::string train_arguments(const std::string& adapter) const {
    return "train --train --model " + kModel + " --data " + folder_.path() + " --adapter-path " +
           (folder_ / adapter) +
           " --batch-size 4 --iters 40 --num-layers 1 --steps-per-report 1 --steps-per-eval 1000 "
           "--save-every 5 --learning-rate 1e-3 --seed 5 ";
  }
  // The losses of metrics.jsonl, by iteration.
  std::vector<double> losses(const std::string& adapter) {
    std::ifstream file((folder_ / adapter) + "/metrics.jsonl");
    std::vector<double> losses;
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains("train_loss")) losses.push_back(json["train_loss"].get<double>());
    }
    return losses;
  }

  TemporaryFolder folder_;
};

}  // namespace metal_candle::testing
