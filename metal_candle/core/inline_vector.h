// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A vector whose first elements lie within it: what an evaluation gathers is short, and allocating
// for each list would take longer than gathering it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace metal_candle {

/// As std::vector, but for the first kInline elements, which move with it: moving it invalidates
/// references. Elements must not throw when moved.
template <typename T, std::size_t kInline>
class InlineVector {
  static_assert(kInline > 0 && std::is_nothrow_move_constructible_v<T>);

 public:
  using value_type = T;

  // Not defaulted, so that a constant may be made without an initialiser.
  InlineVector() {}  // NOLINT(modernize-use-equals-default)
  explicit InlineVector(std::span<const T> values) { append(values); }
  InlineVector(const InlineVector& other) { append(other); }
  InlineVector(InlineVector&& other) noexcept { take(other); }
  InlineVector& operator=(const InlineVector& other) {
    if (this != &other) *this = InlineVector(other);
    return *this;
  }
  InlineVector& operator=(InlineVector&& other) noexcept {
    if (this == &other) return *this;
    free();
    take(other);
    return *this;
  }
  ~InlineVector() { free(); }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] T* data() { return heap_ != nullptr ? heap_ : inline_data(); }
  [[nodiscard]] const T* data() const { return const_cast<InlineVector*>(this)->data(); }
  [[nodiscard]] T* begin() { return data(); }
  [[nodiscard]] T* end() { return data() + size_; }
  [[nodiscard]] const T* begin() const { return data(); }
  [[nodiscard]] const T* end() const { return data() + size_; }
  T& operator[](std::size_t i) { return data()[i]; }
  const T& operator[](std::size_t i) const { return data()[i]; }
  [[nodiscard]] T& front() { return *data(); }
  [[nodiscard]] const T& front() const { return *data(); }
  [[nodiscard]] T& back() { return data()[size_ - 1]; }
  [[nodiscard]] const T& back() const { return data()[size_ - 1]; }

  /// Not of elements of its own.
  template <typename... Args>
  T& emplace_back(Args&&... args) {
    if (size_ == capacity_) grow(2 * capacity_);
    T* const place = std::construct_at(data() + size_, std::forward<Args>(args)...);
    ++size_;
    return *place;
  }
  void push_back(T value) { emplace_back(std::move(value)); }
  void append(std::span<const T> values) {
    reserve(size_ + values.size());
    for (const T& value : values) emplace_back(value);
  }
  void reserve(std::size_t count) {
    if (count > capacity_) grow(std::max(count, 2 * capacity_));
  }
  /// Removes the last ones.
  void truncate(std::size_t count) {
    while (size_ > count) std::destroy_at(data() + --size_);
  }
  void clear() { truncate(0); }

 private:
  [[nodiscard]] T* inline_data() { return std::launder(reinterpret_cast<T*>(inline_)); }

  void grow(std::size_t capacity) {
    T* const heap = std::allocator<T>().allocate(capacity);
    std::uninitialized_move_n(data(), size_, heap);
    std::destroy_n(data(), size_);
    free_heap();
    heap_ = heap;
    capacity_ = capacity;
  }
  // This is empty and without a heap.
  void take(InlineVector& other) noexcept {
    if (other.heap_ != nullptr) {
      heap_ = std::exchange(other.heap_, nullptr);
      capacity_ = std::exchange(other.capacity_, kInline);
    } else {
      std::uninitialized_move_n(other.data(), other.size_, inline_data());
      std::destroy_n(other.data(), other.size_);
    }
    size_ = std::exchange(other.size_, 0);
  }
  void free() {
    clear();
    free_heap();
    heap_ = nullptr;
    capacity_ = kInline;
  }
  void free_heap() {
    if (heap_ != nullptr) std::allocator<T>().deallocate(heap_, capacity_);
  }

  std::size_t size_ = 0;
  std::size_t capacity_ = kInline;
  T* heap_ = nullptr;
  alignas(T) std::byte inline_[kInline * sizeof(T)];  // NOLINT(bugprone-sizeof-expression)
};

}  // namespace metal_candle
