// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Starts of processes, with shell scripts in the place of Python.
#include "bench/start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "metal_candle/core/error.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::bench {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using testing::message_of;

class StartTest : public ::testing::Test {
 protected:
  StartTest() {
    // It takes 10 ms to start and 20 to answer.
    folder_.write("python",
                  "#!/bin/sh\nsleep 0.01; echo fake 1\n"
                  "while read line; do sleep 0.02; echo $line; done\n");
    std::filesystem::permissions(folder_ / "python", std::filesystem::perms::owner_all);
    setenv("METAL_CANDLE_PYTHON", (folder_ / "python").c_str(), 1);
  }
  ~StartTest() override { unsetenv("METAL_CANDLE_PYTHON"); }
  static std::unique_ptr<Peer> start() {
    std::string why;
    return Peer::start("", "fake", why);
  }

  testing::TemporaryFolder folder_;
};

TEST_F(StartTest, TakesTimeToBeReadyAndToAnswer) {
  const Starter asked{start, asking("7")};
  const Starter answered{start, [](Peer& process) { return process.measure("7"); }};
  const StartTimes times = measure_starts({asked, answered});
  ASSERT_EQ(times.ready.size(), 2u);
  EXPECT_THAT(times.ready, Each(::testing::Ge(0.01)));
  EXPECT_GE(times.first[0], 0.02);
  EXPECT_EQ(times.first[1], 7);
  EXPECT_GE(times.total[0], 0.03);
  EXPECT_GT(times.total[1], 7);
}

TEST_F(StartTest, OneThatFailsLeavesTheOthers) {
  int failures = 0;
  const Starter good{start, asking("1")};
  const Starter missing{[&]() -> std::unique_ptr<Peer> {
                          ++failures;
                          throw Error("it is not here");
                        },
                        asking("1")};
  const Starter wrong{start, asking("error: no such case")};
  const StartTimes times = measure_starts({good, missing, wrong});
  EXPECT_EQ(failures, 1);
  for (const std::vector<double>& seconds : {times.ready, times.first, times.total}) {
    EXPECT_GT(seconds[0], 0);
    EXPECT_TRUE(std::isnan(seconds[1]));
    EXPECT_TRUE(std::isnan(seconds[2]));
  }
  EXPECT_THAT(message_of<Error>([&] {
                static_cast<void>(measure_starts({missing, good}));
              }),
              HasSubstr("this program could not be started"));
}

}  // namespace
}  // namespace metal_candle::bench
