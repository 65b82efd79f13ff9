// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Any elementwise program of floats and bools, from its instructions: what runs while a kernel of
// the program's own is still being compiled. A thread has a packet of elements, and a column of
// group memory for its values, which are f32 (bool: 0 and 1) as they are there, by the same
// expressions (element_table.h); compiled without contraction, as those are, so that both give the
// same bits. In the dialect of dialect.h.
#pragma once

#include "metal_candle/backend/gpu/kernels/arguments.h"
#include "metal_candle/backend/gpu/kernels/common.h"
#include "metal_candle/backend/gpu/kernels/element_functions.h"
#include "metal_candle/backend/gpu/kernels/element_table.h"

struct ElementValues {
  float at[kElementPacket];
};

template <typename T>
MC_FUNCTION float element_value(T stored) {
  return float(stored);
}
template <>
MC_FUNCTION float element_value<uint8_t>(uint8_t stored) {  // bool
  return stored != 0 ? 1.0f : 0.0f;
}
template <typename T>
MC_FUNCTION T stored_element(float value) {
  return T(value);
}
template <>
MC_FUNCTION uint8_t stored_element<uint8_t>(float value) {
  return value != 0.0f ? 1 : 0;
}

MC_FUNCTION ElementValues same_values(float value) {
  ElementValues values;
  MC_UNROLL
  for (uint32_t e = 0; e < kElementPacket; ++e) values.at[e] = value;
  return values;
}

// Where the operand has what element i of the output needs.
MC_FUNCTION int32_t element_offset(MC_CONSTANT ElementProgramArguments& a, uint32_t operand,
                                   uint32_t i) {
  int32_t offset = 0;
  for (uint32_t axis = a.rank - 1; axis > 0; --axis) {
    const uint32_t rest = divide(i, a.magics[axis], a.shifts[axis]);
    offset += int32_t(i - rest * a.sizes[axis]) * a.operands[operand].strides[axis];
    i = rest;
  }
  return offset + int32_t(i) * a.operands[operand].strides[0];
}

// Beyond the last element it is read again.
template <typename T>
MC_FUNCTION ElementValues load_values(MC_CONSTANT ElementProgramArguments& a, uint32_t operand,
                                      uint32_t first) {
  const MC_GLOBAL T* data = static_cast<const MC_GLOBAL T*>(a.operands[operand].data);
  if (a.operands[operand].access == kElementsAreOne) {
    return same_values(element_value<T>(data[0]));
  }
  ElementValues values;
  if (a.operands[operand].access == kElementsAnywhere || first + kElementPacket > a.count) {
    MC_UNROLL
    for (uint32_t e = 0; e < kElementPacket; ++e) {
      const uint32_t i = first + e < a.count ? first + e : a.count - 1;
      values.at[e] = element_value<T>(data[element_offset(a, operand, i)]);
    }
    return values;
  }
  const MC_GLOBAL T* from = data + element_offset(a, operand, first);
  const int32_t step = a.operands[operand].strides[a.rank - 1];
  if (step == 1 && is_aligned(from, kElementPacket * sizeof(T))) {
    const Packet<T, kElementPacket> packet = load_packet<kElementPacket, true>(from);
    MC_UNROLL
    for (uint32_t e = 0; e < kElementPacket; ++e) {
      values.at[e] = element_value<T>(packet.values[e]);
    }
  } else {
    MC_UNROLL
    for (uint32_t e = 0; e < kElementPacket; ++e) {
      values.at[e] = element_value<T>(from[int32_t(e) * step]);
    }
  }
  return values;
}

template <typename T>
MC_FUNCTION void store_values(MC_CONSTANT ElementProgramArguments& a, uint32_t first,
                              ElementValues values) {
  MC_GLOBAL T* to = static_cast<MC_GLOBAL T*>(a.out) + first;
  Packet<T, kElementPacket> packet;
  MC_UNROLL
  for (uint32_t e = 0; e < kElementPacket; ++e) packet.values[e] = stored_element<T>(values.at[e]);
  if (first + kElementPacket <= a.count && is_aligned(to, kElementPacket * sizeof(T))) {
    store_packet<true>(to, packet);
    return;
  }
  MC_UNROLL
  for (uint32_t e = 0; e < kElementPacket; ++e) {
    if (first + e < a.count) to[e] = packet.values[e];
  }
}

// An instruction's operand. The column's values are as far apart as a group has threads, so that
// these use all banks.
MC_FUNCTION ElementValues read_values(MC_CONSTANT ElementProgramArguments& a,
                                      const MC_GROUP float* column, uint32_t slot,
                                      ElementValues previous) {
  if (slot == kElementPreviousSlot) return previous;
  if (slot >= kElementConstantSlot) return same_values(a.constants[slot - kElementConstantSlot]);
  ElementValues values;
  MC_UNROLL
  for (uint32_t e = 0; e < kElementPacket; ++e) {
    values.at[e] = column[(slot * kElementPacket + e) * kElementThreads];
  }
  return values;
}

#define MC_ELEMENT_UNARY(name, expression)          \
  case kElement##name:                              \
    MC_UNROLL                                       \
    for (uint32_t e = 0; e < kElementPacket; ++e) { \
      const float x = xs.at[e];                     \
      values.at[e] = float(expression);             \
    }                                               \
    return values;
#define MC_ELEMENT_BINARY(name, expression)         \
  case kElement##name:                              \
    MC_UNROLL                                       \
    for (uint32_t e = 0; e < kElementPacket; ++e) { \
      const float x = xs.at[e], y = ys.at[e];       \
      values.at[e] = float(expression);             \
    }                                               \
    return values;
#define MC_ELEMENT_TERNARY(name, expression)                           \
  case kElement##name: {                                               \
    const ElementValues zs = read_values(a, column, next.z, previous); \
    MC_UNROLL                                                          \
    for (uint32_t e = 0; e < kElementPacket; ++e) {                    \
      const float x = xs.at[e], y = ys.at[e], z = zs.at[e];            \
      values.at[e] = float(expression);                                \
    }                                                                  \
    return values;                                                     \
  }

MC_FUNCTION ElementValues run_instruction(MC_CONSTANT ElementProgramArguments& a,
                                          const MC_GROUP float* column, ElementInstruction next,
                                          uint32_t first, ElementValues previous) {
  const ElementValues xs = read_values(a, column, next.x, previous);
  const ElementValues ys = read_values(a, column, next.y, previous);
  ElementValues values;
  switch (next.code) {
    case kElementLoadF32:
      return load_values<float>(a, next.z, first);
    case kElementLoadF16:
      return load_values<half>(a, next.z, first);
    case kElementLoadBF16:
      return load_values<bfloat>(a, next.z, first);
    case kElementLoadBool:
      return load_values<uint8_t>(a, next.z, first);
      MC_UNARY_FUNCTIONS(MC_ELEMENT_UNARY)
      MC_UNARY_FUNCTIONS_OF_16_BITS(MC_ELEMENT_UNARY)
      MC_ROUNDING_FUNCTIONS(MC_ELEMENT_UNARY)
      MC_BINARY_FUNCTIONS(MC_ELEMENT_BINARY)
      MC_GATED_FUNCTIONS(MC_ELEMENT_BINARY)
      MC_TERNARY_FUNCTIONS(MC_ELEMENT_TERNARY)
    default:  // kElementMove
      return xs;
  }
}
#undef MC_ELEMENT_UNARY
#undef MC_ELEMENT_BINARY
#undef MC_ELEMENT_TERNARY

MC_FUNCTION void element_program(MC_CONSTANT ElementProgramArguments& a, MC_GROUP char* memory,
                                 Thread self) {
  const uint32_t first = (self.group * kElementThreads + self.index) * kElementPacket;
  if (first >= a.count) return;
  MC_GROUP float* column = reinterpret_cast<MC_GROUP float*>(memory) + self.index;
  ElementValues values = same_values(0.0f);
  for (uint32_t i = 0; i < a.length; ++i) {
    const ElementInstruction next = a.program[i];
    values = run_instruction(a, column, next, first, values);
    if (next.to == kElementNoSlot) continue;
    MC_UNROLL
    for (uint32_t e = 0; e < kElementPacket; ++e) {
      column[(next.to * kElementPacket + e) * kElementThreads] = values.at[e];
    }
  }
  switch (a.store) {
    case kElementLoadF32:
      return store_values<float>(a, first, values);
    case kElementLoadF16:
      return store_values<half>(a, first, values);
    case kElementLoadBF16:
      return store_values<bfloat>(a, first, values);
    default:
      return store_values<uint8_t>(a, first, values);
  }
}
MC_KERNEL_RESIDENT(element_program, ElementProgramArguments, kElementThreads, 8, element_program);
