// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Adapters of Hugging Face's PEFT. Which layers are adapted is read off the tensors; patterns of
// the configuration say with which rank and alpha.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <set>
#include <vector>

#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/io/quote.h"
#include "metal_candle/lora/adapter_file.h"
#include "metal_candle/lora/adapter_formats.h"

namespace metal_candle {
namespace {

using detail::Factors;
using detail::FactorsByPath;
using nlohmann::ordered_json;

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kSuffixA = ".lora_A.weight";
constexpr std::string_view kSuffixB = ".lora_B.weight";

FactorsByPath read_factors(const TensorFiles& files) {
  FactorsByPath factors;
  for (const std::string& name : files.names()) {
    const bool is_a = name.ends_with(kSuffixA), is_b = name.ends_with(kSuffixB);
    if (!name.starts_with(kPrefix) || (!is_a && !is_b)) {
      throw FormatError(
          fmt::format("{}: tensor {} is no factor of a linear layer's low-rank update (DoRA, "
                      "embeddings, trained "
                      "biases and modules_to_save are not supported)",
                      files.path(), quote(name)));
    }
    const std::size_t suffix = is_a ? kSuffixA.size() : kSuffixB.size();
    Factors& pair = factors[name.substr(kPrefix.size(), name.size() - kPrefix.size() - suffix)];
    (is_a ? pair.a : pair.b) = files.tensor(name);
  }
  return factors;
}

// Settings that do not change what a trained adapter computes, or change it through the tensors.
void ignore_harmless(const JsonObject& json) {
  json.ignore({"peft_type", "task_type", "auto_mapping", "base_model_name_or_path", "revision",
               "inference_mode", "peft_version", "megatron_core", "qalora_group_size", "eva_config",
               "layers_pattern"});
}

void refuse_unsupported(const JsonObject& json) {
  const std::string type = json.string("peft_type");
  if (type != "LORA") {
    throw FormatError(
        fmt::format("{}: {} is not supported; only LORA is", json.where("peft_type"), quote(type)));
  }
  const std::string bias = json.string("bias", "none");
  if (bias != "none") {
    throw FormatError(
        fmt::format("{}: {}: trained biases are not supported", json.where("bias"), quote(bias)));
  }
  // These replace the base model's weights when the adapter is made.
  if (json.type("init_lora_weights") == "string") {
    const std::string init = json.string("init_lora_weights");
    for (const std::string_view harmless : {"gaussian", "eva", "orthogonal"}) {
      if (init == harmless) return;
    }
    throw FormatError(
        fmt::format("{}: {} changes the base model's weights: save the adapter as a plain one "
                    "(save_pretrained's path_initial_model_for_weight_conversion)",
                    json.where("init_lora_weights"), quote(init)));
  }
  json.ignore({"init_lora_weights"});
}

void refuse_unread(const JsonObject& json) {
  ignore_harmless(json);
  const std::vector<std::string> unread = json.unread();
  if (unread.empty()) return;
  throw FormatError(
      fmt::format("{}: this setting is not supported, and may change what the adapter computes",
                  json.where(unread[0])));
}

// PEFT's rule: the key, which is a regular expression, or anything and a dot before it.
bool matches(const JsonObject& patterns, const std::string& key, const std::string& path) {
  const bool literal = std::ranges::all_of(
      key, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; });
  if (literal) {
    return path == key || (path.ends_with(key) && path[path.size() - key.size() - 1] == '.');
  }
  try {
    return std::regex_match(path, std::regex("(?:.*\\.)?(?:" + key + ")"));
  } catch (const std::regex_error&) {
    throw FormatError(
        fmt::format("{}: is not a regular expression that can be used here", patterns.where(key)));
  }
}

// What rank_pattern or alpha_pattern says of a path, if it says anything. PEFT takes the first key
// that matches; JSON objects have no order, so several must agree.
std::optional<double> exception_for(const JsonObject& json, std::string_view name,
                                    const std::string& path) {
  if (!json.has(name)) return {};
  const JsonObject patterns = json.object(name);
  std::optional<double> result;
  std::string first;
  for (const std::string& key : patterns.keys()) {
    const double value = patterns.number(key);
    if (!matches(patterns, key, path)) continue;
    if (result && *result != value) {
      throw FormatError(fmt::format("{}: both {} and {} match {}, with different values",
                                    json.where(name), quote(first), quote(key), path));
    }
    result = value;
    first = key;
  }
  return result;
}

void read_targets(const JsonObject& json, const FactorsByPath& factors, LoraConfig& config) {
  std::vector<std::string> targets;
  if (json.type("target_modules") == "string") {
    const std::string pattern = json.string("target_modules");
    if (pattern == "all-linear") {
      targets = {pattern};
    } else {
      config.target_pattern = pattern;
    }
  } else if (json.has("target_modules")) {
    targets = json.strings("target_modules");
  }
  std::ranges::sort(targets);  // PEFT writes a set.
  // LoraConfig cannot say these in general.
  bool limited = json.type("exclude_modules") == "string";
  if (json.type("exclude_modules") == "array") limited |= !json.strings("exclude_modules").empty();
  limited |= json.has("layers_to_transform");
  json.ignore({"exclude_modules", "layers_to_transform"});
  if (limited || (targets.empty() && config.target_pattern.empty())) {
    config.target_pattern.clear();
    targets.clear();
    for (const auto& [path, pair] : factors) targets.push_back(path);
  }
  config.target_modules = targets;
}

// "3" of "model.layers.3.self_attn.q_proj"; -1 if it is in no block.
std::int64_t block_of(const std::string& path) {
  static const std::regex kBlock(R"(\.(\d{1,9})\.)");
  std::smatch match;
  return std::regex_search(path, match, kBlock) ? std::stoll(match.str(1)) : -1;
}

std::string last_component(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// "target_modules" and "layers_to_transform", so that PEFT adapts the layers that the adapter has.
void write_targets(const Adapter& adapter, ordered_json& json) {
  const LoraConfig& config = adapter.config;
  const auto& layers = adapter.weights.dict();
  if (!config.target_pattern.empty() && config.num_layers < 0) {
    json["target_modules"] = config.target_pattern;
    return;
  }
  std::set<std::string> targets(config.target_modules.begin(), config.target_modules.end());
  if (!config.target_pattern.empty()) {  // PEFT does not take it together with blocks.
    targets.clear();
    for (const auto& [path, weights] : layers) targets.insert(path);
  } else if (targets.contains("all-linear")) {  // Here as there, but for the word in a list.
    targets.clear();
    for (const auto& [path, weights] : layers) targets.insert(last_component(path));
  }
  json["target_modules"] = targets;
  if (config.num_layers < 0) return;
  std::set<std::int64_t> blocks;
  for (const auto& [path, weights] : layers) blocks.insert(block_of(path));
  json["layers_to_transform"] = blocks;
}

ordered_json to_number(double value) {
  if (std::abs(value) < 0x1p53 && value == std::trunc(value)) {
    return static_cast<std::int64_t>(value);
  }
  return value;
}

std::string to_json(const Adapter& adapter, const std::string& base_model) {
  const LoraConfig& config = adapter.config;
  ordered_json json = {{"peft_type", "LORA"},
                       {"task_type", "CAUSAL_LM"},
                       {"base_model_name_or_path", base_model},
                       {"inference_mode", true},
                       {"r", config.rank},
                       {"lora_alpha", to_number(config.alpha)},
                       {"lora_dropout", config.dropout},
                       {"use_rslora", config.rslora},
                       {"bias", "none"},
                       {"fan_in_fan_out", false},
                       {"init_lora_weights", true},
                       {"modules_to_save", nullptr}};
  if (base_model.empty()) json["base_model_name_or_path"] = nullptr;
  write_targets(adapter, json);
  json["rank_pattern"] = config.rank_pattern;
  json["alpha_pattern"] = ordered_json::object();
  for (const auto& [path, alpha] : config.alpha_pattern) {
    json["alpha_pattern"][path] = to_number(alpha);
  }
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

Adapter detail::load_peft_adapter(const std::string& config_path, const std::string& weights_path) {
  const JsonObject json = JsonObject::read(config_path);
  refuse_unsupported(json);
  const TensorFiles files = TensorFiles::open(weights_path);
  const FactorsByPath factors = read_factors(files);
  check_factors(weights_path, factors);

  Adapter adapter;
  LoraConfig& config = adapter.config;
  config.rank = json.integer("r");
  config.alpha = json.number("lora_alpha");
  config.dropout = read_dropout(json, "lora_dropout");
  config.rslora = json.boolean("use_rslora", false);
  read_targets(json, factors, config);
  for (const auto& [path, pair] : factors) {
    const double rank =
        exception_for(json, "rank_pattern", path).value_or(static_cast<double>(config.rank));
    if (static_cast<double>(pair.a.dim(0)) != rank) {
      throw FormatError(fmt::format("{}: the update of {} has rank {}, but {} says {}",
                                    weights_path, path, pair.a.dim(0), config_path, rank));
    }
    const double alpha = exception_for(json, "alpha_pattern", path).value_or(config.alpha);
    if (pair.a.dim(0) != config.rank) config.rank_pattern[path] = pair.a.dim(0);
    if (alpha != config.alpha) config.alpha_pattern[path] = alpha;
  }
  refuse_unread(json);
  adapter.weights = to_tree(factors);
  return adapter;
}

void save_adapter(const std::string& folder, const Adapter& adapter,
                  const std::string& base_model) {
  const std::filesystem::path path(folder);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw IoError(fmt::format("{}: cannot make the folder: {}", folder, error.message()));
  TensorMap tensors;
  for (const auto& [layer, weights] : adapter.weights.dict()) {
    const std::string name = std::string(kPrefix) + layer;
    tensors[name + std::string(kSuffixA)] = weights.tensor("lora_a");
    tensors[name + std::string(kSuffixB)] = weights.tensor("lora_b");
  }
  save_safetensors((path / "adapter_model.safetensors").string(), tensors);
  write_file_atomically((path / "adapter_config.json").string(), to_json(adapter, base_model));
}

}  // namespace metal_candle
