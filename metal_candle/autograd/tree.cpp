// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Walks over trees of tensors. They recurse: trees are as deep as a model's modules nest.
#include "metal_candle/autograd/tree.h"

#include <fmt/format.h>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

template <typename Fn>
void for_each_leaf(const Tree& tree, const std::string& path, const Fn& fn) {
  const auto below = [&](const std::string& key) { return path.empty() ? key : path + "." + key; };
  if (tree.is_tensor()) {
    fn(tree.tensor(), path);
  } else if (tree.is_list()) {
    for (std::size_t i = 0; i < tree.list().size(); ++i) {
      for_each_leaf(tree.list()[i], below(std::to_string(i)), fn);
    }
  } else {
    for (const auto& [key, child] : tree.dict()) for_each_leaf(child, below(key), fn);
  }
}

template <typename Fn>
Tree map_leaves(const Tree& tree, const Fn& fn) {
  if (tree.is_tensor()) return fn(tree.tensor());
  if (tree.is_list()) {
    Tree::List list;
    list.reserve(tree.list().size());
    for (const Tree& child : tree.list()) list.push_back(map_leaves(child, fn));
    return list;
  }
  Tree::Dict dict;
  for (const auto& [key, child] : tree.dict()) dict.emplace(key, map_leaves(child, fn));
  return dict;
}

template <typename T, typename Variant>
auto& get(Variant& value, const char* what) {
  if (auto* found = std::get_if<T>(&value)) return *found;
  throw Error(fmt::format("Tree: not a {}", what));
}

}  // namespace

const Tensor& Tree::tensor() const { return get<Tensor>(value_, "tensor"); }
const Tree::List& Tree::list() const { return get<List>(value_, "list"); }
Tree::List& Tree::list() { return get<List>(value_, "list"); }
const Tree::Dict& Tree::dict() const { return get<Dict>(value_, "dictionary"); }
Tree::Dict& Tree::dict() { return get<Dict>(value_, "dictionary"); }

const Tree& Tree::at(std::string_view key) const {
  const auto found = dict().find(std::string(key));
  if (found == dict().end()) throw Error(fmt::format("Tree: no entry '{}'", key));
  return found->second;
}

const Tree& Tree::at(std::size_t index) const {
  if (index >= list().size()) {
    throw Error(fmt::format("Tree: no entry {} in a list of {}", index, list().size()));
  }
  return list()[index];
}

std::size_t Tree::size() const {
  std::size_t count = 0;
  for_each_leaf(*this, "", [&](const Tensor&, const std::string&) { ++count; });
  return count;
}

std::vector<Tensor> Tree::leaves() const {
  std::vector<Tensor> all;
  for_each_leaf(*this, "", [&](const Tensor& leaf, const std::string&) { all.push_back(leaf); });
  return all;
}

std::vector<std::string> Tree::paths() const {
  std::vector<std::string> all;
  for_each_leaf(*this, "", [&](const Tensor&, const std::string& path) { all.push_back(path); });
  return all;
}

Tree Tree::with_leaves(const std::vector<Tensor>& leaves) const {
  if (leaves.size() != size()) {
    throw Error(
        fmt::format("Tree::with_leaves: {} tensors for a tree of {}", leaves.size(), size()));
  }
  std::size_t next = 0;
  return map_leaves(*this, [&](const Tensor&) { return leaves[next++]; });
}

Tree Tree::map(const std::function<Tensor(const Tensor&)>& fn) const {
  return map_leaves(*this, fn);
}

bool same_structure(const Tree& a, const Tree& b) {
  if (a.is_tensor() || b.is_tensor()) return a.is_tensor() && b.is_tensor();
  if (a.is_list() != b.is_list()) return false;
  if (a.is_list()) {
    return std::equal(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(),
                      same_structure);
  }
  return std::equal(a.dict().begin(), a.dict().end(), b.dict().begin(), b.dict().end(),
                    [](const auto& x, const auto& y) {
                      return x.first == y.first && same_structure(x.second, y.second);
                    });
}

Tree map(const std::function<Tensor(const Tensor&, const Tensor&)>& fn, const Tree& a,
         const Tree& b) {
  if (!same_structure(a, b)) throw Error("map: the trees have different structures");
  const std::vector<Tensor> others = b.leaves();
  std::size_t next = 0;
  return map_leaves(a, [&](const Tensor& leaf) { return fn(leaf, others[next++]); });
}

}  // namespace metal_candle
