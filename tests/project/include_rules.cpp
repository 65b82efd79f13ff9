// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Layers are read off paths: metal_candle/<layer>/..., and cli/.
#include "tests/project/include_rules.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <stdexcept>

namespace metal_candle::testing {
namespace {

struct Layer {
  std::string_view name;
  int rank;
};

// A layer includes itself and layers of lower rank, but for the exceptions in may_include().
// Layers of one rank do not know each other.
constexpr std::array kLayers = {
    Layer{"core", 0},    Layer{"graph", 1}, Layer{"autograd", 2}, Layer{"optimize", 2},
    Layer{"backend", 2}, Layer{"io", 2},    Layer{"execute", 3},  Layer{"nn", 4},
    Layer{"models", 5},  Layer{"lora", 6},  Layer{"train", 7},    Layer{"generate", 7},
    Layer{"embed", 7},   Layer{"cli", 8},
};

// Headers that only .cpp files include: every user of ours would otherwise compile and find them.
constexpr std::array<std::string_view, 8> kHeavyPrefixes = {
    "dnnl", "oneapi/", "hwy/", "fmt/", "omp.h", "nlohmann/", "oniguruma.h", "utf8proc.h"};

constexpr std::string_view kLibraryPrefix = "metal_candle/";
constexpr std::string_view kBackendPrefix = "metal_candle/backend/";
constexpr std::string_view kUmbrella = "metal_candle/metal_candle.h";

const Layer* find_layer(std::string_view path) {
  if (path.starts_with("cli/")) return &kLayers.back();
  if (!path.starts_with(kLibraryPrefix)) return nullptr;
  path.remove_prefix(kLibraryPrefix.size());
  const auto name = path.substr(0, path.find('/'));
  const auto* layer = std::ranges::find(kLayers, name, &Layer::name);
  return layer == kLayers.end() ? nullptr : layer;
}

// "cpu" for metal_candle/backend/cpu/matmul.h; empty for what is no backend's own.
std::string_view backend_folder(std::string_view path) {
  if (!path.starts_with(kBackendPrefix)) return {};
  path.remove_prefix(kBackendPrefix.size());
  const auto slash = path.find('/');
  return slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash);
}

bool may_include(const Layer& from, const Layer& to) {
  if (from.name == to.name) return true;
  // Evaluation does not read files.
  if (from.name == "execute" && to.name == "io") return false;
  return to.rank < from.rank;
}

// The complaint about one include, or nothing.
std::optional<std::string> check_include(std::string_view path, std::string_view included,
                                         bool quoted) {
  const auto says = [&](std::string_view why) {
    return std::string(included).append(": ").append(why);
  };
  const auto begins_include = [&](std::string_view prefix) { return included.starts_with(prefix); };
  if (std::ranges::any_of(kHeavyPrefixes, begins_include)) {  // Highway's custom is to quote them.
    const bool is_public = path.ends_with(".h") && backend_folder(path).empty();
    return is_public ? std::optional(says("not in a public header")) : std::nullopt;
  }
  if (!quoted) return {};
  const bool in_cli = path.starts_with("cli/");
  if (in_cli && (included.starts_with("cli/") || included.starts_with("bench/"))) return {};
  if (included == kUmbrella) {
    return in_cli ? std::nullopt : std::optional(says("for users of the library only"));
  }
  if (!included.starts_with(kLibraryPrefix)) return says("not a path from the repository's root");
  const Layer* to = find_layer(included);
  if (to == nullptr) return says("in no known layer");
  const auto owner = backend_folder(included);
  // What GPUs share is for those backends.
  const bool shared =
      owner == "gpu" && !backend_folder(path).empty() && backend_folder(path) != "cpu";
  if (!owner.empty() && owner != backend_folder(path) && !shared) {
    return says("a backend's own headers are its own");
  }
  if (path == kUmbrella) return {};
  const Layer* from = find_layer(path);
  if (from == nullptr) return says("included from no known layer");
  if (!may_include(*from, *to)) {
    return says(std::string(from->name).append(" does not know ").append(to->name));
  }
  return {};
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::vector<std::string> check_includes(std::string_view path, std::string_view text) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*([<"])([^>"]+)[>"])re");
  std::vector<std::string> breaches;
  int line_number = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    std::smatch match;
    if (!std::regex_search(line, match, kInclude)) continue;
    if (const auto complaint = check_include(path, match.str(2), match.str(1) == "\"")) {
      breaches.push_back(std::string(path) + ":" + std::to_string(line_number) + ": " + *complaint);
    }
  }
  return breaches;
}

std::vector<std::string> check_tree(const std::filesystem::path& root, int* files_read) {
  std::vector<std::string> breaches;
  int files = 0;
  for (const char* folder : {"metal_candle", "cli"}) {
    if (!std::filesystem::exists(root / folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const auto extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp") continue;
      const auto path = std::filesystem::relative(entry.path(), root).generic_string();
      const auto found = check_includes(path, read_file(entry.path()));
      breaches.insert(breaches.end(), found.begin(), found.end());
      ++files;
    }
  }
  std::ranges::sort(breaches);
  if (files_read != nullptr) *files_read = files;
  return breaches;
}

}  // namespace metal_candle::testing
