// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The trainer's options, and its state as a checkpoint.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "metal_candle/graph/ops.h"
#include "metal_candle/train/trainer.h"

namespace metal_candle {
namespace {

constexpr const char* kParameters = "parameters";
constexpr const char* kOptimizer = "optimizer";
constexpr const char* kAccumulated = "accumulated";
constexpr const char* kAccumulatedCount = "accumulated_count";

// Settings in which a resumed run may differ from the one that wrote the checkpoint.
bool may_differ(const std::string& setting) {
  static constexpr std::array kNames = {"iters", "steps_per_report", "steps_per_eval",
                                        "val_batches", "save_every"};
  return std::find(kNames.begin(), kNames.end(), setting) != kNames.end();
}

const std::string* find(const Settings& settings, const std::string& name) {
  const auto found = std::find_if(settings.begin(), settings.end(),
                                  [&](const auto& setting) { return setting.first == name; });
  return found == settings.end() ? nullptr : &found->second;
}

void require_same_run(const std::string& path, const Settings& ours, const Settings& theirs) {
  const auto check = [&](const std::string& name) {
    if (may_differ(name)) return;
    const std::string* our = find(ours, name);
    const std::string* their = find(theirs, name);
    if (our != nullptr && their != nullptr && *our == *their) return;
    throw TrainError(fmt::format(
        "{}: its run had {} = {}, this one has {}; a run can be resumed with what it began with "
        "only",
        path, name, their == nullptr ? "none" : *their, our == nullptr ? "none" : *our));
  };
  for (const auto& [name, value] : theirs) check(name);
  for (const auto& [name, value] : ours) check(name);
}

std::string key_of(const char* prefix, const std::string& path) {
  return path.empty() ? prefix : fmt::format("{}.{}", prefix, path);
}

void put(Checkpoint& checkpoint, const char* prefix, const Tree& tree) {
  const std::vector<Tensor> leaves = tree.leaves();
  const std::vector<std::string> paths = tree.paths();
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    checkpoint.tensors.emplace(key_of(prefix, paths[i]), leaves[i]);
  }
}

/// Reads values and tensors of a checkpoint; what is missing is an error that names it.
class CheckpointReader {
 public:
  CheckpointReader(const Checkpoint& checkpoint, const std::string& path)
      : checkpoint_(checkpoint), path_(path) {}

  [[nodiscard]] const std::string& value(const char* name) const {
    const auto found = checkpoint_.values.find(name);
    if (found == checkpoint_.values.end()) fail(name, "is missing");
    return found->second;
  }
  template <typename T>
  void number(const char* name, T& to) const {
    const std::string& text = value(name);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
    if (error != std::errc() || end != text.data() + text.size()) fail(name, "is not a number");
  }
  [[nodiscard]] bool has_tensor(const char* name) const {
    return checkpoint_.tensors.find(name) != checkpoint_.tensors.end();
  }
  /// A tensor of the shape and dtype of `like`.
  [[nodiscard]] Tensor tensor(const std::string& name, const Tensor& like) const {
    const auto found = checkpoint_.tensors.find(name);
    if (found == checkpoint_.tensors.end()) fail(name, "is missing");
    const Tensor& tensor = found->second;
    if (tensor.shape() != like.shape() || tensor.dtype() != like.dtype()) {
      fail(name, fmt::format("is {}{}, not {}{}", metal_candle::name(tensor.dtype()),
                             to_string(tensor.shape()), metal_candle::name(like.dtype()),
                             to_string(like.shape())));
    }
    return tensor.to(like.device());
  }
  [[nodiscard]] Tree tree(const char* prefix, const Tree& like) const {
    const std::vector<Tensor> leaves = like.leaves();
    const std::vector<std::string> paths = like.paths();
    std::vector<Tensor> read;
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      read.push_back(tensor(key_of(prefix, paths[i]), leaves[i]));
    }
    return like.with_leaves(read);
  }

 private:
  [[noreturn]] void fail(const std::string& name, const std::string& problem) const {
    throw FormatError(fmt::format("{}: {} {}", path_, name, problem));
  }
  const Checkpoint& checkpoint_;
  const std::string& path_;
};

void require_options(const TrainOptions& options) {
  const auto require = [](bool valid, const char* name, auto value) {
    if (!valid) throw Error(fmt::format("TrainOptions: {} cannot be {}", name, value));
  };
  require(options.iters >= 0, "iters", options.iters);
  require(options.grad_accumulation_steps >= 1, "grad_accumulation_steps",
          options.grad_accumulation_steps);
  require(options.learning_rate >= 0, "learning_rate", options.learning_rate);
  require(options.final_learning_rate >= 0, "final_learning_rate", options.final_learning_rate);
  require(options.warmup >= 0, "warmup", options.warmup);
  require(options.warmup_init >= 0, "warmup_init", options.warmup_init);
  require(options.decay_steps >= 0, "decay_steps", options.decay_steps);
  require(options.max_grad_norm >= 0, "max_grad_norm", options.max_grad_norm);
  require(options.steps_per_report >= 1, "steps_per_report", options.steps_per_report);
  require(options.steps_per_eval >= 1, "steps_per_eval", options.steps_per_eval);
  require(options.val_batches >= 1 || options.val_batches == -1, "val_batches",
          options.val_batches);
  require(options.save_every >= 1, "save_every", options.save_every);
  require(options.keep_checkpoints >= 1, "keep_checkpoints", options.keep_checkpoints);
}

LearningRateSchedule schedule_of(const TrainOptions& options) {
  const std::int64_t n = options.grad_accumulation_steps;
  return {.peak = options.learning_rate,
          .decay = options.lr_schedule,
          .warmup = options.warmup,
          .total = (options.iters + n - 1) / n,
          .decay_steps = options.decay_steps,
          .initial = options.warmup_init,
          .final = options.final_learning_rate};
}

}  // namespace

Trainer::Trainer(TrainOptions options, LossFunction loss, Tree parameters, BatchSource& training,
                 BatchSource* validation)
    : options_((require_options(options), std::move(options))),
      schedule_(schedule_of(options_)),
      optimizer_(options_.optimizer),
      loss_(std::move(loss)),
      training_(training),
      validation_(validation),
      parameters_(std::move(parameters)),
      state_(optimizer_.initial_state(parameters_)) {
  if (parameters_.size() == 0) throw TrainError("there are no parameters to train");
  key_ = random::key(options_.seed, parameters_.leaves()[0].device());
  if (validation_ != nullptr) validation_start_ = validation_->state();
}

Settings Trainer::settings() const {
  Settings all = options_.settings;
  const auto add = [&](const char* name, const auto& value) {
    all.emplace_back(name, fmt::format("{}", value));
  };
  add("iters", options_.iters);
  add("grad_accumulation_steps", options_.grad_accumulation_steps);
  add("learning_rate", options_.learning_rate);
  add("lr_schedule", name(options_.lr_schedule));
  add("warmup", options_.warmup);
  add("warmup_init", options_.warmup_init);
  add("decay_steps", options_.decay_steps);
  add("final_learning_rate", options_.final_learning_rate);
  add("beta1", options_.optimizer.beta1);
  add("beta2", options_.optimizer.beta2);
  add("eps", options_.optimizer.eps);
  add("weight_decay", options_.optimizer.weight_decay);
  add("master_weights", options_.optimizer.master_weights);
  add("max_grad_norm", options_.max_grad_norm);
  add("steps_per_report", options_.steps_per_report);
  add("steps_per_eval", options_.steps_per_eval);
  add("val_batches", options_.val_batches);
  add("save_every", options_.save_every);
  add("seed", options_.seed);
  return all;
}

Checkpoint Trainer::make_checkpoint() const {
  Checkpoint checkpoint;
  checkpoint.iteration = iteration_;
  checkpoint.settings = settings();
  put(checkpoint, kParameters, parameters_);
  put(checkpoint, kOptimizer, state_);
  if (!accumulated_count_.empty()) {
    put(checkpoint, kAccumulated, accumulated_);
    checkpoint.tensors.emplace(kAccumulatedCount, accumulated_count_);
  }
  // {} of a double is the shortest text that reads back as the same bits.
  Progress::for_each(progress_, [&](const char* name, const auto& value) {
    checkpoint.values.emplace(name, fmt::format("{}", value));
  });
  checkpoint.values.emplace("data", training_.state());
  return checkpoint;
}

void Trainer::restore(const std::string& path) {
  const Checkpoint checkpoint = read_checkpoint(path);
  require_same_run(path, settings(), checkpoint.settings);
  const CheckpointReader reader(checkpoint, path);
  Progress progress;
  Progress::for_each(progress, [&](const char* name, auto& value) { reader.number(name, value); });
  Tree parameters = reader.tree(kParameters, parameters_);
  Tree state = reader.tree(kOptimizer, state_);
  Tree accumulated;
  Tensor accumulated_count;
  if (reader.has_tensor(kAccumulatedCount)) {
    const auto as_f32 = [](const Tensor& x) { return zeros_like(x, DType::kF32); };
    accumulated = reader.tree(kAccumulated, parameters_.map(as_f32));
    accumulated_count = reader.tensor(kAccumulatedCount, zeros({}, DType::kI64));
  }
  training_.restore(reader.value("data"));
  // Nothing is changed before everything has been read.
  pending_.clear();
  parameters_ = std::move(parameters);
  state_ = std::move(state);
  accumulated_ = std::move(accumulated);
  accumulated_count_ = accumulated_count;
  progress_ = progress;
  iteration_ = saved_iteration_ = checkpoint.iteration;
  last_checkpoint_ = path;
  failed_ = false;
}

}  // namespace metal_candle
