// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// metal-candle fuse: an adapter merged into a new model folder.
#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/terminal.h"
#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {
namespace {

struct FuseCommand {
  ModelOptions model;
  std::string adapter;
  std::string save_path = "fused_model";
};

void run(const FuseCommand& command) {
  Decoder model = command.model.load();
  if (!command.adapter.empty()) model = merge_adapter(model, load_adapter(command.adapter));
  save_decoder(model, command.model.model, command.save_path);
  fmt::print("saved {} ({}) in {}\n", readable_bytes(model.bytes()), name(model.dtype()),
             command.save_path);
}

}  // namespace

void add_fuse_command(CLI::App& app) {
  auto c = std::make_shared<FuseCommand>();
  CLI::App* command = app.add_subcommand(
      "fuse",
      "Merges an adapter into a new model folder, which Hugging Face loads. Without an adapter,\n"
      "copies the model: with --dtype, converted.");
  c->model.add_to(*command);
  command->add_option("--adapter-path", c->adapter, "The adapter")->type_name("FOLDER");
  command->add_option("--save-path", c->save_path, "Where to write the model")
      ->type_name("FOLDER")
      ->capture_default_str();
  command->callback([c] { run(*c); });
}

}  // namespace metal_candle::cli
