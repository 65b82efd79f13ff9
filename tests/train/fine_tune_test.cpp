// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A model, data and a trainer together. The arithmetic of steps is compared with PyTorch in
// tests/models; here it is what fine-tuning promises.
#include "metal_candle/train/fine_tune.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::testing {
namespace {

DecoderConfig tiny_config() {
  return read_decoder_config(JsonObject::parse(
      R"({"model_type": "qwen2", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,)"
      R"( "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1})",
      "config.json"));
}

Decoder tiny_model() { return Decoder::random(tiny_config(), random::key(3), DType::kF32, 0.1); }

Dataset pattern() {
  std::vector<TokenSequence> sequences;
  for (int i = 0; i < 16; ++i) {
    TokenSequence sequence;
    for (int j = 0; j < 12; ++j) sequence.tokens.push_back((i * 3 + j * 5) % 50);
    sequences.push_back(sequence);
  }
  return Dataset::of(std::move(sequences), "pattern");
}

class Losses final : public TrainObserver {
 public:
  void on_step(const StepReport& step) override { values.push_back(step.loss); }
  std::vector<double> values;
};

FineTuneOptions options_for(FineTuneMethod method, std::int64_t iters) {
  FineTuneOptions options;
  options.method = method;
  options.num_layers = -1;
  options.batch_size = 4;
  options.lora.target_modules = {"all-linear"};
  options.lora.dropout = 0.1;
  options.train.iters = iters;
  options.train.learning_rate = 1e-2;
  return options;
}

TEST(FineTuner, LoraLearnsAndLeavesTheModelAlone) {
  const Decoder model = tiny_model();
  const auto before =
      model.parameters().tensor("model.layers.1.mlp.up_proj.weight").to_vector<float>();
  FineTuner tuner(model, pattern(), options_for(FineTuneMethod::kLora, 120));
  EXPECT_EQ(tuner.frozen_parameters(), model.config().num_parameters());
  Losses losses;
  EXPECT_EQ(tuner.run(losses), StopReason::kFinished);
  ASSERT_EQ(losses.values.size(), 120u);
  EXPECT_LT(losses.values.back(), 0.7 * losses.values.front());
  EXPECT_EQ(model.parameters().tensor("model.layers.1.mlp.up_proj.weight").to_vector<float>(),
            before);
  const Tensor tokens(std::vector<std::int32_t>{1, 6, 11}, {1, 3});
  const Tensor tuned = tuner.tuned_model().hidden_states(tokens);
  EXPECT_FALSE(allclose(tuned, model.hidden_states(tokens)).item<bool>());
  EXPECT_TRUE(
      allclose(tuned, with_adapter(model, tuner.adapter()).hidden_states(tokens)).item<bool>());
}

TEST(FineTuner, FullTuningTrainsTheLastBlocksOnly) {
  const Decoder model = tiny_model();
  FineTuneOptions options = options_for(FineTuneMethod::kFull, 40);
  options.num_layers = 1;
  FineTuner tuner(model, pattern(), options);
  Losses losses;
  tuner.run(losses);
  EXPECT_LT(losses.values.back(), losses.values.front());
  const Tree before = model.parameters(), after = tuner.tuned_model().parameters();
  for (const auto& [name, weight] : before.dict()) {
    const bool same = allclose(weight.tensor(), after.tensor(name), 0, 0).item<bool>();
    EXPECT_EQ(same, !name.starts_with("model.layers.1.")) << name;
  }
  EXPECT_THROW(static_cast<void>(tuner.adapter()), Error);
}

TEST(FineTuner, FullTuningHoldsTrainedWeightsOnce) {
  const std::size_t before = memory_use().in_use;
  std::optional<Decoder> model = tiny_model();
  const std::size_t bytes = model->bytes();
  FineTuner tuner(*model, pattern(), options_for(FineTuneMethod::kFull, 4));
  model.reset();
  tuner.run();
  // With two moments each.
  EXPECT_LT(memory_use().in_use - before, 3.5 * static_cast<double>(bytes));
}

TEST(FineTuner, ResumesToTheBit) {
  const Decoder model = tiny_model();
  Losses unbroken;
  FineTuner(model, pattern(), options_for(FineTuneMethod::kLora, 30)).run(unbroken);

  const TemporaryFolder folder;
  FineTuneOptions options = options_for(FineTuneMethod::kLora, 17);
  options.train.checkpoint_folder = folder / "checkpoints";
  Losses first, second;
  FineTuner stopped(model, pattern(), options);
  EXPECT_FALSE(stopped.resume());
  stopped.run(first);
  options.train.iters = 30;
  FineTuner resumed(model, pattern(), options);
  EXPECT_TRUE(resumed.resume());
  resumed.run(second);
  std::vector<double> joined = first.values;
  joined.insert(joined.end(), second.values.begin(), second.values.end());
  EXPECT_EQ(joined, unbroken.values);

  options.lora.rank = 4;
  FineTuner other(model, pattern(), options);
  EXPECT_THROW(static_cast<void>(other.resume()), TrainError);
}

TEST(FineTuner, CheckpointedLayersGiveTheSameLosses) {
  const Decoder model = tiny_model();
  Losses kept, recomputed;
  FineTuneOptions options = options_for(FineTuneMethod::kLora, 10);
  FineTuner(model, pattern(), options).run(kept);
  options.grad_checkpoint = true;
  FineTuner(model, pattern(), options).run(recomputed);
  ASSERT_EQ(kept.values.size(), recomputed.values.size());
  for (std::size_t i = 0; i < kept.values.size(); ++i)
    EXPECT_NEAR(kept.values[i], recomputed.values[i], 1e-4) << i;
}

}  // namespace
}  // namespace metal_candle::testing
