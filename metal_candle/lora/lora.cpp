// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Attaching low-rank updates.
#include "metal_candle/lora/lora.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <regex>
#include <set>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

// Whether path is pattern, or ends in it as a whole component or several.
bool ends_in(std::string_view path, std::string_view pattern) {
  if (!path.ends_with(pattern)) return false;
  return path.size() == pattern.size() || path[path.size() - pattern.size() - 1] == '.';
}

template <typename T>
T exception_or(const std::map<std::string, T>& exceptions, const std::string& path, T otherwise) {
  for (const auto& [pattern, value] : exceptions) {
    if (ends_in(path, pattern)) return value;
  }
  return otherwise;
}

bool matches(const std::string& path, const std::string& pattern) {
  try {
    return std::regex_match(path, std::regex(pattern));
  } catch (const std::regex_error& error) {
    throw FormatError(fmt::format(
        "adapter: \"{}\" is not a regular expression that can be used: {}", pattern, error.what()));
  }
}

void require_shape(const std::string& path, const char* name, const Tensor& tensor,
                   const Shape& expected) {
  if (tensor.shape() == expected) return;
  throw ShapeError(fmt::format("adapter: {}.{} is {}, but the model's layer needs {}", path, name,
                               to_string(tensor.shape()), to_string(expected)));
}

std::string no_target(const LoraConfig& config) {
  const std::string where =
      config.num_layers < 0 ? "the model" : fmt::format("the last {} blocks", config.num_layers);
  if (!config.target_pattern.empty())
    return fmt::format("adapter: no linear layer of {} matches \"{}\"", where,
                       config.target_pattern);
  return fmt::format("adapter: no linear layer of {} is named {}", where,
                     fmt::join(config.target_modules, " or "));
}

}  // namespace

bool LoraConfig::targets(const std::string& path, std::int64_t block,
                         std::int64_t num_blocks) const {
  if (num_layers >= 0 && block < num_blocks - num_layers) return false;
  if (!target_pattern.empty()) return matches(path, target_pattern);
  for (const std::string& pattern : target_modules) {
    if (pattern == "all-linear" || ends_in(path, pattern)) return true;
  }
  return false;
}

std::int64_t LoraConfig::rank_of(const std::string& path) const {
  return exception_or(rank_pattern, path, rank);
}

float LoraConfig::scale_of(const std::string& path) const {
  const auto r = static_cast<double>(rank_of(path));
  return static_cast<float>(exception_or(alpha_pattern, path, alpha) / (rslora ? std::sqrt(r) : r));
}

std::int64_t Adapter::num_parameters() const {
  std::int64_t count = 0;
  for (const Tensor& tensor : weights.leaves()) count += tensor.size();
  return count;
}

Adapter make_adapter(const Decoder& model, const LoraConfig& config, const Tensor& key) {
  if (!(config.dropout >= 0 && config.dropout < 1))
    throw Error(fmt::format("adapter: dropout {} is not in [0, 1)", config.dropout));
  Adapter adapter{config, {}};
  std::uint32_t index = 0;
  const std::int64_t blocks = model.config().num_hidden_layers;
  model.for_each_linear([&](const std::string& path, std::int64_t block, const Linear& linear) {
    if (!config.targets(path, block, blocks)) return;
    const std::int64_t rank = config.rank_of(path);
    if (rank < 1) throw Error(fmt::format("adapter: rank {} of {} is not positive", rank, path));
    const auto bound = static_cast<float>(1 / std::sqrt(static_cast<double>(linear.in_features())));
    Tree& weights = adapter.weights[path];
    weights["lora_a"] =
        random::uniform({rank, linear.in_features()}, random::fold_in(key, index++), -bound, bound);
    weights["lora_b"] = zeros({linear.out_features(), rank}, DType::kF32, model.device());
  });
  if (index == 0) throw Error(no_target(config));
  eval(adapter.weights.leaves());
  return adapter;
}

Decoder with_adapter(const Decoder& model, const Adapter& adapter) {
  Decoder result = model;
  std::set<std::string> missing;
  for (const auto& [path, weights] : adapter.weights.dict()) missing.insert(path);
  result.for_each_linear([&](const std::string& path, std::int64_t, Linear& linear) {
    linear.lora = {};
    const auto found = adapter.weights.dict().find(path);
    if (found == adapter.weights.dict().end()) return;
    missing.erase(path);
    LoraWeights lora;
    lora.a = found->second.tensor("lora_a").to(model.device());
    lora.b = found->second.tensor("lora_b").to(model.device());
    const std::int64_t rank = adapter.config.rank_of(path);
    require_shape(path, "lora_a", lora.a, {rank, linear.in_features()});
    require_shape(path, "lora_b", lora.b, {linear.out_features(), rank});
    lora.scale = adapter.config.scale_of(path);
    lora.dropout = adapter.config.dropout;
    linear.lora = lora;
  });
  if (!missing.empty()) {
    throw Error(fmt::format("adapter: the model has no layer {}", *missing.begin()));
  }
  return result;
}

Decoder merge_adapter(const Decoder& model, const Adapter& adapter) {
  Decoder result = with_adapter(model, adapter);
  result.for_each_linear([&](const std::string&, std::int64_t, Linear& linear) {
    if (linear.lora.empty()) return;
    const Tensor update =
        matmul(astype(linear.lora.b, DType::kF32), astype(linear.lora.a, DType::kF32));
    linear.weight = astype(astype(linear.weight, DType::kF32) + update * linear.lora.scale,
                           linear.weight.dtype());
    linear.lora = {};
    eval(linear.weight);
  });
  return result;
}

}  // namespace metal_candle
