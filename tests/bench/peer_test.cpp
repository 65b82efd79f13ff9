// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Peers, with shell scripts in the place of Python.
#include "bench/peer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "metal_candle/core/error.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::bench {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

class PeerTest : public ::testing::Test {
 protected:
  ~PeerTest() override { unsetenv("METAL_CANDLE_PYTHON"); }
  void use(const std::string& text) {
    folder_.write("python", "#!/bin/sh\n" + text);
    std::filesystem::permissions(folder_ / "python", std::filesystem::perms::owner_all);
    setenv("METAL_CANDLE_PYTHON", (folder_ / "python").c_str(), 1);
  }

  testing::TemporaryFolder folder_;
};

TEST_F(PeerTest, AnswersLines) {
  // Called as: python -u -c TEXT THREADS DEVICE.
  use("echo \"fake 1.2 $3 $5\"; while read line; do case $line in bad*) echo 'error: no such "
      "case';; "
      "end) exit;; *) echo 0.25;; esac; done\n");
  std::string why;
  const auto peer = Peer::start("the text", "fake", why);
  ASSERT_NE(peer, nullptr) << why;
  EXPECT_EQ(peer->version(), "1.2 the text cpu");
  EXPECT_EQ(peer->measure("softmax 1 2"), 0.25);
  EXPECT_EQ(peer->contestant("softmax 1 2")(), 0.25);
  EXPECT_THAT(message_of<Error>([&] { peer->measure("bad case"); }),
              HasSubstr("fake failed on 'bad case': error: no such case"));
  // A contestant that cannot do its case lets others go on.
  const Contestant failing = peer->contestant("bad case");
  EXPECT_TRUE(std::isnan(failing()));
  const std::vector<double> seconds =
      compete({failing, peer->contestant("good again")}, /*rounds=*/3);
  EXPECT_TRUE(std::isnan(seconds[0]));
  EXPECT_EQ(seconds[1], 0.25);
  EXPECT_THAT(message_of<Error>([&] { peer->measure("end"); }), HasSubstr("it ended"));
}

TEST_F(PeerTest, OneThatIsNotInstalledSaysWhy) {
  std::string why;
  use("echo no fake: it is not here\n");
  EXPECT_EQ(Peer::start("", "fake", why), nullptr);
  EXPECT_EQ(why, "no fake: it is not here");
  setenv("METAL_CANDLE_PYTHON", "/nonexistent/python", 1);
  EXPECT_EQ(Peer::start("", "fake", why), nullptr);
  EXPECT_THAT(why, HasSubstr("/nonexistent/python did not start"));
}

}  // namespace
}  // namespace metal_candle::bench
