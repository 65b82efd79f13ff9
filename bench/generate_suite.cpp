// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See generate_suite.h. One sequence, greedy but for the row that says so, every token read.
#include "bench/generate_suite.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "bench/memory.h"
#include "bench/model_case.h"
#include "bench/start.h"
#include "bench/temporary_folder.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/generate/generator.h"
#include "metal_candle/io/tokenizer.h"

namespace metal_candle::bench {
namespace {

// A GPU reads a long prompt as quickly as a short one, and few new tokens would be a short turn
// beside the change from one process to another.
std::int64_t prompt_length() { return default_device() == Device::cpu() ? 32 : 128; }
std::int64_t new_tokens() { return default_device() == Device::cpu() ? 32 : 128; }
constexpr int kRounds = 7;
constexpr double kMaxSeconds = 40;  // The rate of memory changes in between.

constexpr const char *kTokens = "tokens", *kBandwidth = "weights read",
                     *kSampled = "tokens, sampled with top-p and min-p",
                     *kFirst = "prompt to first token", *kMemory = "peak resident memory",
                     *kEncode = "text encoded";
std::vector<std::string> all_rows() {
  std::vector<std::string> rows = start_row_names("token");
  rows.insert(rows.end(), {kTokens, kBandwidth, kSampled, kFirst, kMemory, kEncode});
  return rows;
}

GenerationStats generate(const Decoder& model, std::int64_t count, float temperature = 0) {
  std::vector<std::int32_t> prompt;
  for (std::int64_t i = 0; i < prompt_length(); ++i) {
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
  return [model, temperature] {
    return 1 / generate(model, new_tokens(), temperature).tokens_per_second();
  };
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

// The peers' side of reading a prompt.
std::string first_command() { return fmt::format("first {}", prompt_length()); }

void step_rows(Table& table, const ModelCase& c, const Decoder& model) {
  const std::string speed = c.row(kTokens), bandwidth = c.row(kBandwidth),
                    sampled = c.row(kSampled);
  if (!table.wants(speed) && !table.wants(bandwidth) && !table.wants(sampled)) return;
  const double bytes = bytes_per_step(model);
  const bool on_cpu = default_device() == Device::cpu();
  std::vector<Contestant> contestants{stepper(model), stepper(model, 0.8f)};
  if (on_cpu) contestants.push_back(memory_reader(static_cast<std::size_t>(bytes)));
  const std::size_t first_peer = contestants.size();
  const bool compiled = !on_cpu && c.torch() != nullptr;
  if (table.wants(speed)) {
    const std::string sizes = fmt::format("{} {}", prompt_length(), new_tokens());
    for (Contestant& peer : c.contestants("step " + sizes)) contestants.push_back(std::move(peer));
    if (compiled) {
      add_compiling_row(table, c, speed, "stepcompiled " + sizes);
      contestants.push_back(c.torch()->contestant("stepcompiled " + sizes));
    }
  }
  const std::vector<double> seconds = compete(contestants, kRounds, kMaxSeconds);
  if (table.wants(speed)) {
    PeerValues rates;
    for (std::size_t i = first_peer; i < seconds.size(); ++i) rates.push_back(1 / seconds[i]);
    Row row = c.compare({.name = speed, .value = 1 / seconds[0], .unit = "token/s"}, rates);
    if (on_cpu) {
      judge_ratio(row, Bound::kAtLeast, 2);
    } else {
      row.reference_name = "PyTorch, static cache, compiled";
      if (compiled && !std::isnan(rates.back())) {
        row.reference = rates.back();
        row.note = fmt::format("PyTorch eager {:.0f}", rates[0]);
      }
      judge_value(row, Bound::kAtLeast, 1500);
    }
    c.add(table, row, rates);
  }
  if (table.wants(bandwidth) && on_cpu && !c.fits_caches) {
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

void first_token_row(Table& table, const ModelCase& c, const Decoder& model) {
  const std::string name = c.row(kFirst);
  if (!table.wants(name)) return;
  std::vector<Contestant> contestants = c.contestants(first_command());
  contestants.emplace_back([&] { return generate(model, 1).seconds_to_first_token; });
  PeerValues times = compete(contestants, kRounds);
  for (double& time : times) time *= 1e3;
  c.add(table, c.compare({.name = name, .value = times.back(), .unit = "ms"}, times), times);
}

void memory_row(Table& table, const ModelCase& c, const Decoder& model) {
  const std::string name = c.row(kMemory);
  if (!table.wants(name)) return;
  clear_memory_cache();
  const auto ours = peak_bytes([&] { static_cast<void>(generate(model, new_tokens())); });
  Row row{.name = name, .unit = "MB"};
  if (ours) row.value = 1e-6 * *ours;
  PeerValues peers = c.ask(fmt::format("peak {} {}", prompt_length(), new_tokens()));
  for (double& value : peers) value *= 1e-6;
  row = c.compare(row, peers);
  c.add(table, judge_ratio(row, Bound::kAtMost, 1), peers);
}

// A megabyte or so of what a tokenizer decodes tokens to that are drawn at random: no two lines of
// it are the same, as they are not in real text, and its words are stranger.
std::string some_text(const Tokenizer& tokenizer) {
  constexpr std::size_t kBytes = 1'000'000;
  std::string text;
  std::uint32_t state = 1;
  std::vector<std::int32_t> line(64);
  while (text.size() < kBytes) {
    for (std::int32_t& token : line) {
      state = state * 1664525u + 1013904223u;
      token = static_cast<std::int32_t>((state >> 8) %
                                        static_cast<std::uint32_t>(tokenizer.vocab_size()));
    }
    text += tokenizer.decode(line) + "\n";
  }
  return text;
}

void encode_row(Table& table, const ModelCase& c) {
  const std::string name = c.row(kEncode), file = c.folder + "/tokenizer.json";
  if (!table.wants(name) || !std::filesystem::exists(file)) return;
  const TemporaryFolder folder;
  const std::string text = some_text(Tokenizer::load(file));
  write_file_atomically(folder / "text", text);
  // Each time by a new tokenizer: a tokenizer remembers words.
  std::vector<Contestant> contestants{[&] {
    const Tokenizer tokenizer = Tokenizer::load(file);
    const double start = seconds_now();
    static_cast<void>(tokenizer.encode(text));
    return seconds_now() - start;
  }};
  if (c.torch() != nullptr)
    contestants.push_back(c.torch()->contestant("encode " + file + " " + (folder / "text")));
  const std::vector<double> seconds = compete(contestants, kRounds);
  const double megabytes = 1e-6 * static_cast<double>(text.size());
  Row row{.name = name, .value = megabytes / seconds[0], .unit = "MB/s"};
  row.reference_name = "Hugging Face tokenizers";
  if (seconds.size() > 1) row.reference = megabytes / seconds[1];
  if (row.reference) row.ratio = *row.value / *row.reference;
  table.add(judge_value(row, Bound::kAtLeast, 5));
}

}  // namespace

void run_generate_suite(Table& table, const std::string& folder,
                        const std::vector<std::string>& peers) {
  const std::string note =
      fmt::format("A prompt of {} tokens, {} new ones.", prompt_length(), new_tokens());
  for_each_model(table, folder, peers, note, all_rows(), [&](const ModelCase& c) {
    const Decoder model = Decoder::load(c.folder);
    memory_row(table, c, model);  // Before there is a block of memory to read.
    step_rows(table, c, model);
    first_token_row(table, c, model);
    add_start_rows(table, c, "token", first_command());
    encode_row(table, c);
  });
}

void generate_first_token(const std::string& folder) {
  const Decoder model = Decoder::load(folder);
  answer_start([&] { return generate(model, 1).seconds_to_first_token; });
}

}  // namespace metal_candle::bench
