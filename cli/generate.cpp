// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle generate: continues a prompt, or chats.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/terminal.h"
#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {
namespace {

struct GenerateCommand {
  ModelOptions model;
  std::string prompt;
  std::string system_prompt;
  bool chat = false;
  bool ignore_chat_template = false;
  std::vector<std::string> adapters;
  bool json = false;
  bool quiet = false;
  GenerateOptions options;
};

// Ctrl-C ends the answer; a second one ends the process.
std::atomic<bool> stop_requested{false};

void request_stop(int signal) {
  stop_requested.store(true);
  std::signal(signal, SIG_DFL);
}

// One conversation, with whichever adapter is chosen.
class Session {
 public:
  Session(const GenerateCommand& command, Decoder model, ChatTokenizer tokenizer)
      : command_(command),
        tokenizer_(std::move(tokenizer)),
        registry_(model),
        generator_(std::move(model), tokenizer_.tokenizer()),
        options_(command.options) {
    options_.eos_token_ids.emplace(tokenizer_.stop_ids().begin(), tokenizer_.stop_ids().end());
    if (!command.system_prompt.empty()) history_.push_back({"system", command.system_prompt});
    for (const std::string& folder : command.adapters) {
      const std::string name = base_name(folder);
      registry_.add(name, load_adapter(folder));
      use(name);
    }
  }

  void use(const std::string& adapter) { generator_.set_model(registry_.model(adapter)); }
  [[nodiscard]] std::vector<std::string> adapters() const { return registry_.names(); }

  // Answers, streaming to standard output unless `json`.
  GenerationResult answer(const std::string& prompt, bool keep_history) {
    std::vector<std::int32_t> tokens;
    if (tokenizer_.has_chat_template() && !command_.ignore_chat_template) {
      ChatRequest request;
      request.messages = history_;
      request.messages.push_back({"user", prompt});
      request.add_generation_prompt = true;
      tokens = tokenizer_.encode_chat(request);
    } else {
      tokens = tokenizer_.encode(prompt);
    }
    stop_requested.store(false);
    std::signal(SIGINT, request_stop);
    GenerationResult result =
        generator_.generate(tokens, options_, [this](const GeneratedPiece& piece) {
          if (!command_.json) {
            fmt::print("{}", piece.text);
            std::fflush(stdout);
          }
          return !stop_requested.load();
        });
    if (!command_.json) fmt::print("\n");
    if (keep_history) {
      history_.push_back({"user", prompt});
      history_.push_back({"assistant", result.text});
    }
    return result;
  }

 private:
  const GenerateCommand& command_;
  ChatTokenizer tokenizer_;
  AdapterRegistry registry_;
  Generator generator_;
  GenerateOptions options_;
  std::vector<ChatMessage> history_;
};

void print_stats(const GenerationStats& stats, std::size_t weight_bytes) {
  fmt::print(stderr,
             "\nprompt      {} tokens, {:.1f} tokens/s\n"
             "generation  {} tokens, {:.1f} tokens/s, first after {:.3f} s\n"
             "memory      {} at the peak, {} of weights\n",
             stats.prompt_tokens, stats.prompt_tokens_per_second(), stats.generated_tokens,
             stats.tokens_per_second(), stats.seconds_to_first_token,
             readable_bytes(stats.peak_memory_bytes), readable_bytes(weight_bytes));
}

void print_json(const GenerationResult& result) {
  const GenerationStats& stats = result.stats;
  const nlohmann::ordered_json out = {
      {"text", result.text},
      {"finish_reason", name(result.finish_reason)},
      {"prompt_tokens", stats.prompt_tokens},
      {"generated_tokens", stats.generated_tokens},
      {"seconds_to_first_token", stats.seconds_to_first_token},
      {"prompt_tokens_per_second", stats.prompt_tokens_per_second()},
      {"tokens_per_second", stats.tokens_per_second()},
      {"peak_memory", stats.peak_memory_bytes}};
  fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void chat(Session& session) {
  std::vector<std::string> names = session.adapters();
  names.emplace_back("base");
  fmt::print(stderr, "Type a message; /adapter NAME switches ({}), Ctrl-D ends.\n",
             fmt::join(names, ", "));
  std::string line;
  while (fmt::print(stderr, "\n> "), std::getline(std::cin, line)) {
    if (line.empty()) continue;
    constexpr std::string_view kAdapter = "/adapter ";
    if (line.starts_with(kAdapter)) {
      const std::string name = line.substr(kAdapter.size());
      try {
        session.use(name == "base" ? "" : name);
      } catch (const Error& error) {
        fmt::print(stderr, "{}\n", error.what());
      }
      continue;
    }
    session.answer(line, /*keep_history=*/true);
  }
  fmt::print(stderr, "\n");
}

void run(const GenerateCommand& command) {
  if (!command.chat && command.prompt.empty()) throw CLI::RequiredError("--prompt or --chat");
  Decoder model = command.model.load();
  const std::size_t weight_bytes = model.bytes();
  Session session(command, std::move(model), ChatTokenizer::load(command.model.model));
  if (command.chat) return chat(session);
  std::string prompt = command.prompt;
  if (prompt == "-") prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  const GenerationResult result = session.answer(prompt, /*keep_history=*/false);
  if (command.json) {
    print_json(result);
  } else if (!command.quiet) {
    print_stats(result.stats, weight_bytes);
  }
}

void add_sampling_options(CLI::App& app, GenerateOptions& options) {
  SamplingOptions& sampling = options.sampling;
  app.add_option("--max-tokens", options.max_tokens, "Most tokens to generate")
      ->capture_default_str();
  app.add_option("--temp,--temperature", sampling.temperature,
                 "0: always the most likely token; higher: more varied")
      ->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "Only the k most likely tokens; 0: all")
      ->capture_default_str();
  app.add_option("--top-p", sampling.top_p,
                 "Only the most likely tokens with this much probability")
      ->capture_default_str();
  app.add_option("--min-p", sampling.min_p,
                 "Only tokens at least this times as likely as the most likely one")
      ->capture_default_str();
  app.add_option("--repetition-penalty", sampling.repetition_penalty,
                 "Above 1: tokens that occurred are less likely")
      ->capture_default_str();
  app.add_option("--repetition-context-size", sampling.repetition_context,
                 "Over how many tokens; 0: all")
      ->capture_default_str();
  app.add_option("--seed", sampling.seed, "The same seed gives the same text")
      ->capture_default_str();
  app.add_option("--stop", options.stop, "Texts that end the answer; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto c = std::make_shared<GenerateCommand>();
  CLI::App* command = app.add_subcommand(
      "generate",
      "Continues a prompt, or chats. A prompt goes through the model's chat template if it has\n"
      "one. The text goes to standard output as it comes, figures to standard error.");
  c->model.add_to(*command);
  command->add_option("--prompt", c->prompt, "The prompt; - for standard input");
  command->add_option("--system-prompt", c->system_prompt, "What the model is told first");
  command->add_flag("--chat", c->chat, "Answer line after line of standard input");
  command->add_flag("--ignore-chat-template", c->ignore_chat_template,
                    "Give the model the prompt as it is");
  command
      ->add_option(
          "--adapter-path", c->adapters,
          "An adapter; several can be given and switched in a chat, the last is used first")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("FOLDER");
  add_sampling_options(*command, c->options);
  command->add_flag("--json", c->json, "Print one JSON object instead of the text");
  command->add_flag("--quiet", c->quiet, "No figures");
  command->callback([c] { run(*c); });
}

}  // namespace metal_candle::cli
