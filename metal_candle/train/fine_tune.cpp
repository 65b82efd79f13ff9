// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What joins a trainer to a decoder.
#include "metal_candle/train/fine_tune.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

constexpr std::uint32_t kAdapterStream = 0x6C6F7261;  // Random numbers apart from those of dropout.

// The random key that an adapter starts from.
Tensor adapter_key(const FineTuneOptions& options, Device device) {
  return random::fold_in(random::key(options.train.seed, device), kAdapterStream);
}

Tensor count_targets(const TokenBatch& batch) {
  return sum(astype(batch.targets != kIgnoredTarget, DType::kI32));
}

LossFunction lora_loss(const Decoder& model, const LoraConfig& config, bool checkpoint) {
  return [=](const Tree& params, const TokenBatch& batch, const Tensor& key) {
    ForwardOptions forward;
    if (config.dropout > 0) forward.dropout_key = key;
    forward.checkpoint_layers = checkpoint;
    const Decoder adapted = with_adapter(model, {config, params});
    return LossAndCount{adapted.summed_loss(batch.tokens, batch.targets, forward),
                        count_targets(batch)};
  };
}

LossFunction full_loss(const Decoder& model, bool checkpoint) {
  return [=](const Tree& params, const TokenBatch& batch, const Tensor&) {
    ForwardOptions forward;
    forward.checkpoint_layers = checkpoint;
    return LossAndCount{
        model.with_parameters(params).summed_loss(batch.tokens, batch.targets, forward),
        count_targets(batch)};
  };
}

// The model without the memory of these weights: shapes remain in their places.
Decoder without_weights(const Decoder& model, const Tree& weights) {
  return model.with_parameters(weights.map([](const Tensor& weight) {
    return broadcast_to(zeros({}, weight.dtype(), weight.device()), weight.shape());
  }));
}

std::int64_t count_elements(const Tree& tree) {
  std::int64_t count = 0;
  for (const Tensor& tensor : tree.leaves()) count += tensor.size();
  return count;
}

// Whether a weight belongs to one of the last `last` blocks, by its name "model.layers.7.…".
bool in_last_blocks(const std::string& name, std::int64_t blocks, std::int64_t last) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (last < 0) return true;
  if (!name.starts_with(kPrefix)) return false;
  return std::stoll(name.substr(kPrefix.size())) >= blocks - last;
}

// What must be the same for a checkpoint to be gone on from.
Settings settings_of(const FineTuneOptions& options, const Decoder& model,
                     const Dataset& training) {
  const DecoderConfig& config = model.config();
  Settings settings = options.train.settings;
  const auto add = [&](const char* key, std::string value) {
    settings.emplace_back(key, std::move(value));
  };
  add("architecture", fmt::format("{}, {} blocks of {}, vocabulary {}", config.model_type,
                                  config.num_hidden_layers, config.hidden_size, config.vocab_size));
  add("dtype", std::string(name(model.dtype())));
  add("training data", fmt::format("{} sequences, {} tokens, digest {:016x}", training.size(),
                                   training.num_tokens(), training.fingerprint()));
  add("batch size", fmt::format("{}", options.batch_size));
  add("fine-tune type", std::string(name(options.method)));
  add("blocks trained", options.num_layers < 0 ? "all" : fmt::format("{}", options.num_layers));
  if (options.method == FineTuneMethod::kLora) {
    const LoraConfig& lora = options.lora;
    add("rank", fmt::format("{}", lora.rank));
    add("alpha", fmt::format("{}", lora.alpha));
    add("dropout", fmt::format("{}", lora.dropout));
    add("target modules", lora.target_pattern.empty()
                              ? fmt::format("{}", fmt::join(lora.target_modules, " "))
                              : lora.target_pattern);
  }
  return settings;
}

}  // namespace

std::string_view name(FineTuneMethod method) {
  return method == FineTuneMethod::kLora ? "lora" : "full";
}

FineTuner::FineTuner(const Decoder& model, const Dataset& training,
                     std::optional<Dataset> validation, const FineTuneOptions& options)
    : model_(model), options_(options) {
  using Order = DatasetBatches::Order;
  options_.lora.num_layers = options.num_layers;
  options_.train.settings = settings_of(options_, model, training);
  training_ = std::make_unique<DatasetBatches>(training, options.batch_size, Order::kTraining,
                                               options.train.seed);
  if (validation) {
    validation_ = std::make_unique<DatasetBatches>(*std::move(validation), options.batch_size,
                                                   Order::kReading);
  }
  Tree parameters = initial_parameters();
  trainable_ = count_elements(parameters);
  frozen_ = model.config().num_parameters();
  LossFunction loss;
  if (options.method == FineTuneMethod::kLora) {
    loss = lora_loss(model_, options_.lora, options.grad_checkpoint);
  } else {
    frozen_ -= trainable_;
    model_ = without_weights(model_, parameters);  // Each step brings them.
    loss = full_loss(model_, options.grad_checkpoint);
  }
  trainer_ = std::make_unique<Trainer>(options_.train, std::move(loss), std::move(parameters),
                                       *training_, validation_.get());
}

Tree FineTuner::initial_parameters() const {
  if (options_.method == FineTuneMethod::kLora) {
    return make_adapter(model_, options_.lora, adapter_key(options_, model_.device())).weights;
  }
  Tree::Dict trained;
  const std::int64_t blocks = model_.config().num_hidden_layers;
  const Tree all = model_.parameters();
  for (const auto& [name, weight] : all.dict()) {
    if (in_last_blocks(name, blocks, options_.num_layers)) trained[name] = weight;
  }
  if (trained.empty()) throw Error("full fine-tuning of the last 0 blocks trains nothing");
  return trained;
}

bool FineTuner::resume() {
  const auto path = latest_checkpoint(options_.train.checkpoint_folder);
  if (!path) return false;
  trainer_->restore(*path);
  return true;
}

StopReason FineTuner::run(TrainObserver& observer, const std::atomic<bool>* stop) {
  return trainer_->run(observer, stop);
}

StopReason FineTuner::run() {
  TrainObserver quiet;
  return run(quiet);
}

Adapter FineTuner::adapter() const {
  if (options_.method != FineTuneMethod::kLora) {
    throw Error("full fine-tuning makes no adapter: save the tuned model");
  }
  return {options_.lora, trainer_->parameters()};
}

Decoder FineTuner::tuned_model() const {
  if (options_.method == FineTuneMethod::kLora) return with_adapter(model_, adapter());
  return model_.with_parameters(trainer_->parameters());
}

}  // namespace metal_candle
