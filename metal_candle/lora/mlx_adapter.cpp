// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Adapters of mlx-lm: factors transposed, a scale instead of alpha, and in the configuration
// everything that the training was started with.
#include <fmt/format.h>

#include <set>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/layout.h"
#include "metal_candle/io/quote.h"
#include "metal_candle/lora/adapter_formats.h"

namespace metal_candle {
namespace {

using detail::FactorsByPath;

FactorsByPath read_factors(const TensorFiles& files) {
  FactorsByPath factors;
  for (const std::string& name : files.names()) {
    const std::size_t dot = name.rfind('.');
    const std::string last = dot == std::string::npos ? name : name.substr(dot + 1);
    if ((last != "lora_a" && last != "lora_b") || dot == std::string::npos) {
      throw FormatError(fmt::format("{}: tensor {} is no factor of a low-rank update", files.path(),
                                    quote(name)));
    }
    const TensorSpec spec = files.spec(name);
    if (spec.shape.rank() != 2) {
      throw FormatError(
          fmt::format("{}: tensor {} has shape {}; only updates of linear layers are "
                      "supported",
                      files.path(), quote(name), to_string(spec.shape)));
    }
    detail::Factors& pair = factors[name.substr(0, dot)];
    (last == "lora_a" ? pair.a : pair.b) = transpose(files.tensor(name));
  }
  return factors;
}

// "self_attn.q_proj" of "model.layers.3.self_attn.q_proj": what mlx-lm calls a key.
std::string path_in_block(const std::string& path) {
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    if (path.find_first_not_of("0123456789", begin) == end && end < path.size()) {
      return path.substr(end + 1);
    }
    begin = end + 1;
  }
  return path;
}

void refuse_other_kinds(const JsonObject& json) {
  const std::string type =
      json.boolean("use_dora", false) ? "dora" : json.string("fine_tune_type", "lora");
  if (type == "full") {
    throw FormatError(
        fmt::format("{}: these are weights of full fine-tuning, not an adapter: "
                    "mlx_lm.fuse makes a model of them",
                    json.where("fine_tune_type")));
  }
  if (type != "lora") {
    throw FormatError(fmt::format("{}: {} is not supported; only lora is",
                                  json.where("fine_tune_type"), quote(type)));
  }
}

}  // namespace

Adapter detail::load_mlx_adapter(const std::string& config_path, const std::string& weights_path) {
  const JsonObject json = JsonObject::read(config_path);
  refuse_other_kinds(json);
  const JsonObject parameters = json.object("lora_parameters");
  if (parameters.has("alpha")) {
    throw FormatError(
        fmt::format("{}: some versions of mlx-lm multiply scale by alpha / rank, later "
                    "ones do not. Remove it if yours did not; else multiply scale by "
                    "alpha / rank and remove it",
                    parameters.where("alpha")));
  }
  const TensorFiles files = TensorFiles::open(weights_path);
  const FactorsByPath factors = read_factors(files);
  check_factors(weights_path, factors);

  Adapter adapter;
  LoraConfig& config = adapter.config;
  config.rank = parameters.integer("rank");
  config.alpha = parameters.number("scale") * static_cast<double>(config.rank);
  config.dropout = read_dropout(parameters, "dropout");
  const std::int64_t num_layers = json.integer("num_layers", json.integer("lora_layers", -1));
  config.num_layers = num_layers > 0 ? num_layers : -1;
  std::set<std::string> keys;
  for (const auto& [path, pair] : factors) {
    keys.insert(path_in_block(path));
    if (pair.a.dim(0) != config.rank) {
      throw FormatError(fmt::format("{}: the update of {} has rank {}, but {} is {}", weights_path,
                                    path, pair.a.dim(0), parameters.where("rank"), config.rank));
    }
  }
  config.target_modules.assign(keys.begin(), keys.end());
  adapter.weights = to_tree(factors);
  return adapter;
}

}  // namespace metal_candle
