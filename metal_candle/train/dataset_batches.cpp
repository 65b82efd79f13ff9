// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Batches: grouping by length, and orders that depend on a seed alone.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

#include "metal_candle/core/error.h"
#include "metal_candle/train/dataset.h"

namespace metal_candle {
namespace {

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the
// same on every machine, unlike the standard library's distributions.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t operator()() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  /// Below `bound`; the bias is less than bound / 2^64.
  std::uint64_t below(std::uint64_t bound) { return (*this)() % bound; }

 private:
  std::uint64_t state_;
};

template <typename T>
void shuffle(std::vector<T>& items, SplitMix64& random) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

// The number of inputs of a sequence, padded.
std::int64_t padded_length(const TokenSequence& sequence) {
  const auto inputs = static_cast<std::int64_t>(sequence.tokens.size()) - 1;
  return (inputs + kLengthBucket - 1) / kLengthBucket * kLengthBucket;
}

constexpr std::string_view kStatePrefix = "pass ";

}  // namespace

DatasetBatches::DatasetBatches(Dataset dataset, std::int64_t batch_size, Order order,
                               std::uint64_t seed)
    : dataset_(std::move(dataset)),
      batch_size_(static_cast<std::size_t>(std::max<std::int64_t>(batch_size, 0))),
      order_(order),
      seed_(seed) {
  if (batch_size < 1) throw Error(fmt::format("batch size {} is not positive", batch_size));
  if (order == Order::kTraining && dataset_.size() < batch_size_) {
    throw Error(
        fmt::format("{}: {} examples do not fill a batch of {}; lower the batch size to {} "
                    "or add examples",
                    dataset_.name(), dataset_.size(), batch_size_, dataset_.size()));
  }
  begin_pass();
}

void DatasetBatches::begin_pass() {
  next_ = 0;
  if (order_ == Order::kReading && !batches_.empty()) return;
  SplitMix64 random(seed_ ^ SplitMix64(pass_)());
  std::vector<std::size_t> sequences(dataset_.size());
  std::iota(sequences.begin(), sequences.end(), std::size_t{0});
  if (order_ == Order::kTraining) {
    shuffle(sequences, random);
    sequences.resize(sequences.size() / batch_size_ * batch_size_);
  }
  std::stable_sort(sequences.begin(), sequences.end(), [&](std::size_t a, std::size_t b) {
    return padded_length(dataset_.sequences()[a]) < padded_length(dataset_.sequences()[b]);
  });
  batches_.clear();
  for (std::size_t i = 0; i < sequences.size(); i += batch_size_) {
    const std::size_t end = std::min(i + batch_size_, sequences.size());
    batches_.emplace_back(sequences.begin() + static_cast<std::ptrdiff_t>(i),
                          sequences.begin() + static_cast<std::ptrdiff_t>(end));
  }
  if (order_ == Order::kTraining) shuffle(batches_, random);
}

TokenBatch DatasetBatches::make_batch(const std::vector<std::size_t>& members) const {
  std::int64_t length = 0;
  for (const std::size_t member : members)
    length = std::max(length, padded_length(dataset_.sequences()[member]));
  const std::size_t elements = members.size() * static_cast<std::size_t>(length);
  std::vector<std::int32_t> tokens(elements, 0);
  std::vector<std::int32_t> targets(elements, kIgnoredTarget);
  for (std::size_t row = 0; row < members.size(); ++row) {
    const TokenSequence& sequence = dataset_.sequences()[members[row]];
    const std::size_t start = row * static_cast<std::size_t>(length);
    for (std::size_t i = 0; i + 1 < sequence.tokens.size(); ++i) {
      tokens[start + i] = sequence.tokens[i];
      if (i + 1 >= sequence.first_target) targets[start + i] = sequence.tokens[i + 1];
    }
  }
  return make_token_batch(tokens, targets, static_cast<std::int64_t>(members.size()), length);
}

std::optional<TokenBatch> DatasetBatches::next() {
  if (next_ == batches_.size()) {
    ++pass_;
    begin_pass();
    return std::nullopt;
  }
  return make_batch(batches_[next_++]);
}

std::string DatasetBatches::state() const {
  return fmt::format("{}{} batch {}", kStatePrefix, pass_, next_);
}

void DatasetBatches::restore(const std::string& state) {
  const auto fail = [&] {
    throw FormatError(fmt::format("{}: \"{}\" is not a position in it", dataset_.name(), state));
  };
  std::uint64_t pass = 0;
  std::size_t batch = 0;
  const char* const end = state.data() + state.size();
  if (!state.starts_with(kStatePrefix)) fail();
  auto parsed = std::from_chars(state.data() + kStatePrefix.size(), end, pass);
  constexpr std::string_view kMiddle = " batch ";
  if (parsed.ec != std::errc() || !std::string_view(parsed.ptr, end).starts_with(kMiddle)) fail();
  parsed = std::from_chars(parsed.ptr + kMiddle.size(), end, batch);
  if (parsed.ec != std::errc() || parsed.ptr != end) fail();
  pass_ = pass;
  begin_pass();
  if (batch > batches_.size()) fail();
  next_ = batch;
}

std::optional<Shape> DatasetBatches::largest() const {
  std::int64_t length = 0;
  for (const TokenSequence& sequence : dataset_.sequences())
    length = std::max(length, padded_length(sequence));
  const std::size_t rows = std::min(batch_size_, dataset_.size());
  return Shape{static_cast<std::int64_t>(rows), length};
}

}  // namespace metal_candle
