// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Tensor: construction from and reading back to the host, and the one way nodes are made.
#include "metal_candle/graph/tensor.h"

#include <fmt/format.h>

#include <array>

#include "metal_candle/core/error.h"
#include "metal_candle/core/host_observer.h"
#include "metal_candle/graph/host_contents.h"
#include "metal_candle/graph/shape_rules.h"

namespace metal_candle {
namespace detail {

Tensor make_node(Operation operation, std::span<const Tensor* const> inputs,
                 const TensorSpec& requested, Device device) {
  const ScopedPhase building(HostPhase::kBuild);
  constexpr std::size_t kInline = 8;
  std::array<const TensorSpec*, kInline> inline_specs;
  std::array<Node*, kInline> inline_nodes;
  std::vector<const TensorSpec*> heap_specs;
  std::vector<Node*> heap_nodes;
  const TensorSpec** specs = inline_specs.data();
  Node** nodes = inline_nodes.data();
  if (inputs.size() > kInline) {
    heap_specs.resize(inputs.size());
    heap_nodes.resize(inputs.size());
    specs = heap_specs.data();
    nodes = heap_nodes.data();
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i]->empty()) {
      throw Error(fmt::format("{}: operand {} is an empty tensor", name(operation), i));
    }
    nodes[i] = inputs[i]->node().get();
    specs[i] = &nodes[i]->spec();
    if (!(nodes[i]->device() == device)) {
      throw DeviceError(fmt::format("{}: operands are on {} and {}", name(operation),
                                    to_string(device), to_string(nodes[i]->device())));
    }
  }
  const TensorSpec spec = infer_output(operation, {specs, inputs.size()}, requested);
  const bool single = num_outputs(operation) == 1;
  Tensor tensor(Node::make(std::move(operation), spec, device, {nodes, inputs.size()}));
  // A node with several outputs is evaluated through its picks.
  if (single && eager_mode()) evaluate_eagerly(tensor);
  return tensor;
}

Tensor make_node(Operation operation, std::initializer_list<const Tensor*> inputs,
                 const TensorSpec& requested) {
  const Device device = inputs.size() == 0 || (*inputs.begin())->empty()
                            ? default_device()
                            : (*inputs.begin())->device();
  return make_node(std::move(operation),
                   std::span<const Tensor* const>(inputs.begin(), inputs.size()), requested,
                   device);
}

}  // namespace detail

namespace {

template <typename To, typename From>
To convert_element(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<From, Float16> || std::is_same_v<From, BFloat16>) {
    return static_cast<To>(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

// Whether elements of a tensor may be read as T.
template <typename T>
bool readable_as(DType dtype) {
  if constexpr (std::is_same_v<T, double> || std::is_same_v<T, float>)
    return is_floating(dtype);
  else
    return dtype_of<T>() == dtype;
}

template <typename T>
void require_readable(const char* what, DType dtype) {
  if (readable_as<T>(dtype)) return;
  throw DTypeError(
      fmt::format("{}: a tensor of {} cannot be read as this C++ type; use {}", what, name(dtype),
                  is_floating(dtype) ? "float, or the matching type" : "the matching type"));
}

// Calls fn(element) for each element in row-major order, evaluated.
template <typename T, typename Fn>
void read_elements(const Tensor& tensor, Fn fn) {
  const HostContents contents(tensor);
  dispatch_dtype(tensor.dtype(), [&](auto tag) {
    using From = decltype(tag);
    if constexpr (std::is_same_v<From, T> ||
                  ((std::is_same_v<T, float> || std::is_same_v<T, double>)&&(
                      std::is_same_v<From, Float16> || std::is_same_v<From, BFloat16> ||
                      std::is_same_v<From, float>))) {
      contents.for_each([&](const std::byte* element) {
        fn(convert_element<T>(*reinterpret_cast<const From*>(element)));
      });
    }
  });
}

}  // namespace

Tensor detail::make_leaf_from_host(const void* data, const TensorSpec& spec, Device device) {
  const std::size_t bytes = spec.bytes();
  Value value;
  value.storage = allocate_storage(device, bytes);
  value.strides = contiguous_strides(spec.shape);
  write_storage(*value.storage, {static_cast<const std::byte*>(data), bytes});
  return Tensor(Node::make_leaf(spec, std::move(value)));
}

template <ScalarValue T>
Tensor::Tensor(T value) {
  const auto make = [&](auto element) {
    *this = detail::make_leaf_from_host(&element, {Shape{}, dtype_of<decltype(element)>()},
                                        default_device());
  };
  if constexpr (std::is_same_v<T, double>)
    make(static_cast<float>(value));
  else
    make(value);
}

template <Element T>
Tensor::Tensor(std::span<const T> data, const Shape& shape) {
  if (static_cast<std::int64_t>(data.size()) != num_elements(shape)) {
    throw ShapeError(
        fmt::format("Tensor: {} elements do not fill shape {}", data.size(), to_string(shape)));
  }
  *this = detail::make_leaf_from_host(data.data(), {shape, dtype_of<T>()}, default_device());
}

std::int64_t Tensor::dim(int axis) const { return shape()[normalize_axis("dim", axis, rank())]; }

template <typename T>
T Tensor::item() const {
  require_readable<T>("item", dtype());
  if (size() != 1) {
    throw ShapeError(
        fmt::format("item: the tensor has shape {}, not one element", to_string(shape())));
  }
  T result{};
  read_elements<T>(*this, [&](T element) { result = element; });
  return result;
}

template <typename T>
std::vector<T> Tensor::to_vector() const {
  require_readable<T>("to_vector", dtype());
  std::vector<T> result;
  result.reserve(static_cast<std::size_t>(size()));
  read_elements<T>(*this, [&](T element) { result.push_back(element); });
  return result;
}

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  const HostContents contents(*this);
  if (contents.is_contiguous()) {
    return detail::make_leaf_from_host(contents.first(), spec(), device);
  }
  std::vector<std::byte> dense;
  dense.reserve(spec().bytes());
  contents.for_each([&](const std::byte* element) {
    dense.insert(dense.end(), element, element + size_of(dtype()));
  });
  return detail::make_leaf_from_host(dense.data(), spec(), device);
}

const Tensor& Tensor::eval() const {
  detail::evaluate_and_wait({this, 1});
  return *this;
}

#define METAL_CANDLE_INSTANTIATE(T)                          \
  template Tensor::Tensor(std::span<const T>, const Shape&); \
  template T Tensor::item<T>() const;                        \
  template std::vector<T> Tensor::to_vector<T>() const;
METAL_CANDLE_INSTANTIATE(bool)
METAL_CANDLE_INSTANTIATE(std::uint8_t)
METAL_CANDLE_INSTANTIATE(std::int8_t)
METAL_CANDLE_INSTANTIATE(std::int32_t)
METAL_CANDLE_INSTANTIATE(std::uint32_t)
METAL_CANDLE_INSTANTIATE(std::int64_t)
METAL_CANDLE_INSTANTIATE(Float16)
METAL_CANDLE_INSTANTIATE(BFloat16)
METAL_CANDLE_INSTANTIATE(float)
#undef METAL_CANDLE_INSTANTIATE
template double Tensor::item<double>() const;
template std::vector<double> Tensor::to_vector<double>() const;
template Tensor::Tensor(bool);
template Tensor::Tensor(std::uint8_t);
template Tensor::Tensor(std::int8_t);
template Tensor::Tensor(std::int32_t);
template Tensor::Tensor(std::uint32_t);
template Tensor::Tensor(std::int64_t);
template Tensor::Tensor(float);
template Tensor::Tensor(double);

}  // namespace metal_candle
