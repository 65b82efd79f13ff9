// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See model_case.h.
#include "bench/model_case.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "bench/peer_scripts.h"
#include "bench/temporary_folder.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/random.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle::bench {
namespace {

namespace fs = std::filesystem;

constexpr int kStarts = 5;  // Of processes, a contestant.

constexpr const char* kQwenConfig = R"({
  "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16",
  "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864,
  "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
  "hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": 1e-06,
  "rope_theta": 1000000.0, "tie_word_embeddings": true, "use_sliding_window": false
})";

void write_random_model(const TemporaryFolder& folder) {
  write_file_atomically(folder / "config.json", kQwenConfig);
  const DecoderConfig config = read_decoder_config(folder / "config.json");
  TensorMap tensors;
  {
    const Tree weights = Decoder::random(config, random::key(1), DType::kBF16).parameters();
    for (const auto& [name, tensor] : weights.dict()) tensors[name] = tensor.tensor();
  }
  save_safetensors(folder / "model.safetensors", tensors);
}

// Seconds that this program takes with these arguments.
double seconds_of_process(std::vector<std::string> arguments) {
  static constexpr const char* kProgram = "/proc/self/exe";
  arguments.insert(arguments.begin(), kProgram);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const double start = wall_seconds();
  pid_t pid = 0;
  int status = ::posix_spawn(&pid, kProgram, nullptr, nullptr, pointers.data(), environ);
  if (status == 0 && ::waitpid(pid, &status, 0) == pid && status == 0)
    return wall_seconds() - start;
  throw Error(fmt::format("bench: {} failed", fmt::join(arguments, " ")));
}

const char* torch_device() { return default_device() == Device::cpu() ? "cpu" : "cuda"; }

}  // namespace

void for_each_model(Table& table, const std::string& folder, const std::string& note,
                    std::span<const char* const> rows,
                    const std::function<void(const ModelCase&)>& measure) {
  std::string why;
  const std::unique_ptr<Peer> torch = Peer::start(kTorchModelsScript, "torch", why, torch_device());
  table.note(torch ? "PyTorch " + torch->version()
                   : "PyTorch rows are without a reference: " + why);
  table.note(note);
  table.header();
  const auto is_wanted = [&](const ModelCase& c) {
    return std::ranges::any_of(rows, [&](const char* row) { return table.wants(c.row(row)); });
  };
  const auto run = [&](const ModelCase& c) {
    if (torch) torch->measure("load " + c.folder);
    measure(c);
  };
  ModelCase given{fs::path(folder).filename().string(), folder, torch.get(), /*fits_caches=*/true};
  if (!folder.empty() && is_wanted(given)) run(given);
  ModelCase random{"0.5B, bf16", "", torch.get()};
  if (!is_wanted(random)) return;
  const TemporaryFolder temporary;
  write_random_model(temporary);
  random.folder = temporary.path();
  run(random);
}

void start_row(Table& table, const ModelCase& c, const char* row_name, const std::string& what,
               const std::string& command) {
  const std::string name = c.row(row_name);
  if (!table.wants(name)) return;
  std::vector<Contestant> contestants{[&] {
    return seconds_of_process(
        {"bench", "--first", what, "--model", c.folder, "--device", to_string(default_device())});
  }};
  if (c.torch != nullptr) {
    contestants.emplace_back([&] {
      const double start = wall_seconds();
      std::string why;
      const std::unique_ptr<Peer> torch =
          Peer::start(kTorchModelsScript, "torch", why, torch_device());
      if (!torch) throw Error("bench: " + why);
      torch->measure("load " + c.folder);
      torch->measure(command);
      return wall_seconds() - start;
    });
  }
  const std::vector<double> seconds = compete(contestants, kStarts);
  Row row{.name = name, .value = seconds[0], .unit = "s"};
  row.reference_name = "PyTorch";
  if (seconds.size() > 1) row.reference = seconds[1];
  table.add(row);
}

}  // namespace metal_candle::bench
