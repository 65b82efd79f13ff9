// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Writing model folders.
#include "metal_candle/models/decoder_files.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/io/mapped_file.h"
#include "metal_candle/io/safetensors.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
// What belongs to a model beside its weights, as far as a folder has it.
constexpr const char* kCopied[] = {"generation_config.json",
                                   "tokenizer.json",
                                   "tokenizer_config.json",
                                   "tokenizer.model",
                                   "added_tokens.json",
                                   "special_tokens_map.json",
                                   "vocab.json",
                                   "merges.txt",
                                   "vocab.txt",
                                   "chat_template.jinja",
                                   "chat_template.json",
                                   "LICENSE",
                                   "LICENSE.txt",
                                   "LICENSE.md",
                                   "NOTICE"};

std::string read_file(const fs::path& path) {
  const auto file = MappedFile::open(path.string());
  return {reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()};
}

const char* hugging_face_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    default:
      throw DTypeError(fmt::format("save_decoder: weights of {} cannot be saved", name(dtype)));
  }
}

// The text of a config.json, with another dtype in the spelling that it has.
std::string with_dtype(const fs::path& path, DType dtype) {
  nlohmann::ordered_json config;
  try {
    config = nlohmann::ordered_json::parse(read_file(path));
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(fmt::format("{}: not valid JSON: {}", path.string(), error.what()));
  }
  if (config.contains("dtype")) config["dtype"] = hugging_face_name(dtype);
  if (config.contains("torch_dtype") || !config.contains("dtype"))
    config["torch_dtype"] = hugging_face_name(dtype);
  return config.dump(2) + "\n";
}

void require_same_model(const Decoder& model, const std::string& config_path) {
  DecoderConfig source = read_decoder_config(config_path);
  source.dtype = model.config().dtype;
  if (source == model.config()) return;
  throw Error(fmt::format("save_decoder: {} describes another model than the one to be saved",
                          config_path));
}

void require_no_updates(const Decoder& model) {
  model.for_each_linear([](const std::string& path, std::int64_t, const Linear& linear) {
    if (linear.lora.empty()) return;
    throw Error(fmt::format(
        "save_decoder: {} has a low-rank update, which would be lost: merge it first", path));
  });
}

TensorMap tensors_of(const Decoder& model) {
  TensorMap tensors;
  const Tree parameters = model.parameters();
  for (const auto& [name, tensor] : parameters.dict()) tensors[name] = tensor.tensor();
  return tensors;
}

// config.json first: without it the folder is no model. Then weights that would be read instead of
// those to come, or lie there for nothing.
void remove_model(const fs::path& folder) {
  const auto remove = [](const fs::path& path) {
    std::error_code error;
    fs::remove(path, error);
    if (error)
      throw IoError(fmt::format("{}: cannot replace it: {}", path.string(), error.message()));
  };
  remove(folder / kConfig);
  std::vector<fs::path> weights;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "model.safetensors" || name == "model.safetensors.index.json" ||
        (name.starts_with("model-") && name.ends_with(".safetensors")))
      weights.push_back(entry.path());
  }
  for (const fs::path& path : weights) remove(path);
}

}  // namespace

std::vector<std::string> save_decoder(const Decoder& model, const std::string& source_folder,
                                      const std::string& folder, std::size_t max_shard_bytes) {
  const fs::path source(source_folder);
  const fs::path target(folder);
  require_no_updates(model);
  require_same_model(model, (source / kConfig).string());
  const std::string config = with_dtype(source / kConfig, model.dtype());

  std::error_code error;
  fs::create_directories(target, error);
  if (error) throw IoError(fmt::format("{}: cannot make the folder: {}", folder, error.message()));
  if (fs::equivalent(source, target, error)) {
    throw Error(fmt::format(
        "{}: is the folder that the model comes from, which is not overwritten; name another",
        folder));
  }
  remove_model(target);
  std::vector<std::string> written = save_sharded(folder, tensors_of(model), max_shard_bytes);
  for (const char* name : kCopied) {
    if (!fs::exists(source / name)) continue;
    write_file_atomically((target / name).string(), read_file(source / name));
    written.emplace_back(name);
  }
  write_file_atomically((target / kConfig).string(), config);
  written.emplace_back(kConfig);
  return written;
}

}  // namespace metal_candle
