// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See safetensors_index.h.
#include "metal_candle/io/safetensors_index.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/io/quote.h"

namespace metal_candle {

using nlohmann::json;

std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           const std::string& path) {
  const auto fail = [&](const std::string& what) -> FormatError {
    return FormatError(fmt::format("{}: {}", path, what));
  };
  // The parser would silently keep the last of two equal keys.
  std::vector<std::set<std::string>> keys;
  const auto check_key = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      throw fail(fmt::format("{} is there twice", quote(parsed.get<std::string>())));
    return true;
  };
  json index;
  try {
    index = json::parse(text.begin(), text.end(), check_key);
  } catch (const json::parse_error& error) {
    throw fail(fmt::format("is not JSON, at byte {}", error.byte));
  } catch (const json::out_of_range&) {
    throw fail("has a number that no computer holds");
  }
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw fail("has no object \"weight_map\": is it the index of a sharded model?");
  }
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string()) throw fail(fmt::format("tensor {} has no file name", quote(tensor)));
    const auto name = shard.get<std::string>();
    // A model out of somebody's hands must not make us read elsewhere.
    if (name.empty() || name.find('/') != std::string::npos || name == "..") {
      throw fail(fmt::format("tensor {} is in {}, which is not a file beside the index",
                             quote(tensor), quote(name)));
    }
    weight_map.emplace(tensor, name);
  }
  return weight_map;
}

}  // namespace metal_candle
