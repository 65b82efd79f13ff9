// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See element_program.h.
#include "metal_candle/backend/gpu/element_program.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "metal_candle/backend/elementwise.h"
#include "metal_candle/backend/gpu/divider.h"
#include "metal_candle/backend/gpu/element_code.h"
#include "metal_candle/backend/gpu/element_text.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::uint32_t kSlotBytes = kElementPacket * kElementThreads * sizeof(float);
constexpr std::uint32_t kSlots = kLeastGroupBytes / kSlotBytes;
static_assert(kSlots <= kElementConstantSlot);
static_assert(kElementConstantSlot + kElementConstants <= kElementPreviousSlot);

// kNoElementCode: not a type of values here.
ElementCode load_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kElementLoadF32;
    case DType::kF16:
      return kElementLoadF16;
    case DType::kBF16:
      return kElementLoadBF16;
    case DType::kBool:
      return kElementLoadBool;
    default:
      return kNoElementCode;
  }
}

// A value: the number of the step that gives it, or, negative, of a constant: ~number.
using Value = std::int32_t;

struct Step {
  ElementCode code;
  std::vector<Value> from;
  std::size_t operand = 0;  // Of a load.
};

// Steps of an operation, the last of which gives its result. Operands are loaded where they are
// first used, so that few values are alive at a time.
class Steps {
 public:
  Steps(const Operation& operation, const ElementwiseLoop& loop) {
    for (const ElementwiseLoop::Operand& operand : loop.operands) {
      dtypes_.push_back(operand.dtype);
      registers_.push_back(kNotLoaded);
    }
    if (const auto* fused = std::get_if<op::Elementwise>(&operation)) {
      const auto& instructions = fused->program->instructions;
      const std::vector<Contraction> contracted = contractions(*fused->program);
      for (std::size_t i = 0; i < instructions.size(); ++i) {
        if (contracted[i].is_swallowed) {
          registers_.push_back(kNotLoaded);  // Nobody asks for it.
          dtypes_.push_back(instructions[i].dtype);
          continue;
        }
        if (contracted[i].code != kNoElementCode) {
          add_contracted(contracted[i], instructions[i].dtype);
          continue;
        }
        add(instructions[i].operation, instructions[i].arguments, instructions[i].dtype,
            i + 1 == instructions.size());
      }
    } else {
      const std::array<std::int32_t, 3> all = {0, 1, 2};
      add(operation, std::span(all).first(loop.operands.size()), loop.output, true);
    }
    const Value result = registers_.back();
    if (result < 0 || result + 1 != static_cast<Value>(steps_.size())) {
      append({kElementMove, {result}});
    }
  }
  /// Whether there is a code for each.
  [[nodiscard]] bool complete() const { return complete_; }
  [[nodiscard]] const std::vector<Step>& steps() const { return steps_; }
  [[nodiscard]] const std::vector<float>& constants() const { return constants_; }

 private:
  static constexpr Value kNotLoaded = std::numeric_limits<Value>::max();

  Value append(Step step) {
    complete_ = complete_ && step.code != kNoElementCode;
    steps_.push_back(std::move(step));
    return static_cast<Value>(steps_.size()) - 1;
  }

  Value value_of(std::size_t r) {
    if (registers_[r] == kNotLoaded) registers_[r] = append({load_of(dtypes_[r]), {}, r});
    return registers_[r];
  }

  // As ElementText::add(): the store rounds the last value.
  void add(const Operation& operation, std::span<const std::int32_t> arguments, DType dtype,
           bool last) {
    complete_ = complete_ && load_of(dtype) != kNoElementCode;
    std::vector<Value> from;
    for (const std::int32_t r : arguments) from.push_back(value_of(static_cast<std::size_t>(r)));
    registers_.push_back(evaluate(operation, arguments, std::move(from), dtype, last));
    dtypes_.push_back(dtype);
  }

  void add_contracted(const Contraction& sum, DType dtype) {
    std::vector<Value> from;
    for (const std::int32_t r : sum.from) from.push_back(value_of(static_cast<std::size_t>(r)));
    registers_.push_back(append({sum.code, std::move(from)}));
    dtypes_.push_back(dtype);
  }

  Value evaluate(const Operation& operation, std::span<const std::int32_t> arguments,
                 std::vector<Value> from, DType dtype, bool last) {
    if (const auto* full = std::get_if<op::Full>(&operation)) {
      constants_.push_back(constant_of(full->value, dtype));
      return ~(static_cast<Value>(constants_.size()) - 1);
    }
    if (arguments.empty()) return append({kNoElementCode, {}});  // Arange.
    const DType first = dtypes_[static_cast<std::size_t>(arguments[0])];
    if (!std::holds_alternative<op::Cast>(operation)) {
      return append({element_code(operation, first), std::move(from)});
    }
    if (first == dtype) return from[0];
    if (dtype == DType::kBool) return append({kElementIsNotZero, std::move(from)});
    if (!last && is_half(dtype)) return append({rounding_to(dtype), std::move(from)});
    return from[0];
  }

  std::vector<Step> steps_;
  std::vector<DType> dtypes_;     // Of registers.
  std::vector<Value> registers_;  // Operands, then results.
  std::vector<float> constants_;
  bool complete_ = true;
};

// Gives slots to values for as long as somebody will ask for them, and writes the instructions.
// Returns how many slots that takes.
std::uint32_t assign_slots(const std::vector<Step>& steps, ElementInstruction* out) {
  std::vector<std::size_t> last_use(steps.size(), 0);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    for (const Value value : steps[i].from) {
      if (value >= 0) last_use[static_cast<std::size_t>(value)] = i;
    }
  }
  std::vector<std::size_t> holders;  // By slot: the step whose value it has.
  std::vector<std::uint8_t> slots(steps.size(), kElementNoSlot);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::array<std::uint8_t, 3> from;
    from.fill(kElementPreviousSlot);  // Costs least.
    for (std::size_t k = 0; k < steps[i].from.size(); ++k) {
      const Value value = steps[i].from[k];
      if (value < 0) {
        from[k] =
            static_cast<std::uint8_t>(kElementConstantSlot + static_cast<std::uint32_t>(~value));
      } else if (static_cast<std::size_t>(value) + 1 < i) {
        from[k] = slots[static_cast<std::size_t>(value)];
      }
    }
    if (last_use[i] > i + 1) {
      const auto is_free = [&](std::size_t holder) { return last_use[holder] <= i; };
      const auto free = std::find_if(holders.begin(), holders.end(), is_free);
      slots[i] = static_cast<std::uint8_t>(free - holders.begin());
      if (free == holders.end()) {
        holders.push_back(i);
      } else {
        *free = i;
      }
      if (holders.size() > kSlots) return kSlots + 1;
    }
    const bool loads = steps[i].code <= kElementLoadBool;
    out[i] = {static_cast<std::uint8_t>(steps[i].code), slots[i], from[0], from[1],
              loads ? static_cast<std::uint8_t>(steps[i].operand) : from[2]};
  }
  return static_cast<std::uint32_t>(holders.size());
}

void describe_operands(const ElementwiseLoop& loop, ElementProgramArguments& a) {
  a.count = static_cast<std::uint32_t>(loop.count);
  a.rank = static_cast<std::uint32_t>(loop.shape.rank());
  for (int axis = 0; axis < loop.shape.rank(); ++axis) {
    a.sizes[axis] = static_cast<std::uint32_t>(loop.shape[axis]);
    const Divider divider(a.sizes[axis]);
    a.magics[axis] = divider.magic;
    a.shifts[axis] = divider.shift;
  }
  const bool rows_of_packets = loop.shape.rank() == 1 || loop.shape.back() % kElementPacket == 0;
  for (std::size_t k = 0; k < loop.operands.size(); ++k) {
    const ElementwiseLoop::Operand& operand = loop.operands[k];
    for (int axis = 0; axis < loop.shape.rank(); ++axis) {
      a.operands[k].strides[axis] = static_cast<std::int32_t>(operand.strides[axis]);
    }
    a.operands[k].access = operand.access == PacketAccess::kScalar ? kElementsAreOne
                           : rows_of_packets                       ? kElementsInRow
                                                                   : kElementsAnywhere;
  }
}

}  // namespace

std::optional<ElementProgram> ElementProgram::make(const Operation& operation,
                                                   const ElementwiseLoop& loop) {
  if (loop.wide || loop.operands.size() > kElementOperands) return {};
  const Steps steps(operation, loop);
  if (!steps.complete() || steps.steps().size() > kElementInstructions ||
      steps.constants().size() > kElementConstants) {
    return {};
  }
  ElementProgram program;
  ElementProgramArguments& a = program.arguments_;
  const std::uint32_t slots = assign_slots(steps.steps(), a.program);
  if (slots > kSlots) return {};
  std::copy(steps.constants().begin(), steps.constants().end(), a.constants);
  a.length = static_cast<std::uint32_t>(steps.steps().size());
  a.store = load_of(loop.output);
  describe_operands(loop, a);
  program.group_bytes_ = slots * kSlotBytes;
  program.grid_ = {groups_for(loop.count, kElementPacket * kElementThreads)};
  return program;
}

void ElementProgram::encode(GpuDevice& device, std::span<const void* const> addresses,
                            Encoder& encoder) const {
  ElementProgramArguments arguments = arguments_;
  arguments.out = const_cast<void*>(addresses[0]);
  for (std::size_t k = 1; k < addresses.size(); ++k) arguments.operands[k - 1].data = addresses[k];
  encoder.dispatch(device.function("element_program"), grid_, kElementThreads, arguments,
                   group_bytes_);
}

}  // namespace metal_candle::backend::gpu
