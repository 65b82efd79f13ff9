// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Memory of objects that come and go with every evaluation. Many of one kind die at once, when a
// queue has caught up: more than malloc() keeps at hand for a thread.
#pragma once

#include <array>
#include <cstddef>
#include <new>

namespace metal_candle {

/// A base of T which gives it operator new and delete: each thread keeps the memory of a number of
/// dead objects for new ones. Under sanitizers it keeps none, so that they see each object's end.
template <typename T>
class Recycled {
 public:
  // NOLINTNEXTLINE(misc-new-delete-overloads): below, with the size.
  static void* operator new(std::size_t size) {
    Kept& kept = kept_;
    if (size == sizeof(T) && kept.count > 0) return kept.memory[--kept.count];
    return ::operator new(size);
  }
  static void operator delete(void* memory, std::size_t size) noexcept {
    Kept& kept = kept_;
    if (size == sizeof(T) && kept.count < kMost && kept.state != State::kOver) {
      if (kept.state == State::kNew) clean_at_exit();
      kept.memory[kept.count++] = memory;
      return;
    }
    ::operator delete(memory);
  }

 protected:
  Recycled() = default;
  ~Recycled() = default;

 private:
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr std::size_t kMost = 0;
#else
  static constexpr std::size_t kMost = 256;
#endif
  enum class State : unsigned char { kNew, kCleaned, kOver };
  // Without a destructor: objects may die after those of the thread's variables have run.
  struct Kept {
    std::size_t count = 0;
    State state = State::kNew;
    std::array<void*, kMost + 1> memory{};
  };
  struct Cleaner {
    ~Cleaner() {
      while (kept_.count > 0) ::operator delete(kept_.memory[--kept_.count]);
      kept_.state = State::kOver;
    }
  };
  // When the thread ends.
  static void clean_at_exit() {
    thread_local Cleaner cleaner;
    static_cast<void>(cleaner);
    kept_.state = State::kCleaned;
  }
  inline static thread_local constinit Kept kept_;
};

}  // namespace metal_candle
