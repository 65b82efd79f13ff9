// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See wave_encoder.h.
#include "metal_candle/backend/gpu/wave_encoder.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "metal_candle/backend/gpu/kernels/merged.h"

namespace metal_candle::backend::gpu {

void WaveEncoder::begin_step(std::uint32_t step) {
  step_ = step;
  round_ = 0;
  concurrent_ = false;
}

void WaveEncoder::clear() {
  pieces_.clear();
  arguments_.clear();
}

void WaveEncoder::add(Piece piece) {
  piece.step = step_;
  piece.round = round_;
  if (!concurrent_) ++round_;
  pieces_.push_back(piece);
}

void WaveEncoder::concurrently(bool begin) {
  if (concurrent_ && !begin) ++round_;
  concurrent_ = begin;
}

void WaveEncoder::zero(void* address, std::size_t bytes) {
  if (bytes == 0) return;
  Piece piece{};
  piece.address = address;
  piece.bytes = bytes;
  add(piece);
}

void WaveEncoder::matmul(const Matmul& product, const MatmulOperands& operands) {
  Piece piece{};
  piece.product = &product;
  piece.operands = operands;
  add(piece);
}

void WaveEncoder::dispatch_bytes(const Function& function, Grid grid, std::uint32_t threads,
                                 std::uint32_t dynamic_group_bytes, const void* arguments,
                                 std::size_t bytes) {
  Piece piece{};
  piece.function = &function;
  piece.grid = grid;
  piece.threads = threads;
  piece.dynamic_group_bytes = dynamic_group_bytes;
  piece.arguments = arguments_.size();
  piece.bytes = bytes;
  arguments_.resize(round_up(piece.arguments + bytes, 16));
  std::memcpy(arguments_.data() + piece.arguments, arguments, bytes);
  add(piece);
}

bool WaveEncoder::can_join(const Piece& a, const Piece& b) {
  return a.function == b.function && a.round == b.round && a.threads == b.threads &&
         a.dynamic_group_bytes == b.dynamic_group_bytes && b.grid.y == 1 && b.grid.z == 1 &&
         a.bytes == b.bytes;
}

void WaveEncoder::end_wave(WaveSink& sink) {
  passed_.assign(pieces_.size(), 0);
  std::uint32_t rounds = 0;
  for (const Piece& piece : pieces_) rounds = std::max(rounds, piece.round + 1);
  for (std::uint32_t round = 0; round < rounds; ++round) {
    bool begun = false;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      const Piece& piece = pieces_[i];
      if (passed_[i] != 0 || piece.round != round) continue;
      if (!begun) sink.begin_group();
      begun = true;
      group_.assign(1, static_cast<std::uint32_t>(i));
      if (piece.function != nullptr && piece.function->merged() != nullptr && piece.grid.y == 1 &&
          piece.grid.z == 1) {
        const std::size_t capacity = MC_MERGED_CAPACITY(static_cast<std::uint32_t>(piece.bytes));
        std::uint64_t groups = piece.grid.x;
        for (std::size_t j = i + 1; j < pieces_.size() && group_.size() < capacity; ++j) {
          if (passed_[j] != 0 || !can_join(piece, pieces_[j])) continue;
          groups += pieces_[j].grid.x;
          if (groups > std::numeric_limits<std::int32_t>::max()) break;
          group_.push_back(static_cast<std::uint32_t>(j));
        }
      }
      for (const std::uint32_t j : group_) passed_[j] = 1;
      pass_together(group_, sink);
    }
  }
  clear();
}

void WaveEncoder::pass_together(std::span<const std::uint32_t> pieces, WaveSink& sink) {
  steps_.clear();
  for (const std::uint32_t i : pieces) steps_.push_back(pieces_[i].step);
  const Piece& first = pieces_[pieces[0]];
  sink.next_serves(steps_, first.round == 0);
  if (pieces.size() == 1) return pass(first, sink);
  const std::uint32_t capacity = MC_MERGED_CAPACITY(static_cast<std::uint32_t>(first.bytes));
  const std::size_t header = (1 + std::size_t{capacity}) * sizeof(std::uint32_t);
  merged_.assign(header + capacity * first.bytes, std::byte{0});
  const auto put = [&](std::size_t at, std::uint32_t value) {
    std::memcpy(merged_.data() + at * sizeof(value), &value, sizeof(value));
  };
  put(0, static_cast<std::uint32_t>(pieces.size()));
  Grid grid{.x = 0};
  for (std::size_t n = 0; n < pieces.size(); ++n) {
    const Piece& piece = pieces_[pieces[n]];
    grid.x += piece.grid.x;
    put(1 + n, grid.x);
    std::memcpy(merged_.data() + header + n * piece.bytes, arguments_.data() + piece.arguments,
                piece.bytes);
  }
  sink.dispatch_bytes(*first.function->merged(), grid, first.threads, first.dynamic_group_bytes,
                      merged_.data(), merged_.size());
}

void WaveEncoder::pass(const Piece& piece, WaveSink& sink) const {
  if (piece.function != nullptr) {
    sink.dispatch_bytes(*piece.function, piece.grid, piece.threads, piece.dynamic_group_bytes,
                        arguments_.data() + piece.arguments, piece.bytes);
  } else if (piece.product != nullptr) {
    sink.matmul(*piece.product, piece.operands);
  } else {
    sink.zero(piece.address, piece.bytes);
  }
}

}  // namespace metal_candle::backend::gpu
