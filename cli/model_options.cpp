// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Options of a model.
#include "cli/model_options.h"

#include <fmt/format.h>

#include <filesystem>

namespace metal_candle::cli {

void ModelOptions::add_to(CLI::App& command) {
  command
      .add_option("--model", model,
                  "A Hugging Face model folder: config.json, tokenizer.json, *.safetensors")
      ->type_name("FOLDER");
  command.add_option("--device", device, "Where to compute: cpu, metal, cuda or cuda:1 ...")
      ->capture_default_str();
  command
      .add_option("--dtype", dtype,
                  "What weights are cast to: auto (as they are saved), f32, bf16, f16")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16"}))
      ->capture_default_str();
  command
      .add_option("--mode", mode,
                  "eager, sync or async: three ways to the same results; default async")
      ->check(CLI::IsMember({"eager", "sync", "async"}));
}

void ModelOptions::apply_mode() const {
  if (!mode.empty()) set_execution_mode(parse_execution_mode(mode));
}

std::optional<DType> ModelOptions::parsed_dtype() const {
  if (dtype == "auto") return std::nullopt;
  return parse_dtype(dtype);
}

Decoder ModelOptions::load() const {
  if (model.empty()) throw CLI::RequiredError("--model");
  static_cast<void>(device_info(parsed_device()));  // Throws if there is no such device.
  set_default_device(parsed_device());
  apply_mode();
  return Decoder::load(model, {parsed_dtype(), parsed_device()});
}

std::string base_name(const std::string& path) {
  std::filesystem::path p = std::filesystem::path(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  return p.filename().string();
}

}  // namespace metal_candle::cli
