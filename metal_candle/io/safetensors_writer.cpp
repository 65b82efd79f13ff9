// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Writing safetensors: tensors go to the file one by one.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "metal_candle/core/atomic_file.h"
#include "metal_candle/core/error.h"
#include "metal_candle/graph/host_contents.h"
#include "metal_candle/graph/ops/layout.h"
#include "metal_candle/io/quote.h"
#include "metal_candle/io/safetensors.h"
#include "metal_candle/io/safetensors_header.h"

namespace metal_candle {
namespace {

using nlohmann::ordered_json;
using Named = TensorMap::value_type;

// Wide elements first, so that each tensor is aligned for its dtype whatever the others' sizes.
std::vector<const Named*> file_order(const TensorMap& tensors) {
  std::vector<const Named*> order;
  for (const Named& tensor : tensors) order.push_back(&tensor);
  std::ranges::stable_sort(order, std::greater<>(),
                           [](const Named* tensor) { return size_of(tensor->second.dtype()); });
  return order;
}

void check(const std::string& path, const TensorMap& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (tensor.empty()) {
      throw Error(fmt::format("{}: tensor {} is an empty handle", path, quote(name)));
    }
    if (name == "__metadata__") {
      throw FormatError(fmt::format("{}: no tensor may be called __metadata__", path));
    }
  }
}

std::string dump(const std::string& path, const ordered_json& document, int indent = -1) {
  try {
    return document.dump(indent);
  } catch (const ordered_json::type_error&) {
    throw FormatError(fmt::format("{}: a tensor's name or the metadata is not UTF-8", path));
  }
}

// Length and JSON. The data begins at a multiple of 8.
std::string make_header(const std::string& path, const std::vector<const Named*>& order,
                        const StringMap& metadata) {
  ordered_json header = ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const auto* tensor : order) {
    const TensorSpec& spec = tensor->second.spec();
    header[tensor->first] = {
        {"dtype", safetensors_name(spec.dtype)},
        {"shape", std::vector<std::int64_t>(spec.shape.begin(), spec.shape.end())},
        {"data_offsets", {offset, offset + spec.bytes()}}};
    offset += spec.bytes();
  }
  std::string text = dump(path, header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text;
}

// Elements in row-major order, whatever their strides, through a buffer.
void write_strided(AtomicFile& file, const HostContents& contents, std::size_t size) {
  std::array<std::byte, std::size_t{1} << 16> buffer;
  std::size_t filled = 0;
  const auto flush = [&] {
    file.write(std::span<const std::byte>(buffer.data(), filled));
    filled = 0;
  };
  contents.for_each([&](const std::byte* element) {
    std::memcpy(buffer.data() + filled, element, size);
    filled += size;
    if (filled == buffer.size()) flush();
  });
  flush();
}

void write_tensor(AtomicFile& file, const Tensor& tensor) {
  if (tensor.size() == 0) return;
  Tensor evaluated = tensor;
  if (!tensor.is_evaluated()) {
    // A node above it gets the memory instead, and is gone when the tensor has been written.
    const std::int64_t count = tensor.size();
    evaluated = reshape(tensor, tensor.rank() == 1 ? Shape{1, count} : Shape{count});
  }
  const HostContents contents(evaluated);
  if (contents.is_contiguous()) {
    file.write(std::span(contents.first(), evaluated.spec().bytes()));
  } else {
    write_strided(file, contents, size_of(evaluated.dtype()));
  }
}

// Tensors in alphabetical order, each shard as full as the limit allows.
std::vector<TensorMap> divide(const TensorMap& tensors, std::size_t max_shard_bytes) {
  std::vector<TensorMap> shards(1);
  std::size_t bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t more = tensor.spec().bytes();
    if (!shards.back().empty() && bytes + more > max_shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().emplace(name, tensor);
    bytes += more;
  }
  return shards;
}

}  // namespace

void save_safetensors(const std::string& path, const TensorMap& tensors,
                      const StringMap& metadata) {
  check(path, tensors);
  const std::vector<const Named*> order = file_order(tensors);
  const std::string header = make_header(path, order, metadata);
  AtomicFile file(path);
  file.write(header);
  for (const auto* tensor : order) write_tensor(file, tensor->second);
  file.commit();
}

std::vector<std::string> save_sharded(const std::string& folder, const TensorMap& tensors,
                                      std::size_t max_shard_bytes, const StringMap& metadata) {
  const std::filesystem::path directory(folder);
  const std::string single = "model.safetensors";
  check((directory / single).string(), tensors);
  const std::vector<TensorMap> shards = divide(tensors, max_shard_bytes);
  if (shards.size() == 1) {
    save_safetensors((directory / single).string(), tensors, metadata);
    return {single};
  }
  std::vector<std::string> files;
  ordered_json weight_map = ordered_json::object();
  std::size_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    files.push_back(fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
    save_safetensors((directory / files.back()).string(), shards[i], metadata);
    for (const auto& [name, tensor] : shards[i]) {
      weight_map[name] = files.back();
      total += tensor.spec().bytes();
    }
  }
  files.push_back(single + ".index.json");
  const std::string index = (directory / files.back()).string();
  const ordered_json document = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file_atomically(index, dump(index, document, 2) + "\n");
  std::error_code ignored;
  std::filesystem::remove(directory / single, ignored);
  return files;
}

}  // namespace metal_candle
