// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tree: nested lists and dictionaries of tensors, the shape that parameters come in. Functions over
// trees see the leaves in one fixed order: list order, and keys in lexicographic order.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "metal_candle/graph/tensor.h"

namespace metal_candle {

/// A tensor, a list of trees or a dictionary of trees. A value: copying copies handles of tensors.
/// Not thread safe.
class Tree {
 public:
  using List = std::vector<Tree>;
  using Dict = std::map<std::string, Tree>;

  /// An empty dictionary.
  Tree() : value_(Dict{}) {}
  Tree(Tensor tensor) : value_(std::move(tensor)) {}  // NOLINT(google-explicit-constructor)
  Tree(List list) : value_(std::move(list)) {}        // NOLINT(google-explicit-constructor)
  Tree(Dict dict) : value_(std::move(dict)) {}        // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool is_tensor() const { return std::holds_alternative<Tensor>(value_); }
  [[nodiscard]] bool is_list() const { return std::holds_alternative<List>(value_); }
  [[nodiscard]] bool is_dict() const { return std::holds_alternative<Dict>(value_); }

  // What this is. Throws Error if it is something else.
  [[nodiscard]] const Tensor& tensor() const;
  [[nodiscard]] const List& list() const;
  [[nodiscard]] List& list();
  [[nodiscard]] const Dict& dict() const;
  [[nodiscard]] Dict& dict();

  /// An entry of a dictionary. Throws Error when missing, naming the key.
  [[nodiscard]] const Tree& at(std::string_view key) const;
  /// An entry of a dictionary, made (as an empty dictionary) if missing.
  Tree& operator[](const std::string& key) { return dict()[key]; }
  /// An entry of a list. Throws Error when out of range.
  [[nodiscard]] const Tree& at(std::size_t index) const;
  /// The tensor of an entry of a dictionary.
  [[nodiscard]] const Tensor& tensor(std::string_view key) const { return at(key).tensor(); }

  /// The number of tensors.
  [[nodiscard]] std::size_t size() const;
  /// The tensors, in order.
  [[nodiscard]] std::vector<Tensor> leaves() const;
  /// Where each of leaves() is: "layers.0.weight". The tensor of a tree that is one has path "".
  [[nodiscard]] std::vector<std::string> paths() const;
  /// The same tree with other tensors. Throws Error unless there are size() of them.
  [[nodiscard]] Tree with_leaves(const std::vector<Tensor>& leaves) const;
  /// The same tree with fn of each tensor.
  [[nodiscard]] Tree map(const std::function<Tensor(const Tensor&)>& fn) const;

 private:
  std::variant<Tensor, List, Dict> value_;
};

/// Whether a and b have the same lists, keys and places of tensors.
[[nodiscard]] bool same_structure(const Tree& a, const Tree& b);

/// fn of corresponding tensors. Throws Error unless the structures are the same.
[[nodiscard]] Tree map(const std::function<Tensor(const Tensor&, const Tensor&)>& fn, const Tree& a,
                       const Tree& b);

}  // namespace metal_candle
