// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tensors in safetensors files (https://huggingface.co/docs/safetensors), one or several with an
// index, as Hugging Face folders have them. Files are mapped: opening a model reads its headers,
// and its weights come from disk as they are first used.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// The tensors of a file or folder, checked in full: see open(). A handle; copies are cheap, and
/// threads may share it. A file must not be shortened or overwritten in place while it or a tensor
/// of it lives (see MappedFile); replacing it by renaming another over it is fine.
class TensorFiles {
 public:
  /// `path` is a .safetensors file, an index (*.safetensors.index.json), or a folder with
  /// model.safetensors or else model.safetensors.index.json.
  ///
  /// Throws IoError when something is missing or unreadable, a shard too; FormatError, naming file
  /// and tensor, when a header is malformed or does not fit its file (truncation, overlaps, gaps,
  /// duplicates, overflow), or when index and shards disagree.
  static TensorFiles open(const std::string& path);

  /// In alphabetical order.
  [[nodiscard]] const std::vector<std::string>& names() const;
  [[nodiscard]] bool contains(std::string_view name) const;
  /// Throws FormatError naming the file when there is no such tensor, or when its dtype is none of
  /// this library's (f64 and others).
  [[nodiscard]] TensorSpec spec(std::string_view name) const;

  /// A tensor on the mapped memory, which it keeps alive: no bytes are read or copied. (Only what
  /// is not aligned for its dtype is copied.) Throws as spec() does, and FormatError for bool
  /// elements other than 0 and 1.
  [[nodiscard]] Tensor tensor(std::string_view name) const;
  /// The same. Throws ShapeError with both shapes, the file and the name unless the shape is
  /// `expected`.
  [[nodiscard]] Tensor tensor(std::string_view name, const Shape& expected) const;

  /// The files' __metadata__; where shards disagree, the first one's.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;
  /// Of all tensors.
  [[nodiscard]] std::size_t bytes() const;
  /// The file that holds a tensor, or all of them as open() was asked for.
  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] const std::string& path(std::string_view name) const;

 private:
  struct Contents;
  explicit TensorFiles(std::shared_ptr<const Contents> contents) : contents_(std::move(contents)) {}

  std::shared_ptr<const Contents> contents_;
};

using TensorMap = std::map<std::string, Tensor>;
using StringMap = std::map<std::string, std::string>;

/// Writes a file that appears complete or not at all. Tensors are evaluated one by one, and a lazy
/// one does not keep its memory, so that a model need not fit in memory twice. Hugging Face's
/// loaders want the metadata's "format" to be "pt". Throws IoError naming the file and the reason,
/// FormatError for names that are not UTF-8, Error for an empty tensor.
void save_safetensors(const std::string& path, const TensorMap& tensors,
                      const StringMap& metadata = {{"format", "pt"}});

/// Writes model.safetensors into a folder or, where that would be larger than `max_shard_bytes`,
/// model-00001-of-0000N.safetensors... and then model.safetensors.index.json (and removes a
/// model.safetensors that would be read instead). Each file appears complete or not at all. A
/// tensor larger than the limit has a shard of its own. Returns the files written, without folder.
std::vector<std::string> save_sharded(const std::string& folder, const TensorMap& tensors,
                                      std::size_t max_shard_bytes,
                                      const StringMap& metadata = {{"format", "pt"}});

}  // namespace metal_candle
