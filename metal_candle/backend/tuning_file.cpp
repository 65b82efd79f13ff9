// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See tuning_file.h.
#include "metal_candle/backend/tuning_file.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "metal_candle/core/cache_folder.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kVersion = 1;
constexpr const char* kFormat = "metal-candle tuning";

// Checked as far as all devices' entries have in common.
Json parse(std::string_view text, const std::string& path) {
  try {
    Json file = Json::parse(text);
    if (file.at("format") != kFormat) throw FormatError(path + ": no file of tuned parameters");
    const auto version = file.at("version").get<std::int64_t>();
    if (version != kVersion) {
      throw FormatError(
          fmt::format("{}: tuned parameters of version {}, and this metal-candle reads version {}",
                      path, version, kVersion));
    }
    for (const Json& device : file.at("devices")) {
      static_cast<void>(device.at("device").get<std::string>());
      if (!device.at("values").is_array()) throw FormatError(path + ": values are no array");
    }
    return file;
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(fmt::format("{}: {}", path, error.what()));
  }
}

void read_value(const Json& item, const std::string& path, Tuning& to) {
  const std::optional<Tunable> tunable = find_tunable(item.at("parameter").get<std::string>());
  if (!tunable) return;
  ShapeClass shape;
  shape.dtype = parse_dtype(item.at("dtype").get<std::string>());
  shape.sizes = item.at("sizes").get<std::array<std::int64_t, 3>>();
  shape.form = item.at("form").get<std::int64_t>();
  const auto value = item.at("value").get<std::int64_t>();
  if (value < 0 || value > (std::int64_t{1} << 30)) {
    throw FormatError(fmt::format("{}: {} cannot be {}", path, info_of(*tunable).name, value));
  }
  to.set(*tunable, shape, value);
}

// Empty if the user names none.
std::string path_of_user() {
  const char* path = std::getenv("METAL_CANDLE_TUNING");
  return path != nullptr ? path : "";
}
bool is_named_by_user() { return !path_of_user().empty(); }

}  // namespace

std::string tuning_key(const Backend& backend) {
  const BackendDescription description = backend.describe();
  std::string key = description.device + ", " + description.instructions;
  if (backend.device() == Device::cpu()) key += fmt::format(", {} threads", description.threads);
  if (!description.tuned_with.empty()) key += ", " + description.tuned_with;
  return key;
}

void read_tuning(std::string_view text, const std::string& path, const std::string& device,
                 Tuning& to) {
  const Json file = parse(text, path);
  try {
    for (const Json& one : file["devices"]) {
      if (one["device"] != device) continue;
      for (const Json& item : one["values"]) read_value(item, path, to);
    }
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(fmt::format("{}: {}", path, error.what()));
  } catch (const DTypeError& error) {
    throw FormatError(fmt::format("{}: {}", path, error.what()));
  }
}

std::string with_tuning(std::string_view text, const std::string& path, const std::string& device,
                        const Tuning& values) {
  Json file = text.empty()
                  ? Json{{"format", kFormat}, {"version", kVersion}, {"devices", Json::array()}}
                  : parse(text, path);
  Json list = Json::array();
  for (const auto& [key, value] : values.values()) {
    const ShapeClass& shape = key.second;
    list.push_back({{"parameter", info_of(key.first).name},
                    {"dtype", metal_candle::name(shape.dtype)},
                    {"sizes", shape.sizes},
                    {"form", shape.form},
                    {"value", value}});
  }
  Json devices = Json::array();
  for (const Json& one : file["devices"]) {
    if (one["device"] != device) devices.push_back(one);
  }
  devices.push_back({{"device", device}, {"values", list}});
  file["devices"] = devices;
  return file.dump(1) + "\n";
}

std::string tuning_path() {
  if (const std::string path = path_of_user(); !path.empty()) {
    return path == "off" ? std::string() : path;
  }
  const std::filesystem::path folder = user_cache_folder();
  return folder.empty() ? std::string() : (folder / "tuning.json").string();
}

Tuning load_tuning(const std::string& device) {
  Tuning values;
  const std::string path = tuning_path();
  if (path.empty() && is_named_by_user()) return values;  // Off.
  read_tuning(kShippedTuning, "shipped_tuning.cpp", device, values);
  if (path.empty()) return values;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    if (is_named_by_user()) throw IoError(path + " (METAL_CANDLE_TUNING): cannot be read");
    return values;
  }
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  try {
    Tuning all = values;
    read_tuning(text, path, device, all);
    return all;
  } catch (const FormatError& error) {
    if (is_named_by_user()) throw;
    std::fprintf(stderr, "metal-candle: warning: %s; parameters are as shipped\n", error.what());
    return values;
  }
}

}  // namespace metal_candle::backend
