// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Which format a folder has, and what the formats share.
#include "metal_candle/lora/adapter_file.h"

#include <fmt/format.h>

#include <filesystem>

#include "metal_candle/core/error.h"
#include "metal_candle/lora/adapter_formats.h"

namespace metal_candle {

void detail::check_factors(const std::string& file, const FactorsByPath& factors) {
  if (factors.empty()) throw FormatError(fmt::format("{}: has no tensors", file));
  for (const auto& [path, pair] : factors) {
    const auto& [a, b] = pair;
    if (a.empty() || b.empty()) {
      throw FormatError(
          fmt::format("{}: the update of {} has only one of its two factors", file, path));
    }
    if (a.rank() != 2 || b.rank() != 2 || a.dim(0) != b.dim(1) || a.dim(0) == 0) {
      throw FormatError(
          fmt::format("{}: the factors of {} do not fit each other: their shapes, in PEFT's order, "
                      "are {} and {}, not [rank, in] and [out, rank]",
                      file, path, to_string(a.shape()), to_string(b.shape())));
    }
    if (!is_floating(a.dtype()) || !is_floating(b.dtype())) {
      throw FormatError(fmt::format("{}: the factors of {} are {} and {}, not floating", file, path,
                                    name(a.dtype()), name(b.dtype())));
    }
  }
}

Tree detail::to_tree(const FactorsByPath& factors) {
  Tree tree;
  for (const auto& [path, pair] : factors) {
    tree[path] = Tree::Dict{{"lora_a", pair.a}, {"lora_b", pair.b}};
  }
  return tree;
}

double detail::read_dropout(const JsonObject& json, std::string_view key) {
  const double dropout = json.number(key, 0);
  if (!(dropout >= 0 && dropout < 1)) {
    throw FormatError(fmt::format("{}: {} is not in [0, 1)", json.where(key), dropout));
  }
  return dropout;
}

Adapter load_adapter(const std::string& folder) {
  namespace fs = std::filesystem;
  const fs::path path(folder);
  const std::string config = (path / "adapter_config.json").string();
  const fs::path peft = path / "adapter_model.safetensors", mlx = path / "adapters.safetensors";
  if (fs::exists(peft)) return detail::load_peft_adapter(config, peft.string());
  if (fs::exists(mlx)) return detail::load_mlx_adapter(config, mlx.string());
  throw IoError(fmt::format(
      "{}: has neither adapter_model.safetensors (PEFT) nor adapters.safetensors (mlx-lm){}",
      folder,
      fs::exists(path / "adapter_model.bin")
          ? "; adapter_model.bin must first be converted: PEFT saves it again as safetensors"
          : ": is it an adapter's folder?"));
}

}  // namespace metal_candle
