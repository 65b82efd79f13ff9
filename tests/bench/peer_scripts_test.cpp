// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the scripts of peers share, with Python's own numbers in the place of a framework.
#include "bench/peer_scripts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "bench/peer.h"
#include "metal_candle/core/error.h"
#include "tests/support/message_of.h"

namespace metal_candle::bench {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

class PeerScripts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("python3 -c '' 2>/dev/null") != 0) GTEST_SKIP() << "there is no python3";
  }
  // Those before `text`, and then that.
  static std::unique_ptr<Peer> start(const std::string& text, std::string& why,
                                     const char* device = "cpu") {
    return Peer::start(kPeerLoopScript + text, "fake", why, device);
  }
};

TEST_F(PeerScripts, SayWhatIsMissing) {
  std::string why;
  EXPECT_EQ(start("with importing('Fake'):\n  import no_such_module\n", why), nullptr);
  EXPECT_EQ(why, "no Fake: No module named 'no_such_module'");
  const std::string gpu = "require_gpu('Fake', lambda: False)\nprint('fake 1')\n";
  EXPECT_EQ(start(gpu, why, "cuda"), nullptr);
  EXPECT_EQ(why, "Fake sees no GPU");
  EXPECT_NE(start(gpu, why, "cpu"), nullptr);
}

TEST_F(PeerScripts, MeasureOperations) {
  // A call of attention takes a millisecond, the first one ten; others fail with their operands.
  std::string why;
  const auto peer = start(std::string(kOpsLoopScript) + R"(
print("fake 1")

def randn(*shape, dtype, scale=1.0):
    return f"{dtype}{list(shape)}*{scale}"

def show(*operands):
    raise ValueError(str(operands))

def attention(q, k, v):
    seconds = [0.01]
    return lambda: time.sleep(seconds.pop() if seconds else 0.001)

def run(fn, depth):
    for _ in range(depth):
        fn()

CASES = {"attention": attention, "lora": show, "mlp": show, "softmax": show}
serve({"f32": "float"}, randn, CASES, lambda mode, made: made, run)
)",
                          why);
  ASSERT_NE(peer, nullptr) << why;
  EXPECT_GE(peer->measure("first plain attention 1 2 3 4 5 f32"), 0.01);
  EXPECT_GE(peer->measure("plain 10 attention 1 2 3 4 5 f32"), 0.001);
  const auto operands = [&](const char* words) {
    return message_of<Error>([&] { peer->measure(std::string("plain 1 ") + words); });
  };
  EXPECT_THAT(operands("lora 2 8 4 2 f32"),
              HasSubstr("('float[2, 8]*1.0', [('float[8, 4]*0.1', 'float[4, 8]*0.1'), "
                        "('float[8, 4]*0.1', 'float[4, 8]*0.1')])"));
  EXPECT_THAT(operands("mlp 2 8 32 f32"),
              HasSubstr("('float[2, 8]*1.0', 'float[8, 32]*0.03', 'float[32, 8]*0.03')"));
  EXPECT_THAT(operands("softmax 2 8 f32"),
              HasSubstr("('float[2, 8]*1.0', 'float[8]*1.0', 'float[8]*1.0')"));
}

TEST_F(PeerScripts, MeasureModels) {
  // A token or a step takes a millisecond, loading a model two.
  std::string why;
  const auto peer = start(std::string(kModelLoopScript) + R"(
print("fake 1")

class Model:
    vocab_size = 10

    def __init__(self, folder):
        time.sleep(0.002)

    def generate(self, prompt, count, compiled):
        for i in range(count):
            time.sleep(0.001)
            yield prompt[-1] + i

class Tuner:
    def __init__(self, model):
        self.loss = 9.0

    def step(self, tokens, batch, compiled):
        time.sleep(0.001)
        self.loss -= 1
        return self.loss + len(tokens) / 100 + batch / 1000

serve_models(Model, Tuner, None)
)",
                          why);
  ASSERT_NE(peer, nullptr) << why;
  EXPECT_GE(peer->measure("load nowhere"), 0.002);
  EXPECT_GE(peer->measure("first 3"), 0.001);
  EXPECT_GE(peer->measure("step 3 5"), 0.001);
  EXPECT_EQ(peer->measure("token 3 5"), 4 + 4);
  EXPECT_NEAR(peer->measure("tune 2 16"), 8 + 0.17 + 0.002, 1e-9);
  EXPECT_GE(peer->measure("train 2 16 0.005"), 0.001);
  EXPECT_THAT(message_of<Error>([&] { peer->measure("sing 1 2"); }), HasSubstr("no such command"));
}

}  // namespace
}  // namespace metal_candle::bench
