// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See checkpoint.h.
#include "metal_candle/train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/host_contents.h"
#include "metal_candle/io/safetensors.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kMetadataKey = "metal-candle checkpoint";
constexpr int kVersion = 1;
constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kTemporarySuffix = ".tmp";

// The iteration of checkpoint-0000100.safetensors; nothing for other names.
std::optional<std::int64_t> iteration_of(std::string_view filename) {
  if (!filename.starts_with(kPrefix) || !filename.ends_with(kSuffix)) return {};
  if (filename.size() <= kPrefix.size() + kSuffix.size()) return {};
  const std::string_view digits =
      filename.substr(kPrefix.size(), filename.size() - kPrefix.size() - kSuffix.size());
  std::int64_t iteration = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), iteration);
  if (error != std::errc() || end != digits.data() + digits.size() || iteration < 0) return {};
  return iteration;
}

// What AtomicFile was writing when the process was killed.
bool is_leftover(std::string_view filename) {
  return filename.starts_with(kPrefix) && filename.ends_with(kTemporarySuffix);
}

std::vector<std::string> filenames(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  if (error) throw IoError(fmt::format("{}: cannot list the folder: {}", folder, error.message()));
  for (const fs::directory_entry& entry : entries)
    names.push_back(entry.path().filename().string());
  return names;
}

// Best effort: a file too many does no harm.
void remove_others(const std::string& folder, std::int64_t newest, int keep) {
  std::vector<std::pair<std::int64_t, std::string>> older;
  std::error_code ignored;
  for (const std::string& name : filenames(folder)) {
    const auto iteration = iteration_of(name);
    if (iteration && *iteration < newest) older.emplace_back(*iteration, name);
    const bool later = iteration && *iteration > newest;
    if (later || is_leftover(name)) fs::remove(fs::path(folder) / name, ignored);
  }
  std::sort(older.rbegin(), older.rend());
  for (std::size_t i = static_cast<std::size_t>(keep - 1); i < older.size(); ++i) {
    fs::remove(fs::path(folder) / older[i].second, ignored);
  }
}

// Out of the mapped file, which may be removed while the run goes on.
Tensor copied(const Tensor& tensor) {
  return detail::make_leaf_from_host(HostContents(tensor).first(), tensor.spec(), tensor.device());
}

}  // namespace

std::string checkpoint_path(const std::string& folder, std::int64_t iteration) {
  return (fs::path(folder) / fmt::format("{}{:07}{}", kPrefix, iteration, kSuffix)).string();
}

std::string write_checkpoint(const std::string& folder, const Checkpoint& checkpoint, int keep) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw IoError(fmt::format("{}: cannot make the folder: {}", folder, error.message()));
  const json document = {{"version", kVersion},
                         {"iteration", checkpoint.iteration},
                         {"values", checkpoint.values},
                         {"settings", checkpoint.settings}};
  std::string text;
  try {
    text = document.dump();
  } catch (const json::exception&) {
    throw FormatError(fmt::format("{}: a setting of the run is not UTF-8", folder));
  }
  std::string path = checkpoint_path(folder, checkpoint.iteration);
  save_safetensors(path, checkpoint.tensors, {{kMetadataKey, text}});
  remove_others(folder, checkpoint.iteration, keep);
  return path;
}

void remove_checkpoints(const std::string& folder) {
  for (const std::string& name : filenames(folder)) {
    if (!iteration_of(name) && !is_leftover(name)) continue;
    const fs::path path = fs::path(folder) / name;
    std::error_code error;
    fs::remove(path, error);
    if (error)
      throw IoError(fmt::format("{}: cannot remove it: {}", path.string(), error.message()));
  }
}

Checkpoint read_checkpoint(const std::string& path) {
  const TensorFiles file = TensorFiles::open(path);
  const auto metadata = file.metadata().find(kMetadataKey);
  if (metadata == file.metadata().end()) {
    throw FormatError(
        fmt::format("{}: not a checkpoint: its metadata has no '{}'", path, kMetadataKey));
  }
  Checkpoint checkpoint;
  try {
    const json document = json::parse(metadata->second);
    const int version = document.at("version").get<int>();
    if (version != kVersion) {
      throw FormatError(fmt::format("{}: a checkpoint of version {}, where this program reads {}",
                                    path, version, kVersion));
    }
    checkpoint.iteration = document.at("iteration").get<std::int64_t>();
    checkpoint.values = document.at("values").get<std::map<std::string, std::string>>();
    checkpoint.settings = document.at("settings").get<Settings>();
  } catch (const json::exception& error) {
    throw FormatError(fmt::format("{}: malformed checkpoint: {}", path, error.what()));
  }
  for (const std::string& name : file.names()) {
    checkpoint.tensors.emplace(name, copied(file.tensor(name)));
  }
  return checkpoint;
}

std::optional<std::string> latest_checkpoint(const std::string& folder) {
  std::optional<std::int64_t> latest;
  std::string filename;
  for (const std::string& name : filenames(folder)) {
    const auto iteration = iteration_of(name);
    if (!iteration || (latest && *iteration <= *latest)) continue;
    latest = iteration;
    filename = name;
  }
  if (!latest) return {};
  return (fs::path(folder) / filename).string();
}

}  // namespace metal_candle
