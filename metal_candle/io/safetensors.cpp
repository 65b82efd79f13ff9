// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Reading safetensors: files, folders and indices.
#include "metal_candle/io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/graph/ops/creation.h"
#include "metal_candle/io/mapped_file.h"
#include "metal_candle/io/quote.h"
#include "metal_candle/io/safetensors_header.h"
#include "metal_candle/io/safetensors_index.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

struct File {
  std::string path;
  std::shared_ptr<const MappedFile> mapping;
  SafetensorsHeader header;
};

File open_file(const std::string& path) {
  File file{path, MappedFile::open(path), {}};
  file.header = parse_safetensors_header(file.mapping->bytes(), path);
  return file;
}

std::vector<File> open_shards(const std::string& index_path) {
  const auto index = MappedFile::open(index_path);
  const std::map<std::string, std::string> weight_map = parse_safetensors_index(
      {reinterpret_cast<const char*>(index->bytes().data()), index->bytes().size()}, index_path);
  std::map<std::string, std::size_t> opened;  // Name to number.
  std::vector<File> files;
  std::map<std::string_view, std::string> found_in;
  for (const auto& [tensor, shard] : weight_map) opened.emplace(shard, 0);
  for (auto& [shard, number] : opened) {
    const std::string path = (fs::path(index_path).parent_path() / shard).string();
    if (!fs::exists(path)) {
      throw IoError(
          fmt::format("{}: is missing, but {} puts tensors there: is the download "
                      "complete?",
                      path, index_path));
    }
    number = files.size();
    files.push_back(open_file(path));
  }
  for (const auto& [shard, number] : opened) {
    for (const auto& [tensor, entry] : files[number].header.tensors) {
      const auto [before, is_new] = found_in.emplace(tensor, shard);
      if (!is_new) {
        throw FormatError(fmt::format("{}: tensor {} is in {} and in {}", index_path, quote(tensor),
                                      before->second, shard));
      }
      if (!weight_map.contains(tensor)) {
        throw FormatError(
            fmt::format("{}: does not list tensor {} of {}", index_path, quote(tensor), shard));
      }
    }
  }
  for (const auto& [tensor, shard] : weight_map) {
    if (!files[opened[shard]].header.tensors.contains(tensor)) {
      throw FormatError(fmt::format("{}: tensor {} is not there, though {} says so",
                                    files[opened[shard]].path, quote(tensor), index_path));
    }
  }
  return files;
}

std::vector<File> open_all(const std::string& path) {
  std::vector<File> files;
  if (!fs::is_directory(path)) {
    if (path.ends_with(".index.json")) return open_shards(path);
    files.push_back(open_file(path));
    return files;
  }
  const fs::path folder(path);
  if (fs::exists(folder / kSingleFile)) {
    files.push_back(open_file((folder / kSingleFile).string()));
    return files;
  }
  if (fs::exists(folder / kIndexFile)) return open_shards((folder / kIndexFile).string());
  const bool pickled = fs::exists(folder / "pytorch_model.bin") ||
                       fs::exists(folder / "pytorch_model.bin.index.json");
  throw IoError(fmt::format("{}: has neither {} nor {}{}", path, kSingleFile, kIndexFile,
                            pickled ? "; pytorch_model.bin must first be converted to safetensors"
                                    : ": is it a model's folder?"));
}

}  // namespace

struct TensorFiles::Contents {
  struct Located {
    const File* file;
    const SafetensorsEntry* entry;
  };

  std::string path;
  std::vector<File> files;
  std::map<std::string, Located, std::less<>> tensors;
  std::vector<std::string> names;
  std::map<std::string, std::string> metadata;
  std::size_t bytes = 0;

  [[nodiscard]] const Located& find(std::string_view name) const {
    const auto found = tensors.find(name);
    if (found != tensors.end()) return found->second;
    const std::string near = nearest_name(name, names);
    throw FormatError(fmt::format("{}: has no tensor {}{}", path, quote(name),
                                  near.empty() ? "" : fmt::format("; it has {}", quote(near))));
  }
};

TensorFiles TensorFiles::open(const std::string& path) {
  auto contents = std::make_shared<Contents>();
  contents->path = path;
  contents->files = open_all(path);
  for (const File& file : contents->files) {
    for (const auto& [name, entry] : file.header.tensors) {
      contents->tensors.emplace(name, Contents::Located{&file, &entry});
      contents->bytes += entry.end - entry.begin;
    }
    contents->metadata.insert(file.header.metadata.begin(), file.header.metadata.end());
  }
  for (const auto& [name, located] : contents->tensors) contents->names.push_back(name);
  return TensorFiles(std::move(contents));
}

const std::vector<std::string>& TensorFiles::names() const { return contents_->names; }
bool TensorFiles::contains(std::string_view name) const {
  return contents_->tensors.contains(name);
}
const std::map<std::string, std::string>& TensorFiles::metadata() const {
  return contents_->metadata;
}
std::size_t TensorFiles::bytes() const { return contents_->bytes; }
const std::string& TensorFiles::path() const { return contents_->path; }
const std::string& TensorFiles::path(std::string_view name) const {
  return contents_->find(name).file->path;
}

TensorSpec TensorFiles::spec(std::string_view name) const {
  const Contents::Located& located = contents_->find(name);
  if (!located.entry->element) {
    throw FormatError(
        fmt::format("{}: tensor {} has the dtype {}, which is not supported: save it "
                    "as F32, F16, BF16, I64, I32, U32, I8, U8 or BOOL",
                    located.file->path, quote(name), located.entry->dtype));
  }
  return {located.entry->shape, *located.entry->element};
}

Tensor TensorFiles::tensor(std::string_view name) const {
  const TensorSpec spec = this->spec(name);
  const Contents::Located& located = contents_->find(name);
  const std::span<const std::byte> bytes = located.file->mapping->bytes().subspan(
      located.file->header.data_begin + located.entry->begin, spec.bytes());
  if (spec.dtype == DType::kBool &&
      std::ranges::any_of(bytes, [](std::byte b) { return b > std::byte{1}; })) {
    throw FormatError(fmt::format("{}: tensor {} is BOOL, but has bytes other than 0 and 1",
                                  located.file->path, quote(name)));
  }
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % size_of(spec.dtype) != 0) {
    return detail::make_leaf_from_host(bytes.data(), spec, default_device());
  }
  return from_blob(bytes, spec, located.file->mapping);
}

Tensor TensorFiles::tensor(std::string_view name, const Shape& expected) const {
  Tensor tensor = this->tensor(name);
  if (!(tensor.shape() == expected)) {
    throw ShapeError(
        fmt::format("{}: tensor {} has shape {}, but {} is needed: do configuration "
                    "and weights belong together?",
                    path(name), quote(name), to_string(tensor.shape()), to_string(expected)));
  }
  return tensor;
}

}  // namespace metal_candle
