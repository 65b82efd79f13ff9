// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The JSON is read as a stream of events: a document tree would silently keep one of two equal
// keys, and take many times the header's size.
#include "metal_candle/io/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "metal_candle/core/error.h"
#include "metal_candle/io/quote.h"

namespace metal_candle {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "tensors are mapped as they are stored");

constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // The reference implementation's limit.
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 62;

struct FormatType {
  std::string_view name;
  unsigned bits;
  std::optional<DType> element;
};

constexpr std::array kTypes = {
    FormatType{"BOOL", 8, DType::kBool},
    FormatType{"U8", 8, DType::kU8},
    FormatType{"I8", 8, DType::kI8},
    FormatType{"I32", 32, DType::kI32},
    FormatType{"U32", 32, DType::kU32},
    FormatType{"I64", 64, DType::kI64},
    FormatType{"F16", 16, DType::kF16},
    FormatType{"BF16", 16, DType::kBF16},
    FormatType{"F32", 32, DType::kF32},
    FormatType{"F64", 64, {}},
    FormatType{"U64", 64, {}},
    FormatType{"I16", 16, {}},
    FormatType{"U16", 16, {}},
    FormatType{"F8_E5M2", 8, {}},
    FormatType{"F8_E4M3", 8, {}},
    FormatType{"F8_E8M0", 8, {}},
    FormatType{"F8_E4M3FNUZ", 8, {}},
    FormatType{"F8_E5M2FNUZ", 8, {}},
    FormatType{"F6_E2M3", 6, {}},
    FormatType{"F6_E3M2", 6, {}},
    FormatType{"F4", 4, {}},
    FormatType{"C64", 64, {}},
};

class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  HeaderReader(const std::string& path, SafetensorsHeader& header) : path_(path), header_(header) {}

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kOutside:
        return go(Place::kTensors);
      case Place::kTensors:
        if (key_ == "__metadata__") return go(Place::kMetadata);
        entry_ = {};
        seen_.clear();
        return go(Place::kTensor);
      default:
        refuse("an object");
    }
  }
  bool key(string_t& key) override {
    if (place_ == Place::kMetadata) {
      metadata_key_ = key;
      if (header_.metadata.contains(key))
        fail(fmt::format("__metadata__ has {} twice", quote(key)));
    } else if (place_ == Place::kTensor) {
      if (std::find(seen_.begin(), seen_.end(), key) != seen_.end()) {
        fail(fmt::format("tensor {} has {} twice", quote(key_), quote(key)));
      }
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        fail(fmt::format("tensor {} has the key {}, which the format does not know", quote(key_),
                         quote(key)));
      }
      seen_.push_back(key);
    } else {
      key_ = key;
      const bool twice = key == "__metadata__" ? std::exchange(has_metadata_, true)
                                               : header_.tensors.contains(key);
      if (twice) fail(fmt::format("{} is there twice", quote(key)));
    }
    return true;
  }
  bool end_object() override {
    if (place_ == Place::kTensor) {
      finish_tensor();
      return go(Place::kTensors);
    }
    return go(place_ == Place::kMetadata ? Place::kTensors : Place::kOutside);
  }
  bool start_array(std::size_t) override {
    numbers_.clear();
    if (place_ == Place::kTensor && seen_.back() == "shape") return go(Place::kShape);
    if (place_ == Place::kTensor && seen_.back() == "data_offsets") return go(Place::kOffsets);
    refuse("a list");
  }
  bool end_array() override {
    if (place_ == Place::kShape) {
      for (const std::uint64_t length : numbers_) {
        entry_.shape.push_back(static_cast<std::int64_t>(length));
      }
    } else {
      if (numbers_.size() != 2 || numbers_[0] > numbers_[1]) {
        fail(
            fmt::format("tensor {} has data_offsets that are not a begin and an end", quote(key_)));
      }
      entry_.begin = numbers_[0];
      entry_.end = numbers_[1];
    }
    return go(Place::kTensor);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) refuse("a number");
    if (value > kMostBytes) {
      fail(fmt::format("tensor {} has {} in its {}, more than any file holds", quote(key_), value,
                       seen_.back()));
    }
    if (place_ == Place::kShape && numbers_.size() == kMaxRank) {
      fail(fmt::format("tensor {} has more than {} dimensions, which are not supported",
                       quote(key_), kMaxRank));
    }
    if (numbers_.size() <= kMaxRank) numbers_.push_back(value);
    return true;
  }
  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[metadata_key_] = value;
    } else if (place_ == Place::kTensor && seen_.back() == "dtype") {
      entry_.dtype = value;
    } else {
      refuse("a string");
    }
    return true;
  }
  bool null() override {
    // What MLX writes for no metadata.
    if (place_ == Place::kTensors && key_ == "__metadata__") return true;
    refuse("null");
  }
  bool boolean(bool) override { refuse("a boolean"); }
  bool number_integer(number_integer_t) override { refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    refuse("a number that is no 64-bit integer");
  }
  bool binary(binary_t&) override { refuse("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    fail(fmt::format("the header is not JSON, at its byte {}", position));
  }

 private:
  enum class Place { kOutside, kTensors, kMetadata, kTensor, kShape, kOffsets };

  bool go(Place place) {
    place_ = place;
    return true;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(fmt::format("{}: {}", path_, what));
  }
  [[noreturn]] void refuse(const char* kind) const {
    switch (place_) {
      case Place::kOutside:
        fail(fmt::format("the header is {}, not a JSON object", kind));
      case Place::kTensors:
        fail(fmt::format("{} is {}, not an object", quote(key_), kind));
      case Place::kMetadata:
        fail(fmt::format("__metadata__ has {} for {}; only strings are allowed", kind,
                         quote(metadata_key_)));
      default:
        fail(fmt::format("tensor {} has {} in its {}", quote(key_), kind, seen_.back()));
    }
  }

  void finish_tensor() {
    for (const char* needed : {"dtype", "shape", "data_offsets"}) {
      if (std::find(seen_.begin(), seen_.end(), needed) == seen_.end()) {
        fail(fmt::format("tensor {} has no {}", quote(key_), needed));
      }
    }
    const auto* type = std::ranges::find(kTypes, entry_.dtype, &FormatType::name);
    if (type == kTypes.end()) {
      fail(fmt::format("tensor {} has the dtype {}, which the format does not know", quote(key_),
                       quote(entry_.dtype)));
    }
    entry_.element = type->element;
    // A length of 0 counts as 1: strides must not overflow either.
    std::uint64_t bits = type->bits;
    bool overflow = false;
    bool empty = false;
    for (const std::int64_t length : entry_.shape) {
      empty |= length == 0;
      const auto factor = static_cast<std::uint64_t>(std::max<std::int64_t>(length, 1));
      overflow |= __builtin_mul_overflow(bits, factor, &bits);
    }
    if (overflow || bits / 8 > kMostBytes) {
      fail(fmt::format("tensor {} has the shape {}, more than any file holds", quote(key_),
                       to_string(entry_.shape)));
    }
    if (empty) bits = 0;
    if (bits % 8 != 0 || entry_.end - entry_.begin != bits / 8) {
      fail(fmt::format("tensor {} of {} {} takes {} bytes, but its data_offsets [{}, {}] hold {}",
                       quote(key_), entry_.dtype, to_string(entry_.shape), (bits + 7) / 8,
                       entry_.begin, entry_.end, entry_.end - entry_.begin));
    }
    header_.tensors.emplace(key_, entry_);
  }

  const std::string& path_;
  SafetensorsHeader& header_;
  Place place_ = Place::kOutside;
  std::string key_;           // The tensor, or __metadata__.
  std::string metadata_key_;  // In __metadata__.
  bool has_metadata_ = false;
  SafetensorsEntry entry_;
  std::vector<std::string> seen_;  // Keys of the tensor; the last is the one being read.
  std::vector<std::uint64_t> numbers_;
};

// The tensors' bytes follow each other without gaps and end with the file.
void check_extents(const SafetensorsHeader& header, std::size_t file_size,
                   const std::string& path) {
  using Named = decltype(header.tensors)::value_type;
  std::vector<const Named*> in_order;
  in_order.reserve(header.tensors.size());
  for (const Named& tensor : header.tensors) in_order.push_back(&tensor);
  std::ranges::sort(in_order, {}, [](const Named* tensor) {
    return std::pair(tensor->second.begin, tensor->second.end);
  });
  std::size_t end = 0;
  const Named* previous = nullptr;
  for (const Named* tensor : in_order) {
    if (tensor->second.begin < end) {
      throw FormatError(fmt::format("{}: tensors {} and {} overlap", path, quote(previous->first),
                                    quote(tensor->first)));
    }
    if (tensor->second.begin > end) {
      throw FormatError(fmt::format("{}: the {} bytes before tensor {} belong to no tensor", path,
                                    tensor->second.begin - end, quote(tensor->first)));
    }
    end = tensor->second.end;
    previous = tensor;
  }
  const std::size_t data_size = file_size - header.data_begin;
  if (end > data_size) {
    throw FormatError(
        fmt::format("{}: tensor {} ends beyond the file: is the download complete? Expected {} "
                    "bytes, the file has {}",
                    path, quote(previous->first), header.data_begin + end, file_size));
  }
  if (end < data_size) {
    throw FormatError(
        fmt::format("{}: the last {} bytes belong to no tensor: expected {} bytes, "
                    "the file has {}",
                    path, data_size - end, header.data_begin + end, file_size));
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                           const std::string& path) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.starts_with("version https://git-lfs")) {
    throw FormatError(fmt::format(
        "{}: is a Git LFS pointer, not the file it points to; `git lfs pull` fetches that", path));
  }
  std::uint64_t length = 0;
  if (text.size() < sizeof(length)) {
    throw FormatError(
        fmt::format("{}: has {} bytes, too few for a safetensors file: is the download complete?",
                    path, text.size()));
  }
  std::memcpy(&length, text.data(), sizeof(length));
  if (length > kMostHeaderBytes) {
    throw FormatError(
        fmt::format("{}: claims a header of {} bytes, more than the {} that a safetensors file may "
                    "have: is it one?",
                    path, length, kMostHeaderBytes));
  }
  if (length > text.size() - sizeof(length)) {
    throw FormatError(
        fmt::format("{}: ends within its header: is the download complete? Expected "
                    "at least {} bytes, the file has {}",
                    path, sizeof(length) + length, text.size()));
  }
  const std::string_view header_text = text.substr(sizeof(length), length);
  if (!header_text.starts_with('{')) {
    throw FormatError(
        fmt::format("{}: its header is not a JSON object: is it a safetensors file?", path));
  }
  SafetensorsHeader header;
  header.data_begin = sizeof(length) + length;
  HeaderReader reader(path, header);
  json::sax_parse(header_text.begin(), header_text.end(), &reader);
  check_extents(header, file.size(), path);
  return header;
}

std::string_view safetensors_name(DType dtype) {
  return std::ranges::find(kTypes, std::optional(dtype), &FormatType::element)->name;
}

}  // namespace metal_candle
