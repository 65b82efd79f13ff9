// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tensor: a value handle on a node of the lazy graph. Operations are free functions (ops.h).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "metal_candle/core/device.h"
#include "metal_candle/core/dtype.h"
#include "metal_candle/core/shape.h"
#include "metal_candle/graph/node.h"

namespace metal_candle {

class Future;  // execute/future.h

/// The C++ types that a tensor's elements can have.
template <typename T>
concept Element = std::same_as<T, bool> || std::same_as<T, std::uint8_t> ||
    std::same_as<T, std::int8_t> || std::same_as<T, std::int32_t> ||
    std::same_as<T, std::uint32_t> || std::same_as<T, std::int64_t> || std::same_as<T, Float16> ||
    std::same_as<T, BFloat16> || std::same_as<T, float>;

/// The C++ types that may stand for a scalar operand.
template <typename T>
concept ScalarValue = std::integral<T> || std::floating_point<T>;

/// A half-open range of indices along an axis, as Python's start:stop:step. Negative bounds count
/// from the end; kEnd (the default stop) is past the last element in the direction of step.
struct Range {
  static constexpr std::int64_t kEnd = INT64_MAX;
  std::int64_t start = kEnd;  // kEnd: the first element in the direction of step.
  std::int64_t stop = kEnd;
  std::int64_t step = 1;
};

/// A handle on a lazy n-dimensional array. Copying copies the handle. Handles are immutable values:
/// different threads may use the same node through handles of their own, building and evaluating at
/// once; one handle object must not be assigned to while another thread reads it.
class Tensor {
 public:
  /// No tensor: only assignment, comparison with empty() and destruction are allowed.
  Tensor() = default;
  explicit Tensor(NodePtr node) : node_(std::move(node)) {}

  /// A 0-d tensor that holds the value in memory, as an input of graphs: use this for whatever
  /// changes from step to step (a learning rate), so that plans are reused. double becomes f32.
  template <ScalarValue T>
  explicit Tensor(T value);
  /// Copies `data`, row-major. Throws ShapeError unless data.size() is the product of shape.
  template <Element T>
  Tensor(std::span<const T> data, const Shape& shape);
  template <Element T>
  Tensor(const std::vector<T>& data, const Shape& shape) requires(!std::same_as<T, bool>)
      : Tensor(std::span<const T>(data), shape) {}
  /// A 1-d tensor: Tensor({1.0f, 2.0f}).
  template <Element T>
  Tensor(std::initializer_list<T> data)
      : Tensor(std::span<const T>(data.begin(), data.size()),
               Shape{static_cast<std::int64_t>(data.size())}) {}
  template <Element T>
  Tensor(std::initializer_list<T> data, const Shape& shape)
      : Tensor(std::span<const T>(data.begin(), data.size()), shape) {}

  [[nodiscard]] bool empty() const { return !node_; }
  [[nodiscard]] const Shape& shape() const { return node_->spec().shape; }
  /// The length of an axis; negative counts from the end. Throws ShapeError.
  [[nodiscard]] std::int64_t dim(int axis) const;
  [[nodiscard]] int rank() const { return shape().rank(); }
  /// The number of elements.
  [[nodiscard]] std::int64_t size() const { return num_elements(shape()); }
  [[nodiscard]] DType dtype() const { return node_->spec().dtype; }
  [[nodiscard]] const TensorSpec& spec() const { return node_->spec(); }
  [[nodiscard]] Device device() const { return node_->device(); }

  /// Whether evaluation has been asked for: the tensor has memory, which async evaluation may still
  /// be filling.
  [[nodiscard]] bool is_evaluated() const { return node_->resolved(); }
  /// The number of unevaluated nodes at and below this one: what eval() would trace.
  [[nodiscard]] std::size_t graph_size() const;

  /// Computes it and waits. Throws what the computation threw. Only this tensor gets storage: what
  /// it was computed from stays unevaluated (name several outputs to metal_candle::eval() to keep
  /// several).
  const Tensor& eval() const;
  /// Queues the computation. See eval_async() in execute/evaluate.h.
  Future eval_async() const;

  /// The value of a tensor of one element, evaluated. T must be the C++ type of dtype(), but any
  /// floating dtype also reads as float or double. Throws ShapeError, DTypeError.
  template <typename T>
  [[nodiscard]] T item() const;
  /// All elements, row-major, evaluated. The same rule for T.
  template <typename T>
  [[nodiscard]] std::vector<T> to_vector() const;

  /// A copy on another device, which no gradient flows through: evaluates this tensor, waits, and
  /// goes by way of the host. The tensor itself if it is there already.
  [[nodiscard]] Tensor to(Device device) const;

  /// Element i of the first axis, which vanishes.
  Tensor operator[](std::int64_t index) const;
  /// A view: ranges for the leading axes, the others whole. x.slice({{0, 3}, {.step = 2}}).
  [[nodiscard]] Tensor slice(std::initializer_list<Range> ranges) const;
  [[nodiscard]] Tensor slice(std::span<const Range> ranges) const;
  [[nodiscard]] Tensor reshape(const Shape& shape) const;
  [[nodiscard]] Tensor transpose() const;
  [[nodiscard]] Tensor astype(DType dtype) const;

  /// Whether both are handles on the same node.
  [[nodiscard]] bool same_node(const Tensor& other) const { return node_ == other.node_; }
  [[nodiscard]] const NodePtr& node() const { return node_; }

 private:
  NodePtr node_;
};

/// An operand of a binary function: a tensor, or a C++ scalar that takes the tensor's dtype (a
/// floating scalar makes an integer tensor f32). Scalars are attributes of the graph: see
/// Tensor(value) for those that change.
class Operand {
 public:
  Operand(const Tensor& tensor) : tensor_(&tensor) {}  // NOLINT(google-explicit-constructor)
  template <ScalarValue T>
  Operand(T value)  // NOLINT(google-explicit-constructor)
      : scalar_(std::floating_point<T> ? Scalar::from_real(static_cast<double>(value))
                                       : Scalar::from_integer(static_cast<std::int64_t>(value))),
        kind_(std::same_as<T, bool>    ? DType::kBool
              : std::floating_point<T> ? DType::kF32
                                       : DType::kI32) {}
  [[nodiscard]] const Tensor* tensor() const { return tensor_; }
  [[nodiscard]] Scalar scalar() const { return scalar_; }
  /// kBool, kI32 or kF32: the kind of scalar.
  [[nodiscard]] DType scalar_kind() const { return kind_; }

 private:
  const Tensor* tensor_ = nullptr;
  Scalar scalar_;
  DType kind_ = DType::kF32;
};

namespace detail {
/// Builds a node (and, in eager mode, evaluates it). infer_outputs() checks the inputs and gives
/// the spec; `requested` says what the inputs do not (see shape_rules.h). This is the one way nodes
/// are made.
Tensor make_node(Operation operation, std::span<const Tensor* const> inputs,
                 const TensorSpec& requested, Device device);
Tensor make_node(Operation operation, std::initializer_list<const Tensor*> inputs,
                 const TensorSpec& requested = {});

/// Host memory to a leaf. Copies bytes.
Tensor make_leaf_from_host(const void* data, const TensorSpec& spec, Device device);

// Implemented by execute/, which this layer does not include.
StoragePtr allocate_storage(Device device, std::size_t bytes);
StoragePtr borrow_storage(Device device, std::span<const std::byte> bytes,
                          std::shared_ptr<const void> owner);
void write_storage(Storage& storage, std::span<const std::byte> bytes);
void read_storage(const Storage& storage, std::size_t offset, std::span<std::byte> bytes);
void evaluate_and_wait(std::span<const Tensor> outputs);
void evaluate_eagerly(const Tensor& tensor);
/// Whether the calling thread builds in ExecutionMode::Eager.
bool eager_mode();
}  // namespace detail

}  // namespace metal_candle
