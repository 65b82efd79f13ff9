// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The interface between execute/ and a device, in the shape of Metal's because it fits all three: a
// backend allocates buffers and makes queues; a queue takes command buffers; a command buffer is
// encoded kernel by kernel, committed and awaited.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "metal_candle/core/device.h"
#include "metal_candle/core/intrusive_ptr.h"
#include "metal_candle/graph/operation.h"
#include "metal_candle/graph/storage.h"
#include "metal_candle/graph/tensor_spec.h"

namespace metal_candle::backend {

/// Device memory. Freed (to the backend's pool) when the last handle goes.
class Buffer : public RefCounted {
 public:
  Buffer(void* contents, std::size_t size) : contents_(contents), size_(size) {}
  /// The address in host memory, or null where the host cannot see it. 64-byte aligned, unless
  /// borrowed.
  [[nodiscard]] void* contents() const { return contents_; }
  /// Usable bytes, at least what was asked for.
  [[nodiscard]] std::size_t size() const { return size_; }

 protected:
  void* contents_;
  std::size_t size_;
};
using BufferPtr = IntrusivePtr<Buffer>;

/// A place in a buffer, in bytes.
struct BufferRegion {
  Buffer* buffer = nullptr;
  std::size_t offset = 0;
};

struct MemoryStatistics {
  std::size_t in_use = 0;         // Bytes in live buffers.
  std::size_t peak = 0;           // The most in_use has been since reset_peak().
  std::size_t cached = 0;         // Freed bytes kept for reuse.
  std::size_t limit = 0;          // allocate() throws rather than let in_use exceed this.
  std::uint64_t allocations = 0;  // Calls of allocate().
  std::uint64_t pool_hits = 0;    // Those served from the cache.
};

/// One operation made ready for given layouts: immutable, stateless, shared by any number of
/// evaluations at once. Made when a plan is, so choosing an implementation costs nothing per step.
class Kernel {
 public:
  virtual ~Kernel() = default;
  /// Bytes of temporary memory that a run needs.
  [[nodiscard]] std::size_t scratch_bytes() const { return scratch_bytes_; }

 protected:
  std::size_t scratch_bytes_ = 0;
};

/// What a kernel is asked to do. An output that nobody uses has needed[i] == false; its region is
/// null.
struct KernelRequest {
  const Operation& operation;
  std::span<const TensorLayout> inputs;
  std::span<const TensorLayout> outputs;  // Contiguous but for Backend::writes_rows_anywhere().
  std::span<const bool> needed;
};

/// How a kernel wants an input to lie. The planner inserts a copy where it does not.
enum class InputLayout : std::uint8_t {
  kAny,         // Any strides, zero and negative ones too.
  kContiguous,  // Dense and row-major.
  kDenseRows,   // The last axis has stride 1 (or length 1); the others are arbitrary.
  kMatrix,  // Of the last two axes one has stride 1 and the other a stride at least as long as it;
            // the others are arbitrary.
};

/// What the profiler and errors say of a step. Outlives the command buffer.
struct StepLabel {
  std::string name;    // The operation's name.
  std::string detail;  // Its shapes.
  double flops = 0;
  double bytes = 0;  // Read and written, as the algorithm needs.
  Device device;
  DType dtype = DType::kF32;  // Of the first operand, or else of the result.
};

/// Is told of every step that runs, with times of the clock below. Called from queue threads.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void on_step(const StepLabel& label, int queue, std::int64_t start_ns,
                       std::int64_t end_ns) = 0;
};
/// Null switches observation off, which is then one atomic load a command buffer. The observer must
/// outlive the work in flight.
void set_step_observer(StepObserver* observer);
[[nodiscard]] StepObserver* step_observer();
/// Nanoseconds of a monotonic clock.
[[nodiscard]] std::int64_t now_ns();

/// A list of kernels to run in order. Not thread safe; encoded by one thread, then committed once.
class CommandBuffer {
 public:
  virtual ~CommandBuffer() = default;
  /// Buffers, kernel and label stay alive until completion: the committer holds them.
  virtual void encode(const Kernel& kernel, std::span<const BufferRegion> inputs,
                      std::span<const BufferRegion> outputs, BufferRegion scratch,
                      const StepLabel& label) = 0;
  /// What has been encoded before is before all that follows; what follows, up to the next call,
  /// does not depend on each other. Until the first call each kernel may need those before it.
  virtual void begin_wave() {}
  [[nodiscard]] virtual std::size_t size() const = 0;  // Kernels encoded.
};

/// Called once when a command buffer is done, with its error or null: on a thread of the backend's,
/// or on one that waits for a completion of the queue.
using CompletionHandler = std::function<void(std::exception_ptr)>;

/// Runs command buffers in the order committed. Thread safe.
class CommandQueue : public CompletionSource {
 public:
  [[nodiscard]] virtual int index() const = 0;
  /// From a pool, to which it returns when completed.
  virtual std::unique_ptr<CommandBuffer> make_command_buffer() = 0;
  /// Queues the buffer, to run once all `dependencies` are complete; if one of them failed, the
  /// buffer does not run and has that error. Blocks while max_pending buffers are in flight.
  virtual void commit(std::unique_ptr<CommandBuffer> buffer,
                      std::span<const CompletionPtr> dependencies,
                      CompletionHandler on_complete) = 0;
  /// Nothing committed is unfinished.
  [[nodiscard]] virtual bool idle() const = 0;
  /// Runs the buffer on the calling thread, now, if the device can (the CPU); returns false if it
  /// cannot. Errors are thrown.
  virtual bool run_inline(std::unique_ptr<CommandBuffer>& buffer) = 0;
  /// Blocks until everything committed so far is finished.
  virtual void synchronize() = 0;
};

/// Of all queues of a backend together.
struct QueueStatistics {
  std::uint64_t command_buffers = 0;  // Committed or run inline.
  std::uint64_t inline_buffers = 0;   // Those run on the calling thread.
  std::uint64_t kernels = 0;          // Encoded in them.
  std::uint64_t buffers_made = 0;     // Command buffers allocated...
  std::uint64_t buffers_reused = 0;   // ...and taken from the pool.
  std::uint64_t full_waits = 0;  // Commits that had to wait because max_pending were in flight.
  // Where command buffers become graphs that are replayed:
  std::uint64_t graphs_made = 0;
  std::uint64_t graph_launches = 0;
  std::uint64_t graphs_repointed = 0;  // Launches before which addresses were changed...
  std::uint64_t nodes_repointed = 0;   // ...in so many places.
  std::uint64_t direct_launches = 0;   // Buffers launched step by step, their structure being new.
};

/// What a backend runs on and with, for people.
struct BackendDescription {
  std::string device;                  // "AMD EPYC".
  std::string instructions;            // The instruction set that kernels use: "AVX3_ZEN4".
  int threads = 1;                     // That one operation may use.
  std::vector<std::string> libraries;  // With versions: "oneDNN 2.6.3".
  std::string tuned_with = {};         // A library that tuned parameters are only good for.
};

/// A device that can compute. One instance a device, alive until the process ends. Thread safe.
class Backend {
 public:
  virtual ~Backend() = default;
  [[nodiscard]] virtual Device device() const = 0;
  [[nodiscard]] virtual BackendDescription describe() const = 0;

  /// Uninitialised memory. Throws OutOfMemoryError with the bytes asked for, in use and the limit.
  virtual BufferPtr allocate(std::size_t bytes) = 0;
  /// A buffer that is only ever read: the host memory itself where the device can read it, else a
  /// copy. `owner` lives as long as the buffer needs the memory, which memory() does not count.
  virtual BufferPtr borrow(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) = 0;
  /// Copies host memory into a buffer that no work uses yet; work committed afterwards, to any
  /// queue, sees it. `bytes` may go when this returns.
  virtual void write(Buffer& buffer, std::size_t offset, std::span<const std::byte> bytes) = 0;
  /// Copies out of a buffer that no unfinished work writes to.
  virtual void read(const Buffer& buffer, std::size_t offset, std::span<std::byte> bytes) = 0;
  [[nodiscard]] virtual MemoryStatistics memory() const = 0;
  virtual void reset_peak_memory() = 0;
  virtual void set_memory_limit(std::size_t bytes) = 0;
  virtual void clear_memory_cache() = 0;

  /// Whether make_kernel() can serve this, at these types and shapes. A composite that it cannot is
  /// decomposed; a primitive that it cannot is an error.
  [[nodiscard]] virtual bool supports(const Operation& operation,
                                      std::span<const TensorSpec> inputs) const = 0;
  [[nodiscard]] virtual InputLayout input_layout(const Operation& operation, int input) const = 0;
  /// Whether output `output` may be written over input `input` when both have the same size in
  /// bytes and layout.
  [[nodiscard]] virtual bool can_run_in_place(const Operation& operation, int input,
                                              int output) const = 0;
  /// Whether rows of output `output` may be in any order: strides of all axes but the last, which
  /// is dense, are multiples of its length.
  [[nodiscard]] virtual bool writes_rows_anywhere(const Operation& /*operation*/,
                                                  int /*output*/) const {
    return false;
  }
  /// The operation is one that supports() took, and inputs lie as input_layout() asks.
  [[nodiscard]] virtual std::unique_ptr<Kernel> make_kernel(const KernelRequest& request) const = 0;

  /// Queue `index`, made when first asked for. Queues run concurrently; the number is bounded by
  /// num_queues().
  virtual CommandQueue& queue(int index) = 0;
  [[nodiscard]] virtual int num_queues() const = 0;
  /// Of everything that a plan places in a buffer, in bytes: a power of two.
  [[nodiscard]] virtual std::size_t alignment() const { return 64; }
  /// Whether plans should gather steps that do not depend on each other, and tell command buffers
  /// (CommandBuffer::begin_wave).
  [[nodiscard]] virtual bool wants_waves() const { return false; }
  /// Steps that are worth committing together.
  [[nodiscard]] virtual std::size_t steps_per_command_buffer() const = 0;
  /// Work that moves no more bytes than this is done sooner by the thread that asks for it than
  /// handed to an idle queue.
  [[nodiscard]] virtual std::size_t bytes_worth_a_queue() const { return 0; }
  /// Waits until nothing is done beside the work any more, compiling kernels above all, and returns
  /// how many such tasks have been done so far.
  virtual std::uint64_t finish_compiling() { return 0; }
  [[nodiscard]] virtual QueueStatistics queue_statistics() const = 0;
};

}  // namespace metal_candle::backend
