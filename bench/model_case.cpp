// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See model_case.h.
#include "bench/model_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "bench/peer_scripts.h"
#include "bench/start.h"
#include "bench/temporary_folder.h"
#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/random.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/models/decoder.h"

namespace metal_candle::bench {
namespace {

namespace fs = std::filesystem;

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

struct Framework {
  const char* name;
  const char* title;
  const char* const* script;
};

constexpr Framework kFrameworks[] = {{"torch", "PyTorch", &kTorchModelsScript},
                                     {"mlx", "MLX", &kMlxModelsScript},
                                     {"jax", "JAX", &kJaxModelsScript}};

std::unique_ptr<Peer> start_peer(const std::string& framework, std::string& why) {
  const auto* found = std::ranges::find(kFrameworks, framework, &Framework::name);
  return Peer::start(std::string(kPeerLoopScript) + kModelLoopScript + *found->script, framework,
                     why, default_device() == Device::cpu() ? "cpu" : "cuda");
}

std::vector<ModelPeer> start_peers(const Table& table, const std::vector<std::string>& names) {
  std::vector<ModelPeer> peers;
  for (const Framework& framework : kFrameworks) {
    if (std::ranges::find(names, framework.name) == names.end()) continue;
    std::string why;
    std::shared_ptr<Peer> peer = start_peer(framework.name, why);
    table.note(peer ? fmt::format("peer: {} {}", framework.title, peer->version())
                    : fmt::format("without {}: {}", framework.title, why));
    if (peer) peers.push_back({framework.name, framework.title, std::move(peer)});
  }
  return peers;
}

// Those of `peers` that can load the model.
std::vector<ModelPeer> load(const Table& table, const std::string& folder,
                            const std::vector<ModelPeer>& peers) {
  std::vector<ModelPeer> loaded;
  for (const ModelPeer& peer : peers) {
    try {
      peer.peer->measure("load " + folder);
      loaded.push_back(peer);
    } catch (const Error& error) {
      table.note(error.what());
    }
  }
  return loaded;
}

Starter starter_of(const ModelCase& c, const ModelPeer& peer, const std::string& command) {
  return {[framework = peer.framework, folder = c.folder] {
            std::string why;
            std::unique_ptr<Peer> started = start_peer(framework, why);
            if (!started) throw Error("bench: " + why);
            started->measure("load " + folder);
            return started;
          },
          asking(command)};
}

std::vector<StartRow> rows_of_start(const std::string& what) {
  return {{"process start to ready", &StartTimes::ready},
          {"ready to first " + what, &StartTimes::first},
          {"process start to first " + what, &StartTimes::total}};
}

}  // namespace

Peer* ModelCase::torch() const {
  return !peers.empty() && peers[0].framework == "torch" ? peers[0].peer.get() : nullptr;
}

std::vector<Contestant> ModelCase::contestants(const std::string& command) const {
  std::vector<Contestant> all;
  for (const ModelPeer& each : peers) all.push_back(each.peer->contestant(command));
  return all;
}

PeerValues ModelCase::ask(const std::string& command) const {
  PeerValues values;
  for (const ModelPeer& each : peers) values.push_back(each.peer->contestant(command)());
  return values;
}

Row ModelCase::compare(Row row, const PeerValues& values) const {
  row.reference_name = "PyTorch";
  if (torch() != nullptr && !std::isnan(values.at(0))) row.reference = values[0];
  return row;
}

void ModelCase::add(Table& table, const Row& row, const PeerValues& values) const {
  table.add(row);
  for (std::size_t i = torch() == nullptr ? 0 : 1; i < peers.size(); ++i) {
    if (std::isnan(values.at(i))) continue;
    Row other{.name = row.name + ", against " + peers[i].title,
              .value = row.value,
              .unit = row.unit,
              .reference = values.at(i)};
    other.reference_name = peers[i].title;
    if (other.value) other.ratio = *other.value / *other.reference;
    table.add(std::move(other));
  }
}

void for_each_model(Table& table, const std::string& folder, const std::vector<std::string>& peers,
                    const std::string& note, const std::vector<std::string>& rows,
                    const std::function<void(const ModelCase&)>& measure) {
  const std::vector<ModelPeer> started = start_peers(table, peers);
  table.note(note);
  table.header();
  const auto is_wanted = [&](const ModelCase& c) {
    return std::ranges::any_of(rows,
                               [&](const std::string& row) { return table.wants(c.row(row)); });
  };
  const auto run = [&](ModelCase c) {
    c.peers = load(table, c.folder, started);
    measure(c);
  };
  ModelCase given{fs::path(folder).filename().string(), folder, /*fits_caches=*/true};
  if (!folder.empty() && is_wanted(given)) run(given);
  ModelCase random{"0.5B, bf16", ""};
  if (!is_wanted(random)) return;
  const TemporaryFolder temporary;
  write_random_model(temporary);
  random.folder = temporary.path();
  run(random);
}

void add_compiling_row(Table& table, const ModelCase& c, const std::string& row,
                       const std::string& command) {
  const double start = wall_seconds();
  if (std::isnan(c.torch()->contestant(command)())) return;
  Row compiling{.name = row + ", first call", .unit = "s", .reference = wall_seconds() - start};
  compiling.reference_name = "torch.compile";
  table.add(std::move(compiling));
}

std::vector<std::string> start_row_names(const std::string& what) {
  std::vector<std::string> names;
  for (const StartRow& row : rows_of_start(what)) names.push_back(row.name);
  return names;
}

void add_start_rows(Table& table, const ModelCase& c, const std::string& what,
                    const std::string& command) {
  std::vector<StartRow> rows = rows_of_start(what);
  std::erase_if(rows, [&](const StartRow& row) { return !table.wants(c.row(row.name)); });
  if (rows.empty()) return;
  std::vector<Starter> starters{{starting_self({"bench", "--first", what, "--model", c.folder,
                                                "--device", to_string(default_device())}),
                                 asking(what)}};
  for (const ModelPeer& peer : c.peers) starters.push_back(starter_of(c, peer, command));
  const StartTimes times = measure_starts(starters);
  for (const StartRow& row : rows) {
    const std::vector<double>& seconds = times.*row.seconds;
    const PeerValues values(seconds.begin() + 1, seconds.end());
    c.add(table, c.compare({.name = c.row(row.name), .value = seconds[0], .unit = "s"}, values),
          values);
  }
}

}  // namespace metal_candle::bench
