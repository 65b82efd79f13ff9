// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What an evaluated node holds: memory, and the event that says when the memory is filled.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <vector>

#include "metal_candle/core/device.h"
#include "metal_candle/core/intrusive_ptr.h"
#include "metal_candle/core/recycled.h"
#include "metal_candle/core/shape.h"

namespace metal_candle {

class Completion;

/// Completes what is committed to it, in order.
class CompletionSource {
 public:
  virtual ~CompletionSource() = default;
  /// Called by a thread that is about to wait for a completion of this source: it may do the
  /// waiting itself, if that is quicker than being woken.
  virtual void hasten(const Completion& completion) { static_cast<void>(completion); }
};

/// A one-shot event: pending, then done or failed. Thread safe.
class Completion : public RefCounted, public Recycled<Completion> {
 public:
  Completion() = default;
  explicit Completion(CompletionSource* source) : source_(source) {}
  /// What is committed there later need not wait for this. May be null.
  [[nodiscard]] const CompletionSource* source() const { return source_; }
  /// Whether it is done or failed.
  [[nodiscard]] bool ready() const { return state_.load(std::memory_order_acquire) != kPending; }
  /// Blocks until ready; rethrows the error when it failed.
  void wait() const;
  /// Blocks until ready; the error, or null.
  [[nodiscard]] std::exception_ptr wait_for_error() const;
  /// Calls fn once when ready (now, if it is), on whichever thread completes it.
  void on_complete(std::function<void()> fn);
  /// Makes it ready: failed if there is an error. Only once.
  void complete(std::exception_ptr error);

 private:
  enum State : std::uint32_t { kPending, kDone, kFailed };
  CompletionSource* source_ = nullptr;
  std::atomic<std::uint32_t> state_{kPending};
  std::exception_ptr error_;  // Written before state_.
  std::mutex mutex_;          // Guards callbacks_.
  std::vector<std::function<void()>> callbacks_;
};
using CompletionPtr = IntrusivePtr<Completion>;

/// Memory of a device that holds one or more tensors.
class Storage : public RefCounted, public Recycled<Storage> {
 public:
  /// Whose memory it is: kOurs may be given to another tensor when nothing reads it any more;
  /// kBorrowed (a mapped file, a user's array) is only ever read.
  enum class Ownership : std::uint8_t { kOurs, kBorrowed };

  /// `buffer` keeps the memory alive (a backend::Buffer); `contents` is its host address or null;
  /// `completion` is null when the memory is already filled.
  Storage(Device device, IntrusivePtr<RefCounted> buffer, void* contents, CompletionPtr completion,
          Ownership ownership = Ownership::kOurs)
      : device_(device),
        ownership_(ownership),
        buffer_(std::move(buffer)),
        contents_(contents),
        completion_(std::move(completion)) {}

  [[nodiscard]] Device device() const { return device_; }
  [[nodiscard]] RefCounted* buffer() const { return buffer_.get(); }
  [[nodiscard]] const IntrusivePtr<RefCounted>& shared_buffer() const { return buffer_; }
  [[nodiscard]] void* contents() const { return contents_; }
  [[nodiscard]] const CompletionPtr& completion() const { return completion_; }
  [[nodiscard]] bool ready() const { return !completion_ || completion_->ready(); }
  [[nodiscard]] bool borrowed() const { return ownership_ == Ownership::kBorrowed; }

 private:
  Device device_;
  Ownership ownership_;
  IntrusivePtr<RefCounted> buffer_;
  void* contents_;
  CompletionPtr completion_;
};
using StoragePtr = IntrusivePtr<Storage>;

/// A tensor in memory: where it begins and how it strides.
struct Value {
  StoragePtr storage;
  std::size_t offset = 0;  // Bytes from the start of the storage.
  Strides strides;         // Elements.
};

}  // namespace metal_candle
