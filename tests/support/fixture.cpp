// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A safetensors file is the length of its header, the header (JSON), and the tensors' bytes.
#include "tests/support/fixture.h"

#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>

#include "metal_candle/graph/ops.h"

namespace metal_candle::testing {
namespace {

using nlohmann::json;

Dims to_dims(const json& list) {
  return Dims(std::span<const std::int64_t>(list.get<std::vector<std::int64_t>>()));
}

class Reader {
 public:
  explicit Reader(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw IoError("cannot open " + path);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    std::uint64_t length = 0;
    if (bytes_.size() < sizeof(length)) throw FormatError(path + ": too short");
    std::memcpy(&length, bytes_.data(), sizeof(length));
    begin_ = sizeof(length) + length;
    header_ = json::parse(bytes_.begin() + sizeof(length),
                          bytes_.begin() + static_cast<std::ptrdiff_t>(begin_));
  }

  std::vector<FixtureCase> cases() {
    std::vector<FixtureCase> all;
    for (const json& entry :
         json::parse(header_.at("__metadata__").at("cases").get<std::string>())) {
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
  Tensor tensor(const std::string& tensor_name) const {
    const json& entry = header_.at(tensor_name);
    const TensorSpec spec{to_dims(entry.at("shape")),
                          parse_dtype(entry.at("dtype").get<std::string>())};
    const auto begin = entry.at("data_offsets").at(0).get<std::size_t>();
    const auto end = entry.at("data_offsets").at(1).get<std::size_t>();
    if (end - begin != spec.bytes() || begin_ + end > bytes_.size()) {
      throw FormatError("fixture tensor " + tensor_name + " does not fit its shape");
    }
    return detail::make_leaf_from_host(bytes_.data() + begin_ + begin, spec, Device::cpu());
  }

  std::vector<FixtureOperand> operands(const json& list) {
    std::vector<FixtureOperand> all;
    for (const json& entry : list) {
      all.push_back({tensor(entry.at("tensor").get<std::string>()), entry.value("views", json())});
    }
    return all;
  }

  std::vector<HostTensor> values(const json& list) {
    std::vector<HostTensor> all;
    for (const json& entry : list) all.push_back(read_evaluated(tensor(entry.get<std::string>())));
    return all;
  }

  std::vector<char> bytes_;
  std::size_t begin_ = 0;  // Of the tensors' bytes.
  json header_;
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
  static std::map<std::string, std::vector<FixtureCase>> families;
  const std::lock_guard lock(mutex);
  auto found = families.find(family);
  if (found == families.end()) {
    Reader reader(METAL_CANDLE_SOURCE_DIR "/tests/fixtures/" + family + ".safetensors");
    found = families.emplace(family, reader.cases()).first;
  }
  return found->second;
}

}  // namespace metal_candle::testing
