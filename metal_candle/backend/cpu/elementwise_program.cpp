// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Compiles elementwise operations to steps, places their values in slots, and runs them.
#include "metal_candle/backend/cpu/elementwise_program.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "metal_candle/backend/tuning.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

// Slots of all live values together; half of a common first-level data cache, as operands and
// results pass through it too.
constexpr std::int64_t kTileBytes = 16 * 1024;
constexpr std::int64_t kMinTileElements = 256;
constexpr std::int64_t kMaxTileElements = 4096;
// Of a chain.
constexpr std::size_t kMaxLinks = 32;
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
        last_step().widens = inputs[i];
      }
      values_.push_back({value, inputs[i]});
    }
  }

  /// Of f16 and bf16, conversions that the program has are rounded; other values stay f32 until
  /// they are stored. `last`: the store comes next, and rounds.
  void add(const Operation& operation, std::span<const std::int32_t> arguments, DType dtype,
           bool last) {
    std::int32_t value = emit_operation(operation, arguments, dtype);
    program_.cost_ += cost_of(operation);
    if (!last && is_half(dtype) && rounds_inside(operation) && value != arguments_register_) {
      value = round(value, dtype);
    }
    values_.push_back({value, dtype});
  }

  /// Makes the last value the program's output.
  void finish(DType dtype) {
    const auto [value, value_dtype] = values_.back();
    if (is_half(dtype)) {
      emit(dtype == DType::kF16 ? float_.to_f16 : float_.to_bf16, {value}, size_of(dtype), false);
      last_step().narrows = dtype;
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
    last_list_ = constant ? &program_.invariant_ : &program_.steps_;
    last_list_->push_back(step);
    return step.out;
  }
  Step& last_step() { return last_list_->back(); }

  std::int32_t round(std::int32_t value, DType dtype) {
    const bool is_f16 = dtype == DType::kF16;
    const std::int32_t rounded =
        emit(is_f16 ? float_.round_f16 : float_.round_bf16, {value}, sizeof(float));
    last_step().first = is_f16 ? Link::kRoundF16 : Link::kRoundBF16;
    return rounded;
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
      const std::int32_t out =
          emit(check(fn, operation, argument(0).dtype), {argument(0).reg}, bytes);
      if (is_floating(argument(0).dtype)) last_step().first = link_of(unary->kind);
      return out;
    }
    if (const auto* binary = std::get_if<op::Binary>(&operation)) {
      const StepFn fn = is_floating(argument(0).dtype)
                            ? float_.binary[static_cast<std::size_t>(binary->kind)]
                            : integer_binary(binary->kind, argument(0).dtype);
      const std::int32_t out =
          emit(check(fn, operation, argument(0).dtype), {argument(0).reg, argument(1).reg}, bytes);
      if (is_floating(argument(0).dtype)) {
        last_step().first = link_of(binary->kind, false);
        last_step().second = link_of(binary->kind, true);
      }
      return out;
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
  std::vector<Step>* last_list_ = nullptr;
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
                  i + 1 == instructions.size());
    }
  } else {
    constexpr std::array<std::int32_t, 3> kArguments = {0, 1, 2};
    builder.add(operation, kArguments, output, true);
  }
  builder.finish(output);
  join_steps();
  place_registers(inputs.size(), access);
}

template <typename Fn>
void TileProgram::for_each_input(const Step& step, Fn fn) const {
  for (const std::int32_t r : step.in) {
    if (r >= 0) fn(r);
  }
  if (step.chain < 0) return;
  for (const ChainLink& link : chains_[static_cast<std::size_t>(step.chain)].links) {
    if (link.operand >= 0) fn(link.operand);
  }
}

// Makes chains of steps that follow each other, each being the only one to read the result of the
// one before it. A chain widens what it reads itself, if nobody else reads it.
void TileProgram::join_steps() {
  std::vector<int> readers(registers_.size(), 0);
  std::vector<const Step*> widening(registers_.size(), nullptr);  // By their results.
  for (const Step& step : steps_) {
    for_each_input(step, [&](std::int32_t r) { ++readers[static_cast<std::size_t>(r)]; });
    if (step.is_widening()) widening[static_cast<std::size_t>(step.out)] = &step;
  }
  // The operand `r` as it lies in memory.
  const auto operand = [&](Link link, std::int32_t r) {
    const Step* const step = widening[static_cast<std::size_t>(r)];
    if (!step || readers[static_cast<std::size_t>(r)] > 1) return ChainLink{link, DType::kF32, r};
    return ChainLink{link, step->widens, step->in[0]};
  };
  const auto is_part = [](const Step& step) {
    return step.first != Link::kNone || step.second != Link::kNone || step.is_narrowing();
  };
  // The link that needs no look at its operand for NaN, if it is a number.
  const auto of_number = [&](Link link, std::int32_t r) {
    const bool is_maximum = link == Link::kMaximum, is_minimum = link == Link::kMinimum;
    if (!is_maximum && !is_minimum) return link;
    const auto found = std::find_if(constants_.begin(), constants_.end(),
                                    [r](const Constant& c) { return c.out == r; });
    if (found == constants_.end()) return link;
    float number;
    std::memcpy(&number, found->value.data(), sizeof(number));
    if (std::isnan(number)) return link;
    return is_maximum ? Link::kMaximumOfNumber : Link::kMinimumOfNumber;
  };
  // Adds the step, which reads `value`, to the chain; not if it reads it twice.
  const auto append = [&](Chain& chain, const Step& step, std::int32_t value) {
    if (step.is_narrowing()) {
      chain.out_dtype = step.narrows;
      return true;
    }
    if (step.in[1] < 0) {
      if (step.first == Link::kNone) return false;
      chain.links.push_back({step.first});
      return true;
    }
    const bool second = step.in[0] != value;
    const Link link = second ? step.second : step.first;
    const std::int32_t other = step.in[second ? 0 : 1];
    if (link == Link::kNone || other == value) return false;
    chain.links.push_back(operand(of_number(link, other), other));
    return true;
  };
  std::vector<Step> joined;
  std::vector<bool> needless(registers_.size(), false);
  for (std::size_t s = 0; s < steps_.size();) {
    const Step& first = steps_[s];
    std::size_t end = s + 1;
    Chain chain;
    std::int32_t in = first.in[0];
    if (is_part(first) && !first.is_narrowing() && append(chain, first, in)) {
      while (end < steps_.size() && chain.links.size() < kMaxLinks && is_part(steps_[end]) &&
             readers[static_cast<std::size_t>(steps_[end - 1].out)] == 1) {
        const std::int32_t value = steps_[end - 1].out;
        bool reads = false;
        for_each_input(steps_[end], [&](std::int32_t r) { reads |= r == value; });
        if (!reads || !append(chain, steps_[end], value)) break;
        if (steps_[end++].is_narrowing()) break;
      }
    }
    // One step by itself is a chain if it gives the result, which a chain can stream.
    if (end - s < 2 && (steps_.size() > 1 || chain.links.empty())) {
      joined.push_back(first);
      s = s + 1;
      continue;
    }
    // What the chain widens itself is not needed widened.
    for (std::size_t i = s; i < end; ++i) {
      for_each_input(steps_[i], [&](std::int32_t r) {
        if (operand(Link::kNone, r).operand != r) needless[static_cast<std::size_t>(r)] = true;
      });
    }
    const ChainLink source = operand(Link::kNone, in);
    chain.in_dtype = source.dtype;
    Step step{nullptr, {source.operand, -1, -1}, steps_[end - 1].out};
    step.chain = static_cast<std::int32_t>(chains_.size());
    chains_.push_back(std::move(chain));
    joined.push_back(step);
    s = end;
  }
  std::erase_if(joined,
                [&](const Step& step) { return needless[static_cast<std::size_t>(step.out)]; });
  steps_ = std::move(joined);
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
    for_each_input(steps_[s], [&](std::int32_t r) { last_use[static_cast<std::size_t>(r)] = s; });
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
    for_each_input(steps_[s], [&](std::int32_t r) {
      if (r < static_cast<std::int32_t>(num_operands)) return;
      const Register& in = registers_[static_cast<std::size_t>(r)];
      std::size_t& last = last_use[static_cast<std::size_t>(r)];
      if (in.constant || last != s) return;
      free_slots.push_back(in.slot);
      last = steps_.size();  // It may be read twice, and is freed once.
    });
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

void TileProgram::call(const Step& step, std::byte* const* registers, void* out, std::size_t count,
                       bool stream) const {
  const auto address = [&](std::int32_t r) { return r < 0 ? nullptr : registers[r]; };
  if (step.chain >= 0) {
    const Chain& chain = chains_[static_cast<std::size_t>(step.chain)];
    std::array<LinkCall, kMaxLinks> calls;
    for (std::size_t i = 0; i < chain.links.size(); ++i) {
      const ChainLink& link = chain.links[i];
      calls[i] = {link.link, link.dtype, address(link.operand)};
    }
    return chain_function()({address(step.in[0]), chain.in_dtype,
                             std::span(calls).first(chain.links.size()), out, chain.out_dtype,
                             count, stream});
  }
  step.fn({{address(step.in[0]), address(step.in[1]), address(step.in[2])}, out, count});
}

void TileProgram::Frame::prepare(std::size_t count) const {
  for (const Constant& c : program_.constants_) {
    const std::size_t bytes = program_.registers_[static_cast<std::size_t>(c.out)].bytes;
    fill_elements(registers_[c.out], c.value.data(), bytes, count);
  }
  for (const Step& step : program_.invariant_) {
    program_.call(step, registers_, registers_[step.out], count);
  }
}

void TileProgram::Frame::run(void* out, std::size_t count, bool stream) const {
  const std::span<const Step> steps(program_.steps_);
  for (const Step& step : steps.first(steps.size() - 1)) {
    program_.call(step, registers_, registers_[step.out], count);
  }
  const Step& last = steps.back();
  const bool aligned = reinterpret_cast<std::uintptr_t>(out) % kAlignment == 0;
  if (stream && aligned && last.chain >= 0) {
    return program_.call(last, registers_, out, count, true);
  }
  if (!stream) return program_.call(last, registers_, out, count);
  program_.call(last, registers_, registers_[last.out], count);
  float_steps().stream_copy(registers_[last.out], out, count * program_.output_bytes_);
}

}  // namespace metal_candle::backend::cpu
