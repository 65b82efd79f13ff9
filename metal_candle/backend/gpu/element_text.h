// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Elementwise operations on one element, as text of the dialect (dialect.h).
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/graph/operation.h"

namespace metal_candle::backend::gpu {

struct Contraction;  // element_code.h

/// The struct of arguments of a generated kernel: its text and what the host fills it with, side by
/// side. Fields lie as every compiler puts them.
class ArgumentStruct {
 public:
  template <typename T>
  void add(std::string_view type, std::string_view name, T value) {
    bytes_.resize((bytes_.size() + sizeof(T) - 1) / sizeof(T) * sizeof(T));
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), from, from + sizeof(T));
    text_.append("  ").append(type).append(" ").append(name).append(";\n");
  }
  /// The definition of `struct Arguments`.
  [[nodiscard]] std::string text() const { return "struct Arguments {\n" + text_ + "};\n"; }
  /// Its value. Begins with a pointer, so it is padded to a multiple of 8.
  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::vector<std::byte> padded = bytes_;
    padded.resize((bytes_.size() + 7) / 8 * 8);
    return padded;
  }

 private:
  std::string text_;
  std::vector<std::byte> bytes_;
};

/// What an element of dtype is in memory: "bfloat", "uint8_t"...
[[nodiscard]] std::string_view stored_type(DType dtype);
/// What it is computed as: "float" for every floating dtype, "bool"...
[[nodiscard]] std::string_view value_type(DType dtype);
/// The value of an element in memory, and back, rounding.
[[nodiscard]] std::string load_text(DType dtype, std::string_view element);
[[nodiscard]] std::string store_text(DType dtype, std::string_view value);

/// The constant as an element of a floating dtype, which is computed as f32; of bool: 0 or 1.
[[nodiscard]] float constant_of(const Scalar& value, DType dtype);

/// What a kernel of the operation does, in a word or a few.
[[nodiscard]] std::string short_name(const Operation& operation);
/// Of a kernel that differs from others of that name in its text.
[[nodiscard]] std::string name_with_hash(std::string_view what, std::string_view text);

/// Writes the function
///   MC_FUNCTION VALUE element(MC_CONSTANT Arguments& a, INDEX i, VALUE v0, VALUE v1, ...)
/// which gives the element of an operation at row-major position i from those of its inputs. Values
/// of f16 and bf16 are rounded where the program converts to them, and where they are stored.
/// Scalar attributes become arguments, so that programs that differ in them share a kernel.
class ElementText {
 public:
  /// Throws DTypeError when a dtype does not have an operation.
  ElementText(const Operation& operation, std::span<const DType> inputs, DType output,
              ArgumentStruct& arguments);
  /// It calls what kernels/element_functions.h has. `index` is the type of i.
  [[nodiscard]] std::string function(std::string_view index) const;
  [[nodiscard]] int instructions() const { return instructions_; }

 private:
  struct Value {
    std::string name;
    DType dtype;
  };

  void add(const Operation& operation, std::span<const std::int32_t> arguments, DType dtype,
           bool is_stored);
  void add_contracted(const Contraction& sum, DType dtype);
  /// Adds the next value.
  void define(std::string_view text, DType dtype);
  std::string expression(const Operation& operation, std::span<const Value> in, DType dtype);
  std::string cast(const Value& x, DType to);
  std::string full(const Scalar& value, DType dtype);
  std::string arange(const op::Arange& range, DType dtype);
  /// `pattern` with operands for x, y and z, and types for T and W.
  std::string apply(std::string_view pattern, const Operation& operation,
                    std::span<const Value> in);

  ArgumentStruct& arguments_;
  std::vector<Value> values_;
  std::size_t num_inputs_;
  DType output_;
  std::string statements_;
  int instructions_ = 0;
  int constants_ = 0;
};

}  // namespace metal_candle::backend::gpu
