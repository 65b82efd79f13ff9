// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Training data as token ids, and batches of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "metal_candle/io/chat_tokenizer.h"
#include "metal_candle/train/batch.h"

namespace metal_candle {

/// A sequence to train on: what follows tokens[i] is a target from i + 1 = first_target on.
struct TokenSequence {
  std::vector<std::int32_t> tokens;
  std::size_t first_target = 1;

  [[nodiscard]] std::size_t num_targets() const {
    return tokens.size() > first_target ? tokens.size() - first_target : 0;
  }
};

struct DatasetOptions {
  std::int64_t max_seq_length = 2048;  // Longer sequences are cut.
  bool mask_prompt = false;            // Only the completion, or the last message, is learned.
};

/// The examples of one file, encoded. Immutable; copies share the sequences; thread safe.
///
/// As in mlx-lm: a text gets an end-of-sequence token; a prompt and its completion become a user's
/// and an assistant's message of the tokenizer's chat template. Where there is no template, they
/// are put together as they are, with an end-of-sequence token.
class Dataset {
 public:
  /// Reads and encodes a .jsonl file (see read_examples()). Throws what that throws; FormatError
  /// naming file and line when the chat template refuses an example, when mask_prompt is asked of
  /// texts, which have no prompt, and when no example is left that has a target.
  static Dataset load(const std::string& path, const ChatTokenizer& tokenizer,
                      const DatasetOptions& options = {});
  /// From sequences made elsewhere. `name` is for error messages.
  static Dataset of(std::vector<TokenSequence> sequences, std::string name,
                    const DatasetOptions& options = {});

  [[nodiscard]] const std::vector<TokenSequence>& sequences() const { return contents_->sequences; }
  [[nodiscard]] std::size_t size() const { return contents_->sequences.size(); }
  [[nodiscard]] const std::string& name() const { return contents_->name; }
  [[nodiscard]] std::int64_t num_tokens() const { return contents_->num_tokens; }
  [[nodiscard]] std::int64_t num_targets() const { return contents_->num_targets; }
  [[nodiscard]] std::size_t longest() const { return contents_->longest; }
  /// How many sequences were cut at max_seq_length.
  [[nodiscard]] std::size_t truncated() const { return contents_->truncated; }
  /// How many were left out because they had no target (within max_seq_length).
  [[nodiscard]] std::size_t dropped() const { return contents_->dropped; }
  /// 64 bits of a digest of all tokens: two runs on the same data have the same.
  [[nodiscard]] std::uint64_t fingerprint() const { return contents_->fingerprint; }

 private:
  struct Contents {
    std::string name;
    std::vector<TokenSequence> sequences;
    std::int64_t num_tokens = 0, num_targets = 0;
    std::size_t longest = 0, truncated = 0, dropped = 0;
    std::uint64_t fingerprint = 0;
  };
  explicit Dataset(std::shared_ptr<const Contents> contents) : contents_(std::move(contents)) {}

  std::shared_ptr<const Contents> contents_;
};

/// Lengths of batches are multiples of this, so that few plans serve all of them.
inline constexpr std::int64_t kLengthBucket = 32;

/// Batches of a dataset. Sequences of about the same length are put together and padded on the
/// right.
///
/// In training order, each pass draws another order from (seed, pass): sequences are shuffled,
/// those that do not fill a last batch are left out of this pass, and the batches are shuffled. In
/// reading order, every sequence is there once, the last batch may be smaller, and every pass is
/// the same.
class DatasetBatches final : public BatchSource {
 public:
  enum class Order : std::uint8_t { kTraining, kReading };

  /// Throws Error, naming the dataset, both numbers and what to change, when kTraining is asked for
  /// with fewer sequences than batch_size.
  DatasetBatches(Dataset dataset, std::int64_t batch_size, Order order, std::uint64_t seed = 0);

  [[nodiscard]] std::optional<TokenBatch> next() override;
  [[nodiscard]] std::string state() const override;
  void restore(const std::string& state) override;
  [[nodiscard]] std::optional<Shape> largest() const override;

  [[nodiscard]] std::size_t batches_per_pass() const { return batches_.size(); }

 private:
  void begin_pass();
  [[nodiscard]] TokenBatch make_batch(const std::vector<std::size_t>& members) const;

  Dataset dataset_;
  std::size_t batch_size_;
  Order order_;
  std::uint64_t seed_;
  std::uint64_t pass_ = 0;
  std::size_t next_ = 0;                           // In batches_.
  std::vector<std::vector<std::size_t>> batches_;  // Of this pass: numbers of sequences.
};

}  // namespace metal_candle
