// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See generate_suite.h. One sequence, greedy but for the row that says so, every token read.
#include "bench/generate_suite.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "bench/memory.h"
#include "bench/peer_scripts.h"
#include "bench/torch_peer.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/generate/generator.h"
#include "metal_candle/graph/ops/random.h"

namespace metal_candle::bench {
namespace {

constexpr std::int64_t kPrompt = 32;
constexpr std::int64_t kNew = 32;
constexpr int kRounds = 7;

DecoderConfig qwen_shape() {
  DecoderConfig config;
  config.model_type = "qwen2";
  config.vocab_size = 151936;
  config.hidden_size = 896;
  config.intermediate_size = 4864;
  config.num_hidden_layers = 24;
  config.num_attention_heads = 14;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  config.max_position_embeddings = 32768;
  config.rope_theta = 1e6;
  config.tie_word_embeddings = true;
  config.qkv_bias = true;
  config.windows.assign(24, 0);
  return config;
}

// As config.json has it, on one line.
std::string to_json(const DecoderConfig& c) {
  return fmt::format(
      R"({{"vocab_size":{},"hidden_size":{},"intermediate_size":{},"num_hidden_layers":{},)"
      R"("num_attention_heads":{},"num_key_value_heads":{},"max_position_embeddings":{},)"
      R"("rope_theta":{},"tie_word_embeddings":{}}})",
      c.vocab_size, c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads,
      c.num_key_value_heads, c.max_position_embeddings, c.rope_theta, c.tie_word_embeddings);
}

GenerationStats generate(const Decoder& model, std::int64_t count, float temperature = 0) {
  std::vector<std::int32_t> prompt;
  for (std::int64_t i = 0; i < kPrompt; ++i) {
    prompt.push_back(static_cast<std::int32_t>(i * 7 % model.config().vocab_size));
  }
  GenerateOptions options;
  options.max_tokens = count;
  options.eos_token_ids.emplace();
  if (temperature > 0) {
    options.sampling.temperature = temperature;
    options.sampling.top_p = 0.95f;
    options.sampling.min_p = 0.01f;
  }
  return Generator(model).generate(prompt, options).stats;
}

// Seconds a token after the first.
Contestant stepper(const Decoder& model, float temperature = 0) {
  return
      [model, temperature] { return 1 / generate(model, kNew, temperature).tokens_per_second(); };
}

// The bytes of weights that a step reads: of an embedding that is not the head, a row.
double bytes_per_step(const Decoder& model) {
  const DecoderConfig& config = model.config();
  auto bytes = static_cast<double>(model.bytes());
  if (!config.tie_word_embeddings) {
    bytes -= static_cast<double>(config.vocab_size * config.hidden_size) *
             static_cast<double>(size_of(model.dtype()));
  }
  return bytes;
}

struct Case {
  std::string name;
  const Decoder& model;
  TorchPeer* torch;  // With the model loaded, or null.

  [[nodiscard]] std::string row(const char* what) const { return name + ", " + what; }
};

void step_rows(Table& table, const Case& c, bool judge_bandwidth) {
  const std::string speed = c.row("tokens"), bandwidth = c.row("weights read"),
                    sampled = c.row("tokens, sampled with top-p and min-p");
  if (!table.wants(speed) && !table.wants(bandwidth) && !table.wants(sampled)) return;
  const double bytes = bytes_per_step(c.model);
  std::vector<Contestant> contestants{stepper(c.model), stepper(c.model, 0.8f),
                                      memory_reader(static_cast<std::size_t>(bytes))};
  if (c.torch != nullptr && table.wants(speed)) {
    contestants.push_back(c.torch->contestant(fmt::format("step {} {}", kPrompt, kNew)));
  }
  const std::vector<double> seconds = compete(contestants, kRounds);
  if (table.wants(speed)) {
    Row row{.name = speed, .value = 1 / seconds[0], .unit = "token/s"};
    row.reference_name = "PyTorch";
    if (seconds.size() > 3) row.reference = 1 / seconds[3];
    table.add(judge_ratio(row, Bound::kAtLeast, 2));
  }
  if (table.wants(bandwidth) && judge_bandwidth) {
    Row row{.name = bandwidth,
            .value = 1e-9 * bytes / seconds[0],
            .unit = "GB/s",
            .reference = 1e-9 * bytes / seconds[2]};
    row.reference_name = "read, all cores";
    table.add(judge_ratio(row, Bound::kAtLeast, 0.7));
  }
  if (table.wants(sampled)) {
    Row row{
        .name = sampled, .value = 1 / seconds[1], .unit = "token/s", .reference = 1 / seconds[0]};
    row.reference_name = "greedy";
    table.add(judge_ratio(row, Bound::kAtLeast, 0.95));
  }
}

void first_token_row(Table& table, const Case& c) {
  const std::string name = c.row("prompt to first token");
  if (!table.wants(name)) return;
  std::vector<Contestant> contestants{[&] { return generate(c.model, 1).seconds_to_first_token; }};
  if (c.torch != nullptr)
    contestants.push_back(c.torch->contestant(fmt::format("first {}", kPrompt)));
  const std::vector<double> seconds = compete(contestants, kRounds);
  Row row{.name = name, .value = 1e3 * seconds[0], .unit = "ms"};
  row.reference_name = "PyTorch";
  if (seconds.size() > 1) row.reference = 1e3 * seconds[1];
  table.add(row);
}

void memory_row(Table& table, const Case& c) {
  const std::string name = c.row("peak resident memory");
  if (!table.wants(name)) return;
  clear_memory_cache();
  const auto ours = peak_resident_bytes([&] { static_cast<void>(generate(c.model, kNew)); });
  Row row{.name = name, .unit = "MB"};
  if (ours) row.value = 1e-6 * *ours;
  row.reference_name = "PyTorch";
  if (c.torch != nullptr) {
    row.reference = 1e-6 * c.torch->measure(fmt::format("peak {} {}", kPrompt, kNew));
  }
  table.add(judge_ratio(row, Bound::kAtMost, 1));
}

void random_model(Table& table, TorchPeer* torch) {
  const std::string name = "0.5B, bf16";
  if (!table.wants(name)) return;
  const DecoderConfig config = qwen_shape();
  const Decoder model = Decoder::random(config, random::key(1), DType::kBF16);
  if (torch != nullptr) torch->measure("model " + to_json(config));
  const Case c{name, model, torch};
  memory_row(table, c);  // Before there is a block of memory to read.
  step_rows(table, c, /*judge_bandwidth=*/true);
  first_token_row(table, c);
}

// The time from nothing to the first token. Leaves the peer with the model loaded.
void loading_row(Table& table, const Case& c, const std::string& folder) {
  std::vector<Contestant> contestants{
      timed([&] { static_cast<void>(generate(Decoder::load(folder), 1)); })};
  if (c.torch != nullptr) {
    contestants.push_back(c.torch->contestant(fmt::format("load {} {}", folder, kPrompt)));
  }
  const std::vector<double> seconds = compete(contestants, kRounds);
  Row row{.name = c.row("loading and first token"), .value = 1e3 * seconds[0], .unit = "ms"};
  row.reference_name = "PyTorch";
  if (seconds.size() > 1) row.reference = 1e3 * seconds[1];
  table.add(row);
}

void folder_model(Table& table, TorchPeer* torch, const std::string& folder) {
  const std::string name = std::filesystem::path(folder).filename().string();
  if (!table.wants(name)) return;
  const Decoder model = Decoder::load(folder);
  const Case c{name, model, torch};
  loading_row(table, c, folder);
  memory_row(table, c);
  step_rows(table, c, /*judge_bandwidth=*/false);  // Caches hold it.
  first_token_row(table, c);
}

}  // namespace

void run_generate_suite(Table& table, const std::string& folder) {
  std::string why;
  const std::unique_ptr<TorchPeer> torch = TorchPeer::start(kTorchGenerateScript, why);
  table.note(torch ? "PyTorch " + torch->version()
                   : "PyTorch rows are without a reference: " + why);
  table.note(fmt::format("A prompt of {} tokens, {} new ones.", kPrompt, kNew));
  table.header();
  if (!folder.empty()) folder_model(table, torch.get(), folder);
  random_model(table, torch.get());
}

}  // namespace metal_candle::bench
