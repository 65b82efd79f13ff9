// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See wave_encoder.h.
#include "metal_candle/backend/gpu/wave_encoder.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "metal_candle/backend/gpu/kernels/merged.h"

namespace metal_candle::backend::gpu {

void WaveEncoder::begin_step(std::uint32_t step) {
  step_ = step;
  round_ = 0;
  concurrent_ = false;
  first_ = true;
}

void WaveEncoder::clear() {
  pieces_.clear();
  arguments_.clear();
}

void WaveEncoder::add(Piece piece) {
  piece.step = step_;
  piece.first = std::exchange(first_, false);
  piece.round = round_;
  if (!concurrent_) ++round_;
  pieces_.push_back(piece);
}

void WaveEncoder::concurrently(bool begin) {
  if (begin) concurrent_end_ = round_ + 1;
  if (concurrent_ && !begin) round_ = concurrent_end_;
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
  // Dispatches of one product follow each other, whatever is concurrent to them.
  const bool concurrent = std::exchange(concurrent_, false);
  const std::uint32_t begin = round_;
  const bool encoded = product.encode(operands, *this);
  concurrent_ = concurrent;
  if (encoded) {
    if (concurrent) concurrent_end_ = std::max(concurrent_end_, std::exchange(round_, begin));
    return;
  }
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

void WaveEncoder::end_wave(WaveSink& sink) {
  if (pieces_.size() == 1) {  // As small evaluations are: nothing to sort or to gather.
    constexpr std::array<std::uint32_t, 1> kOnly{0};
    sink.begin_group();
    pass_together(kOnly, sink);
    clear();
    return;
  }
  // By round; within one in the order given.
  order_.resize(pieces_.size());
  std::iota(order_.begin(), order_.end(), 0u);
  std::stable_sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return pieces_[a].round < pieces_[b].round;
  });
  for (std::size_t begin = 0, end = 0; begin < order_.size(); begin = end) {
    const std::uint32_t round = pieces_[order_[begin]].round;
    while (end < order_.size() && pieces_[order_[end]].round == round) ++end;
    sink.begin_group();
    for (const std::vector<std::uint32_t>& together :
         gather(std::span(order_).subspan(begin, end - begin))) {
      pass_together(together, sink);
    }
  }
  clear();
}

// Those of a round that go as one.
std::vector<std::vector<std::uint32_t>> WaveEncoder::gather(
    std::span<const std::uint32_t> round) const {
  using Key = std::tuple<const Function*, std::uint32_t, std::uint32_t, std::size_t>;
  struct Open {
    std::size_t group;
    std::uint64_t grid;
  };
  std::map<Key, Open> open;  // Where there is room for more.
  std::vector<std::vector<std::uint32_t>> groups;
  for (const std::uint32_t i : round) {
    const Piece& piece = pieces_[i];
    if (round.size() == 1 || piece.function == nullptr || piece.grid.y != 1 || piece.grid.z != 1) {
      groups.push_back({i});
      continue;
    }
    const std::size_t capacity = MC_MERGED_CAPACITY(static_cast<std::uint32_t>(piece.bytes));
    const auto [it, is_new] = open.try_emplace(
        {piece.function, piece.threads, piece.dynamic_group_bytes, piece.bytes}, Open{0, 0});
    Open& mine = it->second;
    // Of one alone nobody asks whether it could be merged: that may make a compiler work.
    if (is_new || groups[mine.group].size() == capacity ||
        mine.grid + piece.grid.x > std::numeric_limits<std::int32_t>::max() ||
        piece.function->merged() == nullptr) {
      mine = {groups.size(), 0};
      groups.emplace_back();
    }
    groups[mine.group].push_back(i);
    mine.grid += piece.grid.x;
  }
  return groups;
}

void WaveEncoder::pass_together(std::span<const std::uint32_t> pieces, WaveSink& sink) {
  steps_.clear();
  for (const std::uint32_t i : pieces) {
    if (pieces_[i].first) steps_.push_back(pieces_[i].step);
  }
  const std::size_t begun = steps_.size();
  // Pieces of one step follow each other.
  for (std::size_t n = 0; n < pieces.size(); ++n) {
    const Piece& piece = pieces_[pieces[n]];
    if (piece.first || (n > 0 && pieces_[pieces[n - 1]].step == piece.step)) continue;
    steps_.push_back(piece.step);
  }
  const Piece& first = pieces_[pieces[0]];
  sink.next_serves(steps_, begun);
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
