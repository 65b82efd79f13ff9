// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The peers of the suites train and generate, those that METAL_CANDLE_PYTHON has, compute what we
// do: greedy tokens and a loss.
#include "bench/model_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bench/train_suite.h"
#include "metal_candle/generate/generator.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle::bench {
namespace {

const std::string kModel = METAL_CANDLE_SOURCE_DIR "/assets/definitions-5m";
const std::vector<std::string> kPeers = {"torch", "mlx", "jax"};

TEST(PeerModels, GenerateTheSameTokens) {
  Table table("definitions-5m", /*quiet=*/true);
  for_each_model(table, kModel, kPeers, "", {"tokens"}, [](const ModelCase& c) {
    if (c.peers.empty()) GTEST_SKIP() << "no peer is installed";
    const Decoder model = Decoder::load(c.folder);
    std::vector<std::int32_t> prompt;
    for (std::int32_t i = 0; i < 32; ++i) prompt.push_back(i * 7);
    GenerateOptions options;
    options.max_tokens = 12;
    options.eos_token_ids.emplace();
    const std::vector<std::int32_t> tokens = Generator(model).generate(prompt, options).tokens;
    ASSERT_EQ(tokens.size(), 12u);
    for (const int count : {1, 7, 12}) {
      const auto expected = static_cast<double>(tokens[static_cast<std::size_t>(count) - 1]);
      EXPECT_THAT(c.ask("token 32 " + std::to_string(count)), ::testing::Each(expected)) << count;
    }
  });
}

TEST(PeerModels, HaveTheSameLoss) {
  Table table("definitions-5m, loss", /*quiet=*/true);
  run_train_suite(table, kModel, kPeers);
  bool has_peer = false;
  for (const Row& row : table.rows()) {
    if (!row.reference) continue;
    has_peer = true;
    EXPECT_NEAR(*row.reference, *row.value, 0.005 * *row.value) << row.name;
  }
  if (!has_peer) GTEST_SKIP() << "no peer is installed";
}

}  // namespace
}  // namespace metal_candle::bench
