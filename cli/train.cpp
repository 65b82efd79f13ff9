// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle train: fine-tunes a model, with mlx-lm's flags where it has them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/evaluation.h"
#include "cli/model_options.h"
#include "cli/terminal.h"
#include "cli/yaml_config.h"
#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {
namespace {

namespace fs = std::filesystem;

struct TrainCommand {
  ModelOptions model;
  std::string data = "data";
  bool train = false;
  bool test = false;
  std::string fine_tune_type = "lora";
  bool mask_prompt = false;
  std::int64_t max_seq_length = 2048;
  std::string adapter_path = "adapters";
  bool resume = false;
  bool random_init = false;
  std::string config;
  std::string lr_schedule = "constant";
  double scale = 0;  // alpha / rank, as mlx-lm has it; 0: --alpha says.
  std::vector<std::string> target_modules = {"q_proj", "v_proj"};
  std::int64_t test_batches = -1;
  bool json = false;
  FineTuneOptions options;
};

// Ctrl-C: the run ends after the iteration under way. A second one ends the process.
std::atomic<bool> stop_requested{false};

void request_stop(int signal) {
  stop_requested.store(true);
  std::signal(signal, SIG_DFL);
}

// Prints what happens, and keeps the files in the adapter's folder up to date.
class TrainPrinter final : public TrainObserver {
 public:
  TrainPrinter(const TrainCommand& command, const FineTuner& tuner, std::size_t weight_bytes)
      : command_(command), tuner_(tuner), weight_bytes_(weight_bytes) {}

  void on_start(const TrainStart& start) override {
    iterations_ = start.iterations;
    first_ = start.first_iteration;
    started_ = Clock::now();
    if (command_.json) return;
    fmt::print("memory      {} predicted at the peak of a step, with {} of weights\n",
               readable_bytes(start.predicted_peak_bytes + weight_bytes_),
               readable_bytes(weight_bytes_));
    if (start.first_iteration > 1)
      fmt::print("resumed     after iteration {}\n", start.first_iteration - 1);
    fmt::print("\n");
    std::fflush(stdout);
  }

  void on_step(const StepReport& step) override {
    if (command_.json || !status_.interactive()) return;
    smoothed_loss_ = smoothed_loss_ == 0 ? step.loss : 0.9 * smoothed_loss_ + 0.1 * step.loss;
    tokens_ += step.tokens;
    const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
    const auto done = static_cast<double>(step.iteration - first_ + 1);
    const auto all = static_cast<double>(iterations_ - first_ + 1);
    status_.show(fmt::format("{:>5}/{}", step.iteration, iterations_),
                 static_cast<double>(step.iteration) / static_cast<double>(iterations_),
                 fmt::format("loss {:.3f}  lr {:.2e}  {} tok/s  {}  {} left", smoothed_loss_,
                             last_rate_ = step.updated ? step.learning_rate : last_rate_,
                             with_commas(static_cast<std::int64_t>(static_cast<double>(tokens_) /
                                                                   std::max(seconds, 1e-9))),
                             readable_bytes(memory_use(tuner_device()).peak + weight_bytes_),
                             readable_duration(seconds / done * (all - done))));
  }

  void on_report(const TrainReport& report) override {
    data_.reports.push_back(report);
    if (command_.json || status_.interactive()) return;
    fmt::print(
        "iter {}: train loss {:.3f}, learning rate {:.3e}, it/sec {:.3f}, tokens/sec {:.0f}, "
        "trained tokens {}, peak memory {}\n",
        report.iteration, report.loss, report.learning_rate, report.iterations_per_second,
        report.tokens_per_second, report.trained_tokens,
        readable_bytes(report.peak_memory + weight_bytes_));
    std::fflush(stdout);
  }

  void on_evaluate(const EvaluationReport& report) override {
    data_.evaluations.push_back(report);
    if (command_.json) return;
    status_.print(fmt::format("iter {}: val loss {:.3f}, perplexity {:.2f}, took {:.1f} s",
                              report.iteration, report.loss, report.perplexity, report.seconds));
  }

  void on_save(const SaveReport& report) override {
    save_result();
    if (command_.json) return;
    if (!status_.interactive()) fmt::print("iter {}: saved {}\n", report.iteration, report.path);
    std::fflush(stdout);
  }

  // The adapter, so that what was trained so far can be used. A whole model is written at the end.
  void save_result() const {
    if (tuner_.options().method == FineTuneMethod::kLora)
      save_adapter(command_.adapter_path, tuner_.adapter(), command_.model.model);
  }

  void finish() { status_.clear(); }
  [[nodiscard]] ReportData& data() { return data_; }

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] Device tuner_device() const { return command_.model.parsed_device(); }

  const TrainCommand& command_;
  const FineTuner& tuner_;
  std::size_t weight_bytes_;  // Of the model where it lies in mapped files, which no counter sees.
  StatusLine status_;
  ReportData data_;
  std::int64_t iterations_ = 0, first_ = 1, tokens_ = 0;
  double smoothed_loss_ = 0, last_rate_ = 0;
  Clock::time_point started_;
};

std::string data_file(const TrainCommand& command, const char* name) {
  return (fs::path(command.data) / name).string();
}

Dataset load_dataset(const TrainCommand& command, const ChatTokenizer& tokenizer,
                     const char* name) {
  return Dataset::load(data_file(command, name), tokenizer,
                       {command.max_seq_length, command.mask_prompt});
}

void describe(const char* label, const Dataset& data) {
  std::string notes;
  if (data.truncated() > 0) notes += fmt::format(", {} cut at the limit", data.truncated());
  if (data.dropped() > 0) notes += fmt::format(", {} left out without targets", data.dropped());
  fmt::print("{:<12}{} examples, {} tokens, {} learned, longest {}{}\n", label,
             with_commas(static_cast<std::int64_t>(data.size())), with_commas(data.num_tokens()),
             with_commas(data.num_targets()), data.longest(), notes);
}

Decoder load_model(const TrainCommand& command) {
  if (!command.random_init) return command.model.load();
  command.model.apply_mode();
  const DecoderConfig config =
      read_decoder_config((fs::path(command.model.model) / "config.json").string());
  return Decoder::random(config, random::key(command.options.train.seed),
                         command.model.parsed_dtype().value_or(DType::kF32));
}

// Bytes of weights in mapped files: those that the engine's own count of memory leaves out.
std::size_t mapped_bytes(const TrainCommand& command, const Decoder& model) {
  if (command.random_init || memory_use(model.device()).in_use >= model.bytes()) return 0;
  return model.bytes();
}

void write_report(const TrainCommand& command, TrainPrinter& printer, const FineTuner& tuner) {
  ReportData data = printer.data();
  // A resumed run's curves begin where the first one's did.
  const Metrics metrics = read_metrics((fs::path(command.adapter_path) / "metrics.jsonl").string());
  data.reports = metrics.reports;
  data.evaluations = metrics.evaluations;
  data.title =
      fmt::format("Fine-tuning {} on {}", base_name(command.model.model), base_name(command.data));
  data.settings = tuner.trainer().settings();
  write_file_atomically((fs::path(command.adapter_path) / "report.html").string(),
                        render_report(data));
}

void print_start(const TrainCommand& command, const Decoder& model, const FineTuner& tuner,
                 const Dataset& training, const std::optional<Dataset>& validation) {
  if (command.json) return;
  const DecoderConfig& config = model.config();
  fmt::print("model       {}: {}, {} blocks of {}, {}\n", base_name(command.model.model),
             config.model_type, config.num_hidden_layers, config.hidden_size, name(model.dtype()));
  fmt::print("parameters  {} trained, {} frozen ({:.3f} %)\n",
             with_commas(tuner.trainable_parameters()), with_commas(tuner.frozen_parameters()),
             100.0 * static_cast<double>(tuner.trainable_parameters()) /
                 static_cast<double>(tuner.trainable_parameters() + tuner.frozen_parameters()));
  describe("training", training);
  if (validation) describe("validation", *validation);
}

void print_test(const TrainCommand& command, const Decoder& model, const ChatTokenizer& tokenizer) {
  const Dataset data = load_dataset(command, tokenizer, "test.jsonl");
  const Evaluation report =
      evaluate_dataset(model, data, command.options.batch_size, command.test_batches);
  if (command.json) {
    const nlohmann::ordered_json out = {{"test_loss", report.loss()},
                                        {"test_perplexity", report.perplexity()},
                                        {"tokens", report.targets}};
    fmt::print("{}\n", out.dump());
  } else {
    fmt::print("test loss {:.3f}, perplexity {:.2f}, {} tokens\n", report.loss(),
               report.perplexity(), with_commas(report.targets));
  }
}

void finish(const TrainCommand& command, TrainPrinter& printer, const FineTuner& tuner,
            StopReason reason) {
  printer.finish();
  printer.save_result();
  write_report(command, printer, tuner);
  if (reason == StopReason::kRequested) {
    fmt::print(stderr, "stopped after iteration {}; go on with the same command and --resume\n",
               tuner.trainer().iteration());
    return;
  }
  if (tuner.options().method == FineTuneMethod::kFull)
    save_decoder(tuner.tuned_model(), command.model.model, command.adapter_path);
  if (command.json) {
    const ReportData& data = printer.data();
    nlohmann::ordered_json out = {{"iterations", tuner.trainer().iteration()},
                                  {"adapter_path", command.adapter_path}};
    if (!data.reports.empty()) {
      const TrainReport& last = data.reports.back();
      out["train_loss"] = last.loss;
      out["trained_tokens"] = last.trained_tokens;
      out["seconds"] = last.seconds;
      out["tokens_per_second"] = last.tokens_per_second;
      out["seconds_per_iteration"] = 1 / last.iterations_per_second;
      out["peak_memory"] = last.peak_memory;
    }
    if (!data.evaluations.empty()) out["val_loss"] = data.evaluations.back().loss;
    fmt::print("{}\n", out.dump());
    return;
  }
  fmt::print("\nsaved       {} in {}\n",
             tuner.options().method == FineTuneMethod::kLora ? "the adapter" : "the model",
             command.adapter_path);
  fmt::print("report      {}\n", (fs::path(command.adapter_path) / "report.html").string());
}

Decoder train(TrainCommand& command, const ChatTokenizer& tokenizer) {
  const Dataset training = load_dataset(command, tokenizer, "train.jsonl");
  std::optional<Dataset> validation;
  if (fs::exists(data_file(command, "valid.jsonl")))
    validation = load_dataset(command, tokenizer, "valid.jsonl");
  std::size_t weight_bytes = 0;
  FineTuner tuner = [&] {
    const Decoder model = load_model(command);  // The tuner keeps what it needs of it.
    FineTuner made(model, training, validation, command.options);
    print_start(command, model, made, training, validation);
    weight_bytes = mapped_bytes(command, model);
    return made;
  }();
  if (command.resume && !tuner.resume()) {
    throw Error(fmt::format("{}: there is no checkpoint to resume from; leave --resume out",
                            command.options.train.checkpoint_folder));
  }
  TrainPrinter printer(command, tuner, weight_bytes);
  MetricsWriter metrics((fs::path(command.adapter_path) / "metrics.jsonl").string());
  TrainObservers observers({&metrics, &printer});
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);
  const StopReason reason = tuner.run(observers, &stop_requested);
  finish(command, printer, tuner, reason);
  if (reason == StopReason::kRequested) throw CLI::RuntimeError(1);
  return tuner.tuned_model();
}

void run(TrainCommand& command, CLI::App& app) {
  if (!command.config.empty()) apply_yaml_config(app, command.config);
  if (command.model.model.empty()) throw CLI::RequiredError("--model");
  if (!command.train && !command.test) throw CLI::RequiredError("--train or --test");
  FineTuneOptions& options = command.options;
  options.method = command.fine_tune_type == "full" ? FineTuneMethod::kFull : FineTuneMethod::kLora;
  options.train.lr_schedule = parse_decay(command.lr_schedule);
  options.train.checkpoint_folder = (fs::path(command.adapter_path) / "checkpoints").string();
  options.lora.target_modules = command.target_modules;
  if (command.scale > 0)
    options.lora.alpha = command.scale * static_cast<double>(options.lora.rank);
  std::error_code error;
  fs::create_directories(command.adapter_path, error);
  if (error) throw IoError(fmt::format("{}: {}", command.adapter_path, error.message()));

  const ChatTokenizer tokenizer = ChatTokenizer::load(command.model.model);
  if (command.train) {
    const Decoder model = train(command, tokenizer);
    if (command.test) print_test(command, model, tokenizer);
    return;
  }
  Decoder model = load_model(command);
  if (fs::exists(fs::path(command.adapter_path) / "adapter_config.json"))
    model = with_adapter(model, load_adapter(command.adapter_path));
  print_test(command, model, tokenizer);
}

void add_run_options(CLI::App& app, TrainCommand& c) {
  TrainOptions& train = c.options.train;
  app.add_option("--iters", train.iters, "Iterations: batches to train on")->capture_default_str();
  app.add_option("--batch-size", c.options.batch_size, "Sequences in a batch")
      ->capture_default_str();
  app.add_option("--max-seq-length", c.max_seq_length, "Longer sequences are cut, in tokens")
      ->capture_default_str();
  app.add_flag("--mask-prompt", c.mask_prompt, "Learn completions, or last messages, only");
  app.add_flag("--grad-checkpoint", c.options.grad_checkpoint,
               "Compute blocks again in the backward pass: less memory, more time");
  app.add_option("--grad-accumulation-steps", train.grad_accumulation_steps,
                 "Batches to an update of the parameters")
      ->capture_default_str();
  app.add_option("--steps-per-report", train.steps_per_report, "Iterations between reports")
      ->capture_default_str();
  app.add_option("--steps-per-eval", train.steps_per_eval, "Iterations between validations")
      ->capture_default_str();
  app.add_option("--val-batches", train.val_batches, "Batches of a validation; -1 for all")
      ->capture_default_str();
  add_test_batches_option(app, c.test_batches);
  app.add_option("--save-every", train.save_every, "Iterations between checkpoints")
      ->capture_default_str();
  app.add_option("--seed", train.seed, "Of everything random")->capture_default_str();
}

void add_optimizer_options(CLI::App& app, TrainCommand& c) {
  TrainOptions& train = c.options.train;
  app.add_option("--learning-rate", train.learning_rate, "The highest learning rate")
      ->capture_default_str();
  app.add_option("--lr-schedule", c.lr_schedule, "constant, linear or cosine, after the warm-up")
      ->capture_default_str();
  app.add_option("--warmup", train.warmup, "Updates over which the learning rate rises")
      ->capture_default_str();
  app.add_option("--warmup-init", train.warmup_init, "What it rises from")->capture_default_str();
  app.add_option("--decay-steps", train.decay_steps,
                 "Updates that linear and cosine take, as in mlx-lm; 0: all after the warm-up")
      ->capture_default_str();
  app.add_option("--final-learning-rate", train.final_learning_rate,
                 "What linear and cosine end with")
      ->capture_default_str();
  app.add_option("--weight-decay", train.optimizer.weight_decay, "Of AdamW, decoupled")
      ->capture_default_str();
  app.add_option("--max-grad-norm", train.max_grad_norm,
                 "Gradients are clipped to this global norm; 0: not")
      ->capture_default_str();
}

void add_lora_options(CLI::App& app, TrainCommand& c) {
  app.add_option("--fine-tune-type", c.fine_tune_type, "lora, or full: all weights")
      ->check(CLI::IsMember({"lora", "full"}))
      ->capture_default_str();
  app.add_option("--num-layers", c.options.num_layers, "Only the last so many blocks; -1 for all")
      ->capture_default_str();
  app.add_option("--rank", c.options.lora.rank, "Of the low-rank updates")->capture_default_str();
  app.add_option("--alpha", c.options.lora.alpha, "Updates are scaled by alpha / rank")
      ->capture_default_str();
  app.add_option("--scale", c.scale, "alpha / rank itself, as in mlx-lm; instead of --alpha");
  app.add_option("--dropout", c.options.lora.dropout, "Of the updates' inputs")
      ->capture_default_str();
  app.add_option("--target-modules", c.target_modules,
                 "Names of the linear layers that get an update, or all-linear")
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->capture_default_str();
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto c = std::make_shared<TrainCommand>();
  CLI::App* command = app.add_subcommand(
      "train",
      "Fine-tunes a model on train.jsonl (and valid.jsonl) of a folder: with LoRA, or in full.\n"
      "Writes an adapter in PEFT's format (or a model folder), checkpoints, metrics.jsonl and\n"
      "report.html into --adapter-path. Ctrl-C saves and stops; --resume goes on.");
  c->model.add_to(*command);
  command->add_option("--data", c->data, "Folder with train.jsonl, valid.jsonl, test.jsonl")
      ->type_name("FOLDER")
      ->capture_default_str();
  command->add_flag("--train", c->train, "Train");
  command->add_flag("--test", c->test, "Measure loss and perplexity on test.jsonl, after training");
  command->add_option("--adapter-path", c->adapter_path, "Where to write, and to resume from")
      ->type_name("FOLDER")
      ->capture_default_str();
  command->add_flag("--resume", c->resume, "Go on from the latest checkpoint in --adapter-path");
  command->add_option("--config", c->config, "Options from a YAML file, as in mlx-lm; flags win")
      ->type_name("FILE");
  command->add_flag("--random-init", c->random_init,
                    "Begin with random weights: the model folder needs no *.safetensors");
  command->add_flag("--json", c->json, "Print one line of JSON at the end, and nothing else");
  add_run_options(*command, *c);
  add_optimizer_options(*command, *c);
  add_lora_options(*command, *c);
  command->callback([c, command] { run(*c, *command); });
}

}  // namespace metal_candle::cli
