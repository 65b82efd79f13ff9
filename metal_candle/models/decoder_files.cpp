// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Writing model folders.
#include "metal_candle/models/decoder_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>

#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/io/safetensors.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

// What a model folder may have beside config.json and the weights that programs read.
constexpr std::string_view kCopied[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
};

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || text.fail()) throw IoError(fmt::format("{}: cannot read it", path.string()));
  return text.str();
}

std::string_view torch_name(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return "bfloat16";
    case DType::kF16:
      return "float16";
    default:
      return "float32";
  }
}

// The configuration with the dtype in whichever of its spellings the file has.
std::string config_with_dtype(const fs::path& path, DType dtype) {
  auto config = nlohmann::ordered_json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object())
    throw FormatError(fmt::format("{}: expected a JSON object", path.string()));
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = torch_name(dtype);
  return config.dump(2) + "\n";
}

}  // namespace

void save_decoder(const Decoder& model, const std::string& source, const std::string& folder,
                  std::size_t max_shard_bytes) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw IoError(fmt::format("{}: {}", folder, error.message()));
  if (fs::equivalent(source, folder, error)) {
    throw Error(fmt::format("{}: the model came from this folder; write it to another", folder));
  }
  const fs::path from = source, to = folder;
  const std::string config = config_with_dtype(from / "config.json", model.dtype());
  // A folder with config.json is complete, so an old one goes first.
  fs::remove(to / "config.json", error);
  TensorMap tensors;
  const Tree parameters = model.parameters();
  for (const auto& [name, tensor] : parameters.dict()) tensors[name] = tensor.tensor();
  save_sharded(folder, tensors, max_shard_bytes);
  for (const std::string_view name : kCopied) {
    if (fs::exists(from / name))
      write_file_atomically((to / name).string(), read_file(from / name));
  }
  write_file_atomically((to / "config.json").string(), config);
}

}  // namespace metal_candle
