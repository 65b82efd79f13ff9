// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Adding and finding adapters.
#include "metal_candle/lora/adapter_registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <mutex>
#include <optional>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/evaluate.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

std::vector<std::string> keys(const std::map<std::string, Decoder>& models) {
  std::vector<std::string> names;
  for (const auto& [name, model] : models) names.push_back(name);
  return names;
}

Adapter cast(const Adapter& adapter, DType dtype) {
  Adapter result = adapter;
  result.weights = adapter.weights.map([&](const Tensor& tensor) { return astype(tensor, dtype); });
  const std::vector<Tensor> leaves = result.weights.leaves();
  if (!leaves.empty()) eval(leaves);
  return result;
}

}  // namespace

void AdapterRegistry::add(const std::string& name, const Adapter& adapter) {
  if (name.empty()) throw Error("adapter: the empty name is the base model's");
  std::optional<Decoder> model;
  try {
    model = with_adapter(base_, cast(adapter, base_.dtype()));
  } catch (const ShapeError& error) {
    throw ShapeError(fmt::format("{}: {}", name, error.what()));
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", name, error.what()));
  }
  const std::unique_lock lock(mutex_);
  models_.insert_or_assign(name, *std::move(model));
}

void AdapterRegistry::remove(const std::string& name) {
  std::map<std::string, Decoder>::node_type removed;  // Destroyed without the lock.
  const std::unique_lock lock(mutex_);
  removed = models_.extract(name);
  if (removed.empty()) throw_unknown(name);
}

std::vector<std::string> AdapterRegistry::names() const {
  const std::shared_lock lock(mutex_);
  return keys(models_);
}

Decoder AdapterRegistry::model(const std::string& name) const {
  if (name.empty()) return base_;
  const std::shared_lock lock(mutex_);
  const auto found = models_.find(name);
  if (found == models_.end()) throw_unknown(name);
  return found->second;
}

void AdapterRegistry::throw_unknown(const std::string& name) const {
  throw Error(models_.empty() ? fmt::format("there is no adapter \"{}\", nor any other", name)
                              : fmt::format("there is no adapter \"{}\", but {}", name,
                                            fmt::join(keys(models_), ", ")));
}

}  // namespace metal_candle
