// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Fine-tuning a decoder: the trainer, joined with a model, its low-rank adapter and datasets.
//
//   Decoder model = Decoder::load("Qwen2.5-0.5B");
//   ChatTokenizer tokenizer = ChatTokenizer::load("Qwen2.5-0.5B");
//   Dataset data = Dataset::load("train.jsonl", tokenizer);
//   FineTuner tuner(model, data, {.lora = {.rank = 8}, .train = {.iters = 200}});
//   tuner.run();
//   save_adapter("adapters", tuner.adapter());
//
// `model` itself does not change: it may serve prompts on other threads meanwhile. A tuner keeps
// what of it is frozen; what is trained is freed when nobody else holds it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "metal_candle/lora/lora.h"
#include "metal_candle/models/decoder.h"
#include "metal_candle/train/dataset.h"
#include "metal_candle/train/trainer.h"

namespace metal_candle {

enum class FineTuneMethod : std::uint8_t {
  kLora,  // A low-rank adapter is trained; the weights are frozen.
  kFull,  // The weights themselves.
};
/// "lora", "full".
[[nodiscard]] std::string_view name(FineTuneMethod method);

struct FineTuneOptions {
  FineTuneMethod method = FineTuneMethod::kLora;
  LoraConfig lora;  // Its num_layers is what is below.
  /// Only the last so many blocks are trained; -1 for all of them and, with kFull, for embedding,
  /// last norm and head too.
  std::int64_t num_layers = 16;
  std::int64_t batch_size = 4;
  /// Intermediates of a block are computed again in the backward pass instead of kept.
  bool grad_checkpoint = false;
  TrainOptions train;
};

/// A training run. Not thread safe, but for the flag that stops run().
class FineTuner {
 public:
  /// Throws Error and its children for options that do not fit the model or the data.
  FineTuner(const Decoder& model, const Dataset& training, const FineTuneOptions& options)
      : FineTuner(model, training, std::nullopt, options) {}
  FineTuner(const Decoder& model, const Dataset& training, std::optional<Dataset> validation,
            const FineTuneOptions& options);

  /// Goes on from the latest checkpoint in options.train.checkpoint_folder; false if there is none.
  /// Throws TrainError when that is of another run.
  bool resume();
  /// See Trainer::run().
  StopReason run(TrainObserver& observer, const std::atomic<bool>* stop = nullptr);
  StopReason run();

  /// What has been trained so far. Throws Error unless the method is kLora.
  [[nodiscard]] Adapter adapter() const;
  /// The model as trained so far: with the adapter, or with its own weights changed.
  [[nodiscard]] Decoder tuned_model() const;

  [[nodiscard]] const Trainer& trainer() const { return *trainer_; }
  [[nodiscard]] const FineTuneOptions& options() const { return options_; }
  /// Elements of what is trained, and of all weights that are not.
  [[nodiscard]] std::int64_t trainable_parameters() const { return trainable_; }
  [[nodiscard]] std::int64_t frozen_parameters() const { return frozen_; }

 private:
  [[nodiscard]] Tree initial_parameters() const;

  Decoder model_;
  FineTuneOptions options_;
  std::unique_ptr<DatasetBatches> training_, validation_;
  std::int64_t trainable_ = 0, frozen_ = 0;
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace metal_candle
