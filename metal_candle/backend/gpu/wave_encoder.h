// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Between the steps of a plan and a command buffer: gathers what the steps of a wave dispatch, and
// makes one dispatch of those that run the same function (kernels/merged.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "metal_candle/backend/gpu/gpu_device.h"

namespace metal_candle::backend::gpu {

/// Where a wave encoder puts work: an encoder that is told for whom it is.
class WaveSink : public Encoder {
 public:
  /// What follows, up to the next call, sees all that came before, and none of it needs another.
  virtual void begin_group() = 0;
  /// The next piece of work is for these steps, as begin_step() numbered them, each once; it is the
  /// first piece of as many of them as `begun` says, which come first.
  virtual void next_serves(std::span<const std::uint32_t> steps, std::size_t begun) = 0;
};

/// Pieces of work of one step stay in their order, each sees what those before it wrote. Pieces of
/// different steps of a wave are put in any order.
class WaveEncoder final : public Encoder {
 public:
  /// What is encoded from here on is for this step, which does not depend on others of its wave.
  void begin_step(std::uint32_t step);
  /// Passes everything on. To be called at the end of each wave, whose steps are all in it.
  void end_wave(WaveSink& sink);
  /// Forgets what has not been passed on.
  void clear();

  void concurrently(bool begin) override;
  void zero(void* address, std::size_t bytes) override;
  void matmul(const Matmul& product, const MatmulOperands& operands) override;
  void dispatch_bytes(const Function& function, Grid grid, std::uint32_t threads,
                      std::uint32_t dynamic_group_bytes, const void* arguments,
                      std::size_t bytes) override;

 private:
  struct Piece {
    std::uint32_t step;
    std::uint32_t round;  // How many pieces of the step it waits for.
    bool first;           // Of its step.
    const Function* function = nullptr;
    const Matmul* product = nullptr;  // Neither: zeros.
    Grid grid{};
    std::uint32_t threads = 0;
    std::uint32_t dynamic_group_bytes = 0;
    std::size_t arguments = 0;  // Where they begin.
    std::size_t bytes = 0;      // Of the arguments, or to be set to 0.
    void* address = nullptr;
    MatmulOperands operands{};
  };

  void add(Piece piece);
  void pass(const Piece& piece, WaveSink& sink) const;
  void pass_together(std::span<const std::uint32_t> pieces, WaveSink& sink);
  [[nodiscard]] std::vector<std::vector<std::uint32_t>> gather(
      std::span<const std::uint32_t> round) const;

  std::vector<Piece> pieces_;
  std::vector<std::byte> arguments_;
  std::uint32_t step_ = 0;
  std::uint32_t round_ = 0;
  std::uint32_t concurrent_end_ = 0;  // The round after all pieces that are concurrent.
  bool concurrent_ = false;
  bool first_ = true;
  // Kept for their memory.
  std::vector<std::uint32_t> order_;
  std::vector<std::uint32_t> steps_;
  std::vector<std::byte> merged_;
};

}  // namespace metal_candle::backend::gpu
