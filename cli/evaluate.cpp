// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle evaluate: loss and perplexity on test.jsonl.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/evaluation.h"
#include "cli/model_options.h"
#include "cli/terminal.h"
#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {
namespace {

struct EvaluateCommand {
  ModelOptions model;
  std::string data = "data";
  std::string adapter;
  std::int64_t batch_size = 4;
  std::int64_t test_batches = -1;
  DatasetOptions dataset;
  bool json = false;
};

void run(const EvaluateCommand& command) {
  Decoder model = command.model.load();
  if (!command.adapter.empty()) model = with_adapter(model, load_adapter(command.adapter));
  const ChatTokenizer tokenizer = ChatTokenizer::load(command.model.model);
  const std::filesystem::path path = command.data;
  const std::string file =
      (std::filesystem::is_directory(path) ? path / "test.jsonl" : path).string();
  const Dataset data = Dataset::load(file, tokenizer, command.dataset);
  const Evaluation result = evaluate_dataset(model, data, command.batch_size, command.test_batches);
  if (command.json) {
    const nlohmann::ordered_json out = {{"loss", result.loss()},
                                        {"perplexity", result.perplexity()},
                                        {"tokens", result.targets},
                                        {"seconds", result.seconds}};
    fmt::print("{}\n", out.dump());
    return;
  }
  fmt::print("loss {:.4f}, perplexity {:.2f}, {} tokens in {:.1f} s\n", result.loss(),
             result.perplexity(), with_commas(result.targets), result.seconds);
}

}  // namespace

Evaluation evaluate_dataset(const Decoder& model, const Dataset& data, std::int64_t batch_size,
                            std::int64_t batches) {
  std::vector<ScoredSequence> sequences;
  for (const TokenSequence& sequence : data.sequences()) {
    if (batches >= 0 && std::ssize(sequences) >= batches * batch_size) break;
    sequences.push_back({sequence.tokens, sequence.first_target});
  }
  EvaluateOptions options;
  options.batch_size = batch_size;
  return evaluate(model, sequences, options);
}

void add_test_batches_option(CLI::App& app, std::int64_t& batches) {
  app.add_option("--test-batches", batches, "Batches of test.jsonl that are measured; -1 for all")
      ->check(CLI::PositiveNumber | CLI::IsMember({"-1"}))
      ->capture_default_str();
}

void add_evaluate_command(CLI::App& app) {
  auto c = std::make_shared<EvaluateCommand>();
  CLI::App* command = app.add_subcommand("evaluate", "Loss and perplexity on test.jsonl.");
  c->model.add_to(*command);
  command->add_option("--data", c->data, "A folder with test.jsonl, or a .jsonl file")
      ->type_name("PATH")
      ->capture_default_str();
  command->add_option("--adapter-path", c->adapter, "An adapter for the model")
      ->type_name("FOLDER");
  command->add_option("--batch-size", c->batch_size, "Sequences in a batch")->capture_default_str();
  add_test_batches_option(*command, c->test_batches);
  command->add_option("--max-seq-length", c->dataset.max_seq_length, "Longer sequences are cut")
      ->capture_default_str();
  command->add_flag("--mask-prompt", c->dataset.mask_prompt,
                    "Count completions, or last messages, only");
  command->add_flag("--json", c->json, "As JSON");
  command->callback([c] { run(*c); });
}

}  // namespace metal_candle::cli
