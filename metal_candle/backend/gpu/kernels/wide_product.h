// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Products of large matrices of 16-bit elements, with something of one's own done to the results:
// eight warps multiply panels of 128 rows and 224 or 256 columns while the device copies what comes
// next, and while it multiplies a panel they finish the one before. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"

#if defined(MC_HAS_WIDE_PRODUCTS)

constexpr MC_CONSTANT int kPanelInner = 64;  // Of a step along the inner axis.
constexpr MC_CONSTANT int kPanelStages = 3;
constexpr MC_CONSTANT int kPanelBlock = 64 * 64;          // Elements.
constexpr MC_CONSTANT int kPanelStage = 6 * kPanelBlock;  // Two blocks of a, four of b.
constexpr MC_CONSTANT int kPanelRow = 256;                // Elements of a row of results.
constexpr MC_CONSTANT int kPanelResults = kWideProductRows * kPanelRow;
constexpr MC_CONSTANT int kPanelChunks = 16;  // In which results are finished: 8 rows each.
constexpr MC_CONSTANT int kPanelWorkers = 256;
constexpr MC_CONSTANT int kPanelRing = 2 * 2 * kPanelWorkers * 8;  // Elements: two chunks of two.
static_assert(1024 + 2 * (kPanelStages * kPanelStage + kPanelResults + kPanelRing) +
                  8 * (2 * kPanelStages + 1) <=
              kWideProductBytes);

template <typename T>
struct PanelMemory {
  MC_GROUP T* stages;
  MC_GROUP T* results;
  MC_GROUP T* ring;
  MC_GROUP Signal* full;   // A stage is there,
  MC_GROUP Signal* empty;  // and has been used, in all groups of the pair.
  MC_GROUP Signal* turn;   // All workers have come so far.

  MC_FUNCTION explicit PanelMemory(MC_GROUP char* memory) {
    memory += -reinterpret_cast<uint64_t>(memory) & 1023;
    stages = reinterpret_cast<MC_GROUP T*>(memory);
    results = stages + kPanelStages * kPanelStage;
    ring = results + kPanelResults;
    full = reinterpret_cast<MC_GROUP Signal*>(ring + kPanelRing);
    empty = full + kPanelStages;
    turn = empty + kPanelStages;
  }
};

// Which panels a group has: those of its pair, of which the pair's groups have neighbouring rows.
struct Panels {
  int32_t m, n, columns;  // Of a panel.
  int32_t across, count;
  int32_t rank, first, step;

  MC_FUNCTION Panels(int32_t rows_in_all, int32_t columns_in_all, int32_t columns_of_one,
                     Thread self)
      : m(rows_in_all), n(columns_in_all), columns(columns_of_one) {
    const int32_t rows = kWideProductRows * int32_t(kPair);
    across = (n + columns - 1) / columns;
    count = (m + rows - 1) / rows * across;
    rank = int32_t(self.group % kPair);
    first = int32_t(self.group / kPair);
    step = int32_t(self.groups / kPair);
  }
  MC_FUNCTION int32_t row(int32_t panel) const {
    return (panel / across * int32_t(kPair) + rank) * kWideProductRows;
  }
  MC_FUNCTION int32_t column(int32_t panel) const { return panel % across * columns; }
};

// A place along the inner axes of all terms.
struct ProductPlace {
  int32_t term, k;

  MC_FUNCTION void advance(MC_CONSTANT ProductTerm* terms) {
    k += kPanelInner;
    if (k < terms[term].k) return;
    k = 0;
    ++term;
  }
};

struct PanelStage {
  int32_t index;
  uint32_t phase;

  MC_FUNCTION void advance() {
    if (++index < kPanelStages) return;
    index = 0;
    phase ^= 1;
  }
};

// By one thread: everything that its group multiplies, a stage after the other. The groups of a
// pair share the columns, of which each copies its part for all.
template <typename T>
MC_FUNCTION void copy_panels(MC_CONSTANT ProductTerm* terms, int32_t steps, Panels panels,
                             PanelMemory<T> memory) {
  const int32_t half = panels.columns / 2;
  PanelStage stage = {0, 1};
  for (int32_t panel = panels.first; panel < panels.count; panel += panels.step) {
    const int32_t row = panels.row(panel), column = panels.column(panel);
    ProductPlace place = {0, 0};
    for (int32_t step = 0; step < steps; ++step) {
      MC_CONSTANT ProductTerm& term = terms[place.term];
      MC_GROUP Signal* const full = memory.full + stage.index;
      MC_GROUP T* const to = memory.stages + stage.index * kPanelStage;
      MC_GROUP T* const b = to + 2 * kPanelBlock;
      signal_wait(memory.empty + stage.index, stage.phase);
      const int32_t b_elements = term.by_rows != 0 ? panels.columns * kPanelInner : 4 * kPanelBlock;
      signal_expect(full, uint32_t(2 * (2 * kPanelBlock + b_elements)));
      copy_tile(to, term.a, place.k, row, full);
      for (int32_t part = panels.rank; part < 2; part += int32_t(kPair)) {
        if (term.by_rows != 0) {
          copy_tile_pair(b + part * half * kPanelInner, term.b, place.k, column + part * half,
                         full);
        } else {
          for (int32_t block = 2 * part; block < 2 * part + 2; ++block) {
            copy_tile_pair(b + block * kPanelBlock, term.b, column + 64 * block, place.k, full);
          }
        }
      }
      stage.advance();
      place.advance(terms);
    }
  }
}

// A worker's part of the results: 8 columns of a row of each chunk.
template <typename T, typename Finish>
struct PanelFinisher {
  Finish finish;
  PanelMemory<T> memory;
  Panels panels;
  int32_t panel;  // -1 while there is none.
  int32_t index;  // Of the thread.

  MC_FUNCTION bool find(int32_t chunk, MC_THREAD int32_t& row, MC_THREAD int32_t& column) const {
    const int32_t left = index % 32 * 8;
    row = panels.row(panel) + chunk * 8 + index / 32;
    column = panels.column(panel) + left;
    return left < panels.columns && row < panels.m && column < panels.n;
  }
  MC_FUNCTION MC_GROUP T* ring(int32_t chunk) const {
    return memory.ring + chunk % 2 * (kPanelRing / 2) + index * 8;
  }
  MC_FUNCTION void start(int32_t chunk) const {
    int32_t row, column;
    if (chunk < kPanelChunks && find(chunk, row, column)) {
      finish.start(ring(chunk), row, column);
    }
    copy_commit();
  }
  MC_FUNCTION void begin(int32_t next) {
    panel = next;
    start(0);
    start(1);
  }
  MC_FUNCTION void run(int32_t chunk) const {
    copy_wait<1>();
    int32_t row, column;
    if (find(chunk, row, column)) {
      const int32_t line = chunk * 8 + index / 32;
      const MC_GROUP T* const at =
          memory.results + line * kPanelRow + ((index % 32) ^ (line % 8)) * 8;
      finish.run(*reinterpret_cast<const MC_GROUP Packet<T, 8>*>(at), ring(chunk), row, column);
    }
    start(chunk + 2);
  }
};

// Where a worker is.
struct PanelProgress {
  PanelStage stage;
  int32_t step;    // Of the panel.
  int32_t before;  // The stage of the step before.
};

// Steps up to `end`, whose right operands lie in one way: a product that one of two instructions
// may do would wait for itself.
template <typename T, bool kByRows, int kTiles, typename Finish>
MC_FUNCTION void multiply_steps(MC_THREAD TileSums (&sums)[kTiles],
                                MC_THREAD PanelProgress& progress, int32_t end,
                                const MC_THREAD PanelFinisher<T, Finish>& finisher, Thread self) {
  const int32_t team = int32_t(self.warp) / 4;  // Of 64 rows.
  const bool leads = self.index % 128 == 0;
  Thread mate = self;
  mate.warp %= 4;
  for (; progress.step < end; ++progress.step) {
    const int32_t step = progress.step, index = progress.stage.index;
    signal_wait(finisher.memory.full + index, progress.stage.phase);
    const MC_GROUP T* const a = finisher.memory.stages + index * kPanelStage;
    const MC_GROUP T* const b = a + 2 * kPanelBlock;
    wide_begin();
    multiply_panel<T, kByRows>(sums, a + team * kPanelBlock, b, step > 0, mate);
    wide_commit();
    if (step > 0) {
      wide_wait<1>();
      if (leads) signal_arrive_pair(finisher.memory.empty + progress.before);
    }
    progress.before = index;
    progress.stage.advance();
    if (finisher.panel >= 0 && step < kPanelChunks) finisher.run(step);
  }
}

template <typename T, int kColumns, typename Finish>
MC_FUNCTION void multiply_panels(int32_t steps_by_columns, int32_t steps, Panels panels,
                                 PanelMemory<T> memory, Finish finish, Thread self) {
  constexpr int kTiles = kColumns / 8;
  const int32_t row = int32_t(self.warp) * 16 + int32_t(self.lane) % 16;
  const bool leads = self.index % 128 == 0;
  PanelFinisher<T, Finish> finisher = {finish, memory, panels, -1, int32_t(self.index)};
  PanelProgress progress = {{0, 0}, 0, 0};
  TileSums sums[kTiles];
  for (int32_t panel = panels.first; panel < panels.count; panel += panels.step) {
    progress.step = 0;
    multiply_steps<T, false>(sums, progress, steps_by_columns, finisher, self);
    multiply_steps<T, true>(sums, progress, steps, finisher, self);
    for (int32_t chunk = steps; finisher.panel >= 0 && chunk < kPanelChunks; ++chunk) {
      finisher.run(chunk);
    }
    wide_wait<0>();
    wide_settle(sums);
    if (leads) signal_arrive_pair(memory.empty + progress.before);
    // Nobody needs the results of the panel before any more.
    signal_arrive(memory.turn);
    signal_wait(memory.turn, 0);
    MC_GROUP T* const to = memory.results + row * kPanelRow;
    MC_UNROLL
    for (int i = 0; i < kTiles; i += 2) {
      Tiles4 tiles;
      MC_UNROLL
      for (int t = 0; t < 4; ++t) {
        const MC_THREAD TileSums& from = sums[i + t / 2];
        tiles.at[t] = pack_tile<T>(from.at[t % 2 * 2], from.at[t % 2 * 2 + 1]);
      }
      store_tiles(to + ((i + int32_t(self.lane) / 16) ^ (row % 8)) * 8, tiles, self);
    }
    finisher.begin(panel);
    signal_arrive(memory.turn);
    signal_wait(memory.turn, 1);
  }
  for (int32_t chunk = 0; finisher.panel >= 0 && chunk < kPanelChunks; ++chunk) {
    finisher.run(chunk);
  }
}

// [m, n] of the sum of the terms' products, to `finish`, which is given each packet of eight
// elements once, rounded:
//   void start(MC_GROUP T* ring, int32_t row, int32_t column) const
//     begins copies to two packets, one at ring and one kPanelRing / 4 elements on
//   void run(Packet<T, 8> packet, MC_GROUP const T* ring, int32_t row, int32_t column) const
template <typename T, int kColumns, typename Finish>
MC_FUNCTION void wide_product(MC_CONSTANT ProductTerm* terms, MC_CONSTANT WideProductShape& shape,
                              Finish finish, MC_GROUP char* group_memory, Thread self) {
  const PanelMemory<T> memory(group_memory);
  const Panels panels(shape.m, shape.n, kColumns, self);
  if (self.index == 0) {
    for (int stage = 0; stage < kPanelStages; ++stage) {
      signal_init(memory.full + stage, 1);
      signal_init(memory.empty + stage, 2 * kPair);
    }
    signal_init(memory.turn, kPanelWorkers);
    signals_publish();
  }
  pair_barrier();
  if (self.index >= kPanelWorkers) {
    leave_registers<24>();
    if (self.index == kPanelWorkers) copy_panels<T>(terms, shape.steps, panels, memory);
  } else {
    take_registers<240>();
    multiply_panels<T, kColumns>(shape.steps_by_columns, shape.steps, panels, memory, finish, self);
  }
  pair_barrier();  // A group's memory is there as long as its neighbour copies to it.
}

#endif  // defined(MC_HAS_WIDE_PRODUCTS)
