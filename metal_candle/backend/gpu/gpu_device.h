// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What CUDA and Metal have in common, as kernels see it: functions that a grid of thread groups
// runs, an encoder that puts them in a command buffer, and matrix products of a library or of our
// own.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "metal_candle/backend/tuning.h"
#include "metal_candle/core/dtype.h"
#include "metal_candle/core/shape.h"
#include "metal_candle/graph/operation.h"

struct TileMap;  // kernels/arguments.h

namespace metal_candle::backend::gpu {

/// A compiled kernel of the dialect (dialect.h). Alive until the process ends.
class Function {
 public:
  virtual ~Function() = default;
  /// The same for several dispatches in one (kernels/merged.h), or null. Who asks wants it: where
  /// it is still to be compiled, that begins, and it is null until it is done. Throws DeviceError
  /// if it does not compile.
  [[nodiscard]] virtual const Function* merged() const { return nullptr; }
};

/// A kernel that is, perhaps, still being compiled. Thread safe.
class PendingFunction {
 public:
  /// Null until it is compiled. Throws DeviceError, naming the kernel, if it does not compile.
  [[nodiscard]] const Function* get() const;
  /// By who compiles it, one of these once.
  void deliver(const Function& function);
  void fail(std::string reason);

 private:
  std::atomic<const Function*> function_{nullptr};
  std::atomic<bool> failed_{false};
  std::string reason_;
};

/// Groups of a grid.
struct Grid {
  std::uint32_t x = 1;  // Up to 2^31 - 1.
  std::uint32_t y = 1;  // Up to 65535, as z.
  std::uint32_t z = 1;
};

/// Groups of a one-dimensional grid for `count` elements.
inline std::uint32_t groups_for(std::int64_t count, std::int64_t elements_per_group) {
  return static_cast<std::uint32_t>((count + elements_per_group - 1) / elements_per_group);
}
inline std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

/// A matrix product: out = activation(alpha * a @ b + beta * c + bias), row-major, accumulated in
/// f32, for each of a batch. Matrices are described as they lie; one of their two strides is 1.
struct MatmulDescription {
  struct Matrix {
    std::int64_t row_stride = 0;  // Elements.
    std::int64_t column_stride = 0;
    std::int64_t batch_stride = 0;  // 0 where every product has the same.
  };
  std::int64_t batch = 1;
  std::int64_t m = 0, n = 0, k = 0;
  Matrix a;  // [m, k]
  Matrix b;  // [k, n]
  std::int64_t out_row_stride = 0;
  std::int64_t out_batch_stride = 0;
  DType operands = DType::kF32;  // Of a and b: f32, f16 or bf16.
  DType out = DType::kF32;       // Of out, c and bias: that, or f32.
  float alpha = 1;
  float beta = 0;         // 0: c is not read.
  bool has_bias = false;  // bias [n].
  op::Activation activation = op::Activation::kNone;
  // It stands in for a kernel of ours that almost always runs: what is slow about making it may
  // wait until it runs.
  bool seldom = false;
};

/// The addresses of a product.
struct MatmulOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;
  const void* c = nullptr;  // As out lies; may be out.
  void* out = nullptr;
  void* scratch = nullptr;
};

class Encoder;

/// A product made ready: immutable, thread safe.
class Matmul {
 public:
  virtual ~Matmul() = default;
  /// Where a product is dispatches, encodes them and returns true. Else Encoder::matmul() takes it
  /// as it is.
  virtual bool encode(const MatmulOperands& operands, Encoder& encoder) const {
    static_cast<void>(operands), static_cast<void>(encoder);
    return false;
  }
  [[nodiscard]] std::size_t scratch_bytes() const { return scratch_bytes_; }
  /// Unlike that of any other product of this process.
  [[nodiscard]] std::uint64_t id() const { return id_; }

 protected:
  std::size_t scratch_bytes_ = 0;

 private:
  static inline std::atomic<std::uint64_t> next_id_{1};
  const std::uint64_t id_ = next_id_.fetch_add(1, std::memory_order_relaxed);
};

/// Puts work into a command buffer, in order. Each piece sees what those before it wrote, except
/// that of pieces between concurrently(true) and concurrently(false) none needs another.
class Encoder {
 public:
  virtual ~Encoder() = default;
  /// Runs `function` over grid.x * grid.y * grid.z groups of `threads` threads each. `arguments` is
  /// the function's struct, which is copied. A grid of no groups does nothing.
  template <typename Arguments>
  void dispatch(const Function& function, Grid grid, std::uint32_t threads,
                const Arguments& arguments, std::uint32_t dynamic_group_bytes = 0) {
    static_assert(std::is_trivially_copyable_v<Arguments>);
    static_assert(sizeof(Arguments) <= 4096);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    dispatch_bytes(function, grid, threads, dynamic_group_bytes, &arguments, sizeof(Arguments));
  }
  virtual void concurrently(bool begin) { static_cast<void>(begin); }
  /// Sets `bytes` bytes at `address` to 0.
  virtual void zero(void* address, std::size_t bytes) = 0;
  virtual void matmul(const Matmul& product, const MatmulOperands& operands) = 0;
  virtual void dispatch_bytes(const Function& function, Grid grid, std::uint32_t threads,
                              std::uint32_t dynamic_group_bytes, const void* arguments,
                              std::size_t bytes) = 0;
};

/// The least memory of a group that a device has: Apple GPUs have no more.
inline constexpr std::uint32_t kLeastGroupBytes = 32 << 10;

/// What kernels are compiled and tuned for.
struct DeviceLimits {
  std::uint32_t multiprocessors = 1;
  std::uint32_t max_threads = 1024;          // Of a group.
  std::uint32_t group_bytes = 48 << 10;      // Memory of a group that every device has.
  std::uint32_t max_group_bytes = 48 << 10;  // The most that can be asked for dynamically.
  int architecture = 0;                      // CUDA: 90 for compute capability 9.0. Else 0.
  bool wide_products = false;                // It has the dialect's wide products.
  std::int64_t few_rows = 4;  // Of a product, up to which our kernel is quicker than the library.
};

/// Rows of 16-bit elements, and the boxes of them that are copied at once: up to 256 rows of up to
/// 64 elements. Rows begin at multiples of 16 bytes.
struct BoxedMatrix {
  const void* data = nullptr;
  std::int64_t rows = 0, columns = 0, row_stride = 0;  // Elements.
  std::int64_t box_rows = 0, box_columns = 0;
};

/// Where kernels come from. Thread safe.
class GpuDevice {
 public:
  virtual ~GpuDevice() = default;
  [[nodiscard]] virtual const DeviceLimits& limits() const = 0;
  /// What was chosen by measuring on this device.
  [[nodiscard]] virtual const Tuning& tuning() const;
  /// The kernel of that name among those compiled with the library. Throws DeviceError when there
  /// is none.
  virtual const Function& function(std::string_view name) = 0;
  /// Compiles dialect text that defines the kernel `name` by MC_KERNEL_MERGED (after dialect.h, but
  /// for tiles and what comes after them, and kernels/common.h, which are there already). The same
  /// text is compiled once a process, and on CUDA once a user: it is kept on disk.
  virtual const Function& compile(std::string_view name, const std::string& source) = 0;
  /// The same, without waiting where compiling takes long and can be done by another thread: then
  /// the caller gets by with something else for a while. Here it is compiled at once. Devices that
  /// compile later have the kernel `element_program`.
  virtual std::shared_ptr<const PendingFunction> compile_later(std::string_view name,
                                                               const std::string& source);
  /// As Backend::finish_compiling(). For those who measure.
  virtual std::uint64_t finish_compiling() { return 0; }
  /// Null if the device cannot do this product with its library in this form (an odd stride, an
  /// activation it does not have): then the caller asks for less and does the rest with a kernel.
  /// Products of one description may be one object.
  virtual std::shared_ptr<const Matmul> make_matmul(const MatmulDescription& description) = 0;
  /// For copy_tile() of the dialect. Only where limits().wide_products.
  virtual void describe(const BoxedMatrix& matrix, TileMap& out) const;
};

/// The library's product. Throws DeviceError, naming the operation and the shapes, if it has none.
[[nodiscard]] std::shared_ptr<const Matmul> require_matmul(GpuDevice& device,
                                                           const MatmulDescription& description,
                                                           std::string_view operation);

}  // namespace metal_candle::backend::gpu
