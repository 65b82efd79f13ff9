// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise operations compiled to a list of steps over cache-sized tiles. A tile is a run of
// output elements; each step is one call of a loop over it, so the cost of interpreting is a few
// nanoseconds a step and tile.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "metal_candle/backend/cpu/elementwise_steps.h"
#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::cpu {

/// How a tile of an operand is come by.
enum class OperandAccess : std::uint8_t {
  kDirect,    // Read where it lies.
  kGathered,  // Copied to a slot of the scratch for each tile.
  kConstant,  // One element, repeated in a slot before the first tile.
};

/// Immutable after construction. Values of f16 and bf16 are rounded after each operation, so a
/// program gives what its operations give one by one, to the bit.
class TileProgram {
 public:
  /// Throws DTypeError when a dtype does not have an operation.
  TileProgram(const Operation& operation, std::span<const DType> inputs,
              std::span<const OperandAccess> access, DType output);

  /// Elements in a full tile: as many as let the slots stay in the first-level cache.
  [[nodiscard]] std::int64_t tile_elements() const { return tile_elements_; }
  /// Scratch that one thread needs, 64-byte aligned.
  [[nodiscard]] std::size_t scratch_bytes() const { return scratch_bytes_; }
  /// Rough work an element: 1 for an addition.
  [[nodiscard]] std::int64_t cost() const { return cost_; }

  /// The registers of one thread: an address for each value.
  class Frame {
   public:
    Frame(const TileProgram& program, std::byte* scratch);
    /// Makes operand i the slot it is gathered to or repeated in, and returns that.
    std::byte* use_slot(int operand) const {
      return registers_[operand] = program_.slot_address(operand, scratch_);
    }
    /// Makes operand i the array at `address`.
    void use_address(int operand, const void* address) const {
      // Steps never write to operands.
      registers_[operand] = static_cast<std::byte*>(const_cast<void*>(address));
    }
    /// Computes what does not vary from tile to tile. After constant operands are in their slots.
    void prepare(std::size_t count) const;
    /// Computes one tile of `count` elements at `out`; past the caches if `stream`.
    void run(void* out, std::size_t count, bool stream) const;

   private:
    const TileProgram& program_;
    std::byte* scratch_;
    std::byte** registers_;
  };

 private:
  struct Step {
    StepFn fn;  // Null if it is a chain.
    std::array<std::int32_t, 3> in;
    std::int32_t out;
    // What it is as a part of a chain: working on its first operand, or on its second; or the
    // dtype in memory that it widens from, or narrows to.
    Link first = Link::kNone, second = Link::kNone;
    DType widens = DType::kF32, narrows = DType::kF32;
    std::int32_t chain = -1;

    [[nodiscard]] bool is_widening() const { return widens != DType::kF32; }
    [[nodiscard]] bool is_narrowing() const { return narrows != DType::kF32; }
  };
  struct ChainLink {
    Link link;
    DType dtype = DType::kF32;  // Of the operand in memory.
    std::int32_t operand = -1;
  };
  struct Chain {
    DType in_dtype = DType::kF32, out_dtype = DType::kF32;
    std::vector<ChainLink> links;
  };
  struct Register {
    std::size_t bytes = 0;  // Of an element.
    bool constant = false;
    std::int32_t slot = -1;
  };
  struct Constant {
    std::int32_t out;
    std::array<std::byte, 8> value;
  };
  class Builder;

  void call(const Step& step, std::byte* const* registers, void* out, std::size_t count,
            bool stream = false) const;
  void join_steps();
  /// Calls fn with each register that the step reads; it may come twice.
  template <typename Fn>
  void for_each_input(const Step& step, Fn fn) const;
  /// Null for a register without a slot.
  [[nodiscard]] std::byte* slot_address(std::int32_t reg, std::byte* scratch) const;
  void place_registers(std::size_t num_operands, std::span<const OperandAccess> access);

  std::vector<Register> registers_;
  std::vector<Constant> constants_;
  std::vector<Step> invariant_;  // Steps whose operands are all constant.
  std::vector<Step> steps_;      // The last one gives the output.
  std::vector<Chain> chains_;
  std::vector<std::size_t> slots_;         // Bytes of an element of each slot.
  std::vector<std::size_t> slot_offsets_;  // In the scratch, after the registers.
  std::size_t scratch_bytes_ = 0;
  std::size_t output_bytes_ = 0;  // Of an element.
  std::int64_t tile_elements_ = 0;
  std::int64_t cost_ = 0;
};

}  // namespace metal_candle::backend::cpu
