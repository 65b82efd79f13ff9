// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Compiles elementwise operations to steps, places their values in slots, and runs them.
#include "metal_candle/backend/cpu/elementwise_program.h"

#include <fmt/format.h>

#include <algorithm>

#include "metal_candle/backend/tuning.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

// Slots of all live values together; half of a common first-level data cache, as operands and
// results pass through it too.
constexpr std::int64_t kTileBytes = 16 * 1024;
constexpr std::int64_t kMinTileElements = 256;
constexpr std::int64_t kMaxTileElements = 4096;
// Slots and the register file begin at multiples of this.
constexpr std::size_t kAlignment = 64;

constexpr std::size_t align_up(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool is_half(DType dtype) { return dtype == DType::kF16 || dtype == DType::kBF16; }
/// What a value of dtype is computed in.
DType compute_dtype(DType dtype) { return is_half(dtype) ? DType::kF32 : dtype; }

// In units of an addition: measured to within a factor of two, which is enough to choose how much
// work is worth a thread.
std::int64_t cost_of(const Operation& operation) {
  if (const auto* unary = std::get_if<op::Unary>(&operation)) {
    switch (unary->kind) {
      case UnaryKind::kAsin:
      case UnaryKind::kAcos:
      case UnaryKind::kAtan:
      case UnaryKind::kSinh:
      case UnaryKind::kCosh:
      case UnaryKind::kAsinh:
      case UnaryKind::kAcosh:
      case UnaryKind::kAtanh:
        return 30;
      case UnaryKind::kSin:
      case UnaryKind::kCos:
      case UnaryKind::kTan:
      case UnaryKind::kErfInv:
        return 10;
      case UnaryKind::kAbs:
      case UnaryKind::kNegative:
      case UnaryKind::kSquare:
      case UnaryKind::kRelu:
        return 1;
      default:
        return unary->kind >= UnaryKind::kExp && unary->kind <= UnaryKind::kSilu ? 4 : 1;
    }
  }
  if (const auto* binary = std::get_if<op::Binary>(&operation)) {
    switch (binary->kind) {
      case BinaryKind::kPower:
      case BinaryKind::kAtan2:
      case BinaryKind::kHypot:
      case BinaryKind::kRemainder:
        return 30;
      case BinaryKind::kLogAddExp:
      case BinaryKind::kFloorDivide:
        return 10;
      default:
        return 1;
    }
  }
  return std::holds_alternative<op::SwiGlu>(operation) ? 4 : 1;
}

}  // namespace

/// Emits steps in order. A value is a register that holds it as compute_dtype().
class TileProgram::Builder {
 public:
  Builder(TileProgram& program, std::span<const DType> inputs,
          std::span<const OperandAccess> access)
      : program_(program), float_(float_steps()) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      add_register(size_of(inputs[i]), access[i] == OperandAccess::kConstant);
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const auto operand = static_cast<std::int32_t>(i);
      std::int32_t value = operand;
      if (is_half(inputs[i])) {
        const StepFn widen = inputs[i] == DType::kF16 ? float_.from_f16 : float_.from_bf16;
        value = emit(widen, {operand}, sizeof(float));
      }
      values_.push_back({value, inputs[i]});
    }
  }

  /// `rounded`: f16 and bf16 results have to be representable; the store does that for the last.
  void add(const Operation& operation, std::span<const std::int32_t> arguments, DType dtype,
           bool rounded) {
    std::int32_t value = emit_operation(operation, arguments, dtype);
    program_.cost_ += cost_of(operation);
    if (rounded && is_half(dtype) && !is_exact(operation) && value != arguments_register_) {
      value = round(value, dtype);
    }
    values_.push_back({value, dtype});
  }

  /// Makes the last value the program's output.
  void finish(DType dtype) {
    const auto [value, value_dtype] = values_.back();
    if (is_half(dtype)) {
      emit(dtype == DType::kF16 ? float_.to_f16 : float_.to_bf16, {value}, size_of(dtype), false);
    } else if (program_.steps_.empty() || program_.steps_.back().out != value) {
      // An operand or a constant as it is.
      emit(cast_step(dtype, dtype), {value}, size_of(dtype), false);
    }
    program_.output_bytes_ = size_of(dtype);
  }

 private:
  struct Value {
    std::int32_t reg;
    DType dtype;
  };

  std::int32_t add_register(std::size_t bytes, bool constant) {
    program_.registers_.push_back({bytes, constant, -1});
    return static_cast<std::int32_t>(program_.registers_.size() - 1);
  }

  std::int32_t emit(StepFn fn, std::initializer_list<std::int32_t> in, std::size_t bytes,
                    bool may_hoist = true) {
    const bool constant = may_hoist && std::all_of(in.begin(), in.end(), [&](std::int32_t r) {
                            return program_.registers_[static_cast<std::size_t>(r)].constant;
                          });
    Step step{fn, {-1, -1, -1}, add_register(bytes, constant)};
    std::copy(in.begin(), in.end(), step.in.begin());
    (constant ? program_.invariant_ : program_.steps_).push_back(step);
    return step.out;
  }

  std::int32_t round(std::int32_t value, DType dtype) {
    return emit(dtype == DType::kF16 ? float_.round_f16 : float_.round_bf16, {value},
                sizeof(float));
  }

  std::int32_t emit_operation(const Operation& operation, std::span<const std::int32_t> arguments,
                              DType dtype) {
    arguments_register_ = -1;
    const auto argument = [&](std::size_t i) {
      return values_[static_cast<std::size_t>(arguments[i])];
    };
    const std::size_t bytes = size_of(compute_dtype(dtype));
    if (const auto* full = std::get_if<op::Full>(&operation)) return constant(full->value, dtype);
    if (std::holds_alternative<op::Cast>(operation)) return cast(argument(0), dtype);
    if (const auto* unary = std::get_if<op::Unary>(&operation)) {
      const StepFn fn = is_floating(argument(0).dtype)
                            ? float_.unary[static_cast<std::size_t>(unary->kind)]
                            : integer_unary(unary->kind, argument(0).dtype);
      return emit(check(fn, operation, argument(0).dtype), {argument(0).reg}, bytes);
    }
    if (const auto* binary = std::get_if<op::Binary>(&operation)) {
      const StepFn fn = is_floating(argument(0).dtype)
                            ? float_.binary[static_cast<std::size_t>(binary->kind)]
                            : integer_binary(binary->kind, argument(0).dtype);
      return emit(check(fn, operation, argument(0).dtype), {argument(0).reg, argument(1).reg},
                  bytes);
    }
    if (std::holds_alternative<op::Select>(operation)) {
      return emit(bytes == 4 ? float_.select : select_step(bytes),
                  {argument(0).reg, argument(1).reg, argument(2).reg}, bytes);
    }
    if (std::holds_alternative<op::SwiGlu>(operation)) {
      return emit(check(is_floating(dtype) ? float_.swiglu : nullptr, operation, dtype),
                  {argument(0).reg, argument(1).reg}, bytes);
    }
    throw DTypeError(fmt::format("{} cannot be part of an elementwise program", name(operation)));
  }

  std::int32_t constant(const Scalar& scalar, DType dtype) {
    Constant c{add_register(size_of(compute_dtype(dtype)), true), {}};
    store_scalar(scalar, compute_dtype(dtype), c.value.data());
    program_.constants_.push_back(c);
    return c.out;
  }

  std::int32_t cast(Value from, DType to) {
    if (compute_dtype(from.dtype) != compute_dtype(to)) {
      return emit(cast_step(compute_dtype(from.dtype), compute_dtype(to)), {from.reg},
                  size_of(compute_dtype(to)));
    }
    // The same register; it only has to be rounded if it may hold what `to` cannot.
    if (from.dtype == to || to == DType::kF32) arguments_register_ = from.reg;
    return from.reg;
  }

  static StepFn check(StepFn fn, const Operation& operation, DType dtype) {
    if (fn == nullptr) {
      throw DTypeError(fmt::format("{} is not defined for {}", name(operation), name(dtype)));
    }
    return fn;
  }

  TileProgram& program_;
  const FloatSteps& float_;
  std::vector<Value> values_;
  // The argument that the operation just emitted returned unchanged, or -1.
  std::int32_t arguments_register_ = -1;
};

TileProgram::TileProgram(const Operation& operation, std::span<const DType> inputs,
                         std::span<const OperandAccess> access, DType output) {
  Builder builder(*this, inputs, access);
  if (const auto* fused = std::get_if<op::Elementwise>(&operation)) {
    const auto& instructions = fused->program->instructions;
    for (std::size_t i = 0; i < instructions.size(); ++i) {
      builder.add(instructions[i].operation, instructions[i].arguments, instructions[i].dtype,
                  i + 1 < instructions.size());
    }
  } else {
    constexpr std::array<std::int32_t, 3> kArguments = {0, 1, 2};
    builder.add(operation, kArguments, output, false);
  }
  builder.finish(output);
  place_registers(inputs.size(), access);
}

// Values that live until the end: operands and constants. The others share slots, each from the
// step that makes it to the last that reads it.
void TileProgram::place_registers(std::size_t num_operands, std::span<const OperandAccess> access) {
  const auto new_slot = [&](std::size_t bytes) {
    slots_.push_back(bytes);
    return static_cast<std::int32_t>(slots_.size() - 1);
  };
  for (std::size_t i = 0; i < registers_.size(); ++i) {
    const bool gathered = i < num_operands && access[i] == OperandAccess::kGathered;
    if (registers_[i].constant || gathered) registers_[i].slot = new_slot(registers_[i].bytes);
  }
  std::vector<std::size_t> last_use(registers_.size(), 0);
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    for (const std::int32_t r : steps_[s].in) {
      if (r >= 0) last_use[static_cast<std::size_t>(r)] = s;
    }
  }
  std::vector<std::int32_t> free_slots;
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    Register& out = registers_[static_cast<std::size_t>(steps_[s].out)];
    const auto reusable = std::find_if(free_slots.begin(), free_slots.end(), [&](std::int32_t f) {
      return slots_[static_cast<std::size_t>(f)] == out.bytes;
    });
    if (reusable != free_slots.end()) {
      out.slot = *reusable;
      free_slots.erase(reusable);
    } else {
      out.slot = new_slot(out.bytes);
    }
    for (std::size_t k = 0; k < 3; ++k) {
      const std::int32_t r = steps_[s].in[k];
      if (r < static_cast<std::int32_t>(num_operands)) continue;
      const Register& in = registers_[static_cast<std::size_t>(r)];
      const bool repeated =
          std::find(steps_[s].in.begin(), steps_[s].in.begin() + static_cast<std::ptrdiff_t>(k),
                    r) != steps_[s].in.begin() + static_cast<std::ptrdiff_t>(k);
      if (!in.constant && !repeated && last_use[static_cast<std::size_t>(r)] == s) {
        free_slots.push_back(in.slot);
      }
    }
  }
  std::int64_t bytes = 0;
  for (const std::size_t b : slots_) bytes += static_cast<std::int64_t>(b);
  const auto steps = static_cast<std::int64_t>(steps_.size());
  const std::int64_t tile_bytes = tuning(Device::cpu())
                                      .get(
                                          Tunable::kElementwiseTile,
                                          [&] {
                                            return ShapeClass::of(DType::kF32, {steps, bytes});
                                          },
                                          kTileBytes);
  tile_elements_ =
      std::clamp(tile_bytes / std::max<std::int64_t>(bytes, 1), kMinTileElements, kMaxTileElements);
  tile_elements_ &= ~static_cast<std::int64_t>(kAlignment - 1);
  scratch_bytes_ = align_up(registers_.size() * sizeof(std::byte*));
  for (const std::size_t b : slots_) {
    slot_offsets_.push_back(scratch_bytes_);
    scratch_bytes_ += static_cast<std::size_t>(tile_elements_) * b;
  }
}

std::byte* TileProgram::slot_address(std::int32_t reg, std::byte* scratch) const {
  const std::int32_t slot = registers_[static_cast<std::size_t>(reg)].slot;
  return slot < 0 ? nullptr : scratch + slot_offsets_[static_cast<std::size_t>(slot)];
}

TileProgram::Frame::Frame(const TileProgram& program, std::byte* scratch)
    : program_(program), scratch_(scratch), registers_(reinterpret_cast<std::byte**>(scratch)) {
  for (std::size_t i = 0; i < program.registers_.size(); ++i) {
    registers_[i] = program.slot_address(static_cast<std::int32_t>(i), scratch);
  }
}

void TileProgram::call(const Step& step, std::byte* const* registers, void* out,
                       std::size_t count) {
  const auto address = [&](std::int32_t r) { return r < 0 ? nullptr : registers[r]; };
  step.fn({{address(step.in[0]), address(step.in[1]), address(step.in[2])}, out, count});
}

void TileProgram::Frame::prepare(std::size_t count) const {
  for (const Constant& c : program_.constants_) {
    const std::size_t bytes = program_.registers_[static_cast<std::size_t>(c.out)].bytes;
    fill_elements(registers_[c.out], c.value.data(), bytes, count);
  }
  for (const Step& step : program_.invariant_) {
    call(step, registers_, registers_[step.out], count);
  }
}

void TileProgram::Frame::run(void* out, std::size_t count, bool stream) const {
  const std::span<const Step> steps(program_.steps_);
  for (const Step& step : steps.first(steps.size() - 1)) {
    call(step, registers_, registers_[step.out], count);
  }
  const Step& last = steps.back();
  if (!stream) return call(last, registers_, out, count);
  call(last, registers_, registers_[last.out], count);
  float_steps().stream_copy(registers_[last.out], out, count * program_.output_bytes_);
}

}  // namespace metal_candle::backend::cpu
