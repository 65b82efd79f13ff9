// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Cases are JSON in the file's metadata, and name its tensors.
#include "tests/support/fixture.h"

#include <fmt/format.h>

#include <map>
#include <mutex>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops.h"
#include "metal_candle/io/safetensors.h"

namespace metal_candle::testing {
namespace {

using nlohmann::json;

Dims to_dims(const json& list) {
  return Dims(std::span<const std::int64_t>(list.get<std::vector<std::int64_t>>()));
}

class Reader {
 public:
  explicit Reader(const std::string& path) : files_(TensorFiles::open(path)) {}

  std::vector<FixtureCase> cases() {
    std::vector<FixtureCase> all;
    for (const json& entry : json::parse(files_.metadata().at("cases"))) {
      FixtureCase c;
      c.op = entry.at("op").get<std::string>();
      c.attributes = entry.value("attributes", json());
      c.inputs = operands(entry.at("inputs"));
      c.outputs = values(entry.at("outputs"));
      if (entry.contains("gradients")) {
        const json& gradients = entry.at("gradients");
        c.cotangents = operands(gradients.at("cotangents"));
        c.wrt = gradients.at("wrt").get<std::vector<int>>();
        c.gradients = values(gradients.at("expected"));
      }
      all.push_back(std::move(c));
    }
    return all;
  }

 private:
  std::vector<FixtureOperand> operands(const json& list) {
    std::vector<FixtureOperand> all;
    for (const json& entry : list) {
      all.push_back(
          {files_.tensor(entry.at("tensor").get<std::string>()), entry.value("views", json())});
    }
    return all;
  }

  std::vector<HostTensor> values(const json& list) {
    std::vector<HostTensor> all;
    for (const json& entry : list) {
      all.push_back(read_evaluated(files_.tensor(entry.get<std::string>())));
    }
    return all;
  }

  TensorFiles files_;
};

}  // namespace

Tensor FixtureOperand::tensor() const {
  Tensor x = stored;
  for (const json& view : views) {
    const auto kind = view.at(0).get<std::string>();
    if (kind == "transpose") {
      x = transpose(x, to_dims(view.at(1)));
    } else if (kind == "flip") {
      x = flip(x, to_dims(view.at(1)));
    } else if (kind == "broadcast_to") {
      x = broadcast_to(x, to_dims(view.at(1)));
    } else if (kind == "slice") {
      x = slice(x, to_dims(view.at(1)), to_dims(view.at(2)), to_dims(view.at(3)));
    } else {
      throw FormatError("fixture: unknown view " + kind);
    }
  }
  return x;
}

std::string FixtureCase::describe() const {
  std::string text = op;
  for (const FixtureOperand& input : inputs) {
    text += fmt::format(" {}{}{}", name(input.stored.dtype()), to_string(input.stored.shape()),
                        input.views.is_null() ? "" : input.views.dump());
  }
  return attributes.is_null() ? text : text + " " + attributes.dump();
}

bool FixtureCase::has(const char* attribute) const {
  return attributes.is_object() && attributes.contains(attribute);
}

const std::vector<FixtureCase>& fixture_cases(const std::string& family) {
  static std::mutex mutex;
  // For ever: a device may be gone before what is static.
  static auto& families = *new std::map<std::string, std::vector<FixtureCase>>;
  const std::lock_guard lock(mutex);
  auto found = families.find(family);
  if (found == families.end()) {
    Reader reader(METAL_CANDLE_SOURCE_DIR "/tests/fixtures/" + family + ".safetensors");
    found = families.emplace(family, reader.cases()).first;
  }
  return found->second;
}

}  // namespace metal_candle::testing
