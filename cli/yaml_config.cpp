// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading YAML options.
#include "cli/yaml_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <vector>

#include "metal_candle/metal_candle.h"

namespace metal_candle::cli {
namespace {

class Applier {
 public:
  Applier(CLI::App& command, std::string path) : command_(command), path_(std::move(path)) {}

  void apply(const YAML::Node& root) {
    for (const auto& entry : root) {
      const auto key = entry.first.as<std::string>();
      if (entry.second.IsNull()) continue;
      if (key == "lora_parameters") {
        apply_lora(entry.second);
      } else if (key == "lr_schedule") {
        apply_schedule(entry.second);
      } else {
        set(key, entry.first, entry.second);
      }
    }
  }

 private:
  [[noreturn]] void fail(const YAML::Node& at, const std::string& what) const {
    throw FormatError(fmt::format("{}:{}: {}", path_, at.Mark().line + 1, what));
  }

  void require_map(const YAML::Node& key, const YAML::Node& section) const {
    if (!section.IsMap())
      fail(section, fmt::format("{}: expected a section of keys", key.as<std::string>("")));
  }

  void apply_lora(const YAML::Node& section) {
    require_map(YAML::Node("lora_parameters"), section);
    for (const auto& entry : section) {
      const auto key = entry.first.as<std::string>();
      set(key == "keys" ? "target_modules" : key, entry.first, entry.second);
    }
  }

  void apply_schedule(const YAML::Node& section) {
    require_map(YAML::Node("lr_schedule"), section);
    const Decay schedule = schedule_of(section);
    for (const auto& entry : section) {
      const auto key = entry.first.as<std::string>();
      if (key == "name") {
        set("lr_schedule", entry.first, entry.second);
      } else if (key == "arguments") {
        apply_schedule_arguments(schedule, entry.second);
      } else {
        set(key, entry.first, entry.second);
      }
    }
  }

  [[nodiscard]] Decay schedule_of(const YAML::Node& section) const {
    try {
      return parse_decay(section["name"].as<std::string>("constant"));
    } catch (const FormatError& error) {
      fail(section["name"], error.what());
    }
  }

  // mlx-lm's schedules have their arguments in orders of their own.
  void apply_schedule_arguments(Decay schedule, const YAML::Node& arguments) {
    std::vector<const char*> names = {"learning_rate"};
    switch (schedule) {
      case Decay::kConstant:
        break;
      case Decay::kLinear:
        names = {"learning_rate", "final_learning_rate", "decay_steps"};
        break;
      case Decay::kCosine:
        names = {"learning_rate", "decay_steps", "final_learning_rate"};
        break;
    }
    if (!arguments.IsSequence() || arguments.size() > names.size()) {
      fail(arguments, fmt::format("arguments: a {} schedule has at most [{}]", name(schedule),
                                  fmt::join(names, ", ")));
    }
    for (std::size_t i = 0; i < arguments.size(); ++i) set(names[i], arguments[i], arguments[i]);
  }

  void set(std::string key, const YAML::Node& at, const YAML::Node& value) {
    std::replace(key.begin(), key.end(), '_', '-');
    CLI::Option* option = command_.get_option_no_throw("--" + key);
    if (option == nullptr || key == "config" || key == "help") {
      fail(at, fmt::format("{} is not an option of {}; see metal-candle {} --help", key,
                           command_.get_name(), command_.get_name()));
    }
    if (option->count() > 0) return;  // The command line wins.
    if (!value.IsScalar() && !value.IsSequence())
      fail(value, fmt::format("{}: expected a value or a list", key));
    try {
      if (value.IsSequence()) {
        for (const YAML::Node& element : value) option->add_result(element.as<std::string>());
      } else {
        option->add_result(value.as<std::string>());
      }
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      fail(value, error.what());
    }
  }

  CLI::App& command_;
  std::string path_;
};

}  // namespace

void apply_yaml_config(CLI::App& command, const std::string& path) {
  YAML::Node root;
  try {
    root = YAML::LoadFile(path);
  } catch (const YAML::BadFile&) {
    throw IoError(fmt::format("{}: cannot read it", path));
  } catch (const YAML::ParserException& error) {
    throw FormatError(
        fmt::format("{}:{}: not valid YAML: {}", path, error.mark.line + 1, error.msg));
  }
  if (root.IsNull()) return;
  if (!root.IsMap()) throw FormatError(fmt::format("{}: expected keys and values", path));
  try {
    Applier(command, path).apply(root);
  } catch (const YAML::Exception& error) {
    throw FormatError(fmt::format("{}:{}: {}", path, error.mark.line + 1, error.msg));
  }
}

}  // namespace metal_candle::cli
