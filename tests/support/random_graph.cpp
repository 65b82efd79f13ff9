// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The pool, leaves, and elementwise operations. Errors are carried along by Lipschitz constants.
#include "tests/support/random_graph.h"

#include <cmath>

#include "tests/support/random_graph_builder.h"

namespace metal_candle::testing {
namespace {

constexpr double kMostError = 0.1;
constexpr double kMostBound = 8;

struct SmoothFunction {
  Tensor (*call)(const Tensor&);
  double slope;  // At most, or 0 if `bounds` says.
  double bound;  // Of the result, or 0 for that of the operand times the slope.
};

constexpr SmoothFunction kSmooth[] = {
    {tanh, 1, 1},   {sigmoid, 0.25, 1}, {sin, 1, 1},     {cos, 1, 1},          {erf, 1.13, 1},
    {atan, 1, 1.6}, {silu, 1.11, 0},    {gelu, 1.13, 0}, {gelu_tanh, 1.13, 0}, {relu, 1, 0},
    {abs, 1, 0},    {negative, 1, 0},   {asinh, 1, 0},
};

}  // namespace

double unit(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 1e-3;
    case DType::kBF16:
      return 8e-3;
    case DType::kF32:
      return 1e-6;
    default:
      return 0;
  }
}

bool broadcast_fits(const Shape& a, const Shape& b, std::int64_t limit) {
  std::int64_t count = 1;
  for (int i = 1; i <= std::max(a.rank(), b.rank()); ++i) {
    const std::int64_t x = i <= a.rank() ? a[a.rank() - i] : 1;
    const std::int64_t y = i <= b.rank() ? b[b.rank() - i] : 1;
    if (x != y && x != 1 && y != 1) return false;
    count *= x == 1 ? y : x;
  }
  return count <= limit;
}

RandomGraphBuilder::RandomGraphBuilder(std::uint64_t seed) : random_(seed) {
  const int leaves = 2 + random_.below(3);
  for (int i = 0; i < leaves; ++i) pool_.push_back(leaf(random_shape(), random_float()));
  pool_.push_back(leaf(random_shape(), random_.chance(50) ? DType::kI32 : DType::kU8));
}

Shape RandomGraphBuilder::random_shape() {
  static constexpr std::int64_t kLengths[] = {1, 2, 3, 4, 4, 4, 5, 6, 8, 8, 17};
  Shape shape;
  const int rank = random_.chance(10) ? 0 : 1 + random_.below(3);
  for (int axis = 0; axis < rank; ++axis) {
    shape.push_back(random_.chance(1) ? 0 : kLengths[random_.below(std::size(kLengths))]);
  }
  if (rank > 0 && random_.chance(5)) shape[0] = 70;
  return shape;
}

DType RandomGraphBuilder::random_float() {
  return random_.chance(75) ? DType::kF32 : random_.chance(50) ? DType::kBF16 : DType::kF16;
}

TameTensor RandomGraphBuilder::leaf(const Shape& shape, DType dtype) {
  const auto count = static_cast<std::size_t>(num_elements(shape));
  double bound = 0;
  const Tensor tensor = dispatch_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    const auto elements = std::make_unique<T[]>(count);
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (is_floating(dtype_of<T>())) {
        elements[i] = static_cast<T>(static_cast<float>(random_.real(-1, 1)));
        bound = 1;
      } else if constexpr (std::same_as<T, bool>) {
        elements[i] = random_.chance(50);
        bound = 1;
      } else {
        const int low = is_unsigned(dtype_of<T>()) ? 0 : -9;
        elements[i] = static_cast<T>(low + random_.below(10 - low));
        bound = 9;
      }
    }
    return Tensor(std::span<const T>(elements.get(), count), shape);
  });
  if (shape.rank() >= 2 && random_.chance(25)) {
    // The same as a view of evaluated memory.
    const Tensor turned = swapaxes(swapaxes(tensor, 0, -1) + zeros({}, dtype), 0, -1);
    if (turned.dtype() == dtype) return {turned.eval(), bound, 0};
  }
  return {tensor, bound, 0};
}

TameTensor RandomGraphBuilder::index_leaf(const Shape& shape, std::int64_t length) {
  const auto count = static_cast<std::size_t>(num_elements(shape));
  std::vector<std::int32_t> elements(count);
  for (std::int32_t& element : elements) {
    element = static_cast<std::int32_t>(random_.below(2 * length) - length);
  }
  return {Tensor(elements, shape), static_cast<double>(length), 0};
}

std::optional<TameTensor> RandomGraphBuilder::pick(
    const std::function<bool(const TameTensor&)>& wanted) {
  for (int attempt = 0; attempt < 12; ++attempt) {
    const auto size = static_cast<std::int64_t>(pool_.size());
    const std::int64_t recent = std::min<std::int64_t>(size, 6);
    const std::int64_t at =
        random_.chance(60) ? size - 1 - random_.below(recent) : random_.below(size);
    const TameTensor& candidate = pool_[static_cast<std::size_t>(at)];
    if (wanted(candidate)) return candidate;
  }
  return {};
}

std::optional<TameTensor> RandomGraphBuilder::pick_real(int least_rank) {
  return pick([&](const TameTensor& t) { return t.is_real() && t.rank() >= least_rank; });
}
std::optional<TameTensor> RandomGraphBuilder::pick_any() {
  return pick([](const TameTensor&) { return true; });
}

bool RandomGraphBuilder::give(Tensor tensor, double bound, double error) {
  if (!is_floating(tensor.dtype())) {
    error = 0;
  } else if (bound > kMostBound) {
    const double factor = std::exp2(-std::ceil(std::log2(bound)));
    tensor = tensor * factor;
    error = error * factor;
    bound *= factor;
  }
  if (error > kMostError || std::isnan(error)) return false;
  pool_.push_back({std::move(tensor), bound, error});
  return true;
}

void RandomGraphBuilder::step() {
  using Step = bool (RandomGraphBuilder::*)();
  // Repeated by weight.
  static constexpr Step kSteps[] = {
      &RandomGraphBuilder::unary,          &RandomGraphBuilder::unary,
      &RandomGraphBuilder::unary,          &RandomGraphBuilder::binary,
      &RandomGraphBuilder::binary,         &RandomGraphBuilder::binary,
      &RandomGraphBuilder::binary,         &RandomGraphBuilder::scalar_operand,
      &RandomGraphBuilder::scalar_operand, &RandomGraphBuilder::compare,
      &RandomGraphBuilder::select,         &RandomGraphBuilder::convert,
      &RandomGraphBuilder::whole_numbers,  &RandomGraphBuilder::rearrange,
      &RandomGraphBuilder::rearrange,      &RandomGraphBuilder::rearrange,
      &RandomGraphBuilder::resize,         &RandomGraphBuilder::resize,
      &RandomGraphBuilder::join,           &RandomGraphBuilder::read_by_index,
      &RandomGraphBuilder::write_by_index, &RandomGraphBuilder::reduce,
      &RandomGraphBuilder::reduce,         &RandomGraphBuilder::running,
      &RandomGraphBuilder::sorting,        &RandomGraphBuilder::product,
      &RandomGraphBuilder::product,        &RandomGraphBuilder::projection,
      &RandomGraphBuilder::normalize,      &RandomGraphBuilder::spelled_softmax,
      &RandomGraphBuilder::spelled_norm,   &RandomGraphBuilder::attend,
      &RandomGraphBuilder::loss,           &RandomGraphBuilder::position,
  };
  if (random_.chance(6)) {
    static constexpr DType kDTypes[] = {DType::kF32,  DType::kF32, DType::kBF16, DType::kF16,
                                        DType::kBool, DType::kU8,  DType::kI8,   DType::kI32,
                                        DType::kU32,  DType::kI64};
    pool_.push_back(leaf(random_shape(), kDTypes[random_.below(std::size(kDTypes))]));
    return;
  }
  for (int attempt = 0; attempt < 20; ++attempt) {
    if ((this->*kSteps[random_.below(std::size(kSteps))])()) return;
  }
}

bool RandomGraphBuilder::unary() {
  const auto x = pick_real();
  if (!x) return false;
  const double b = x->bound;
  const double e = x->error;
  const auto result = [&](const Tensor& y, double slope, double bound) {
    return give(y, bound, slope * e + rounding(y, bound));
  };
  switch (random_.below(14)) {
    case 0:
      return b <= 4 && result(exp(x->tensor), std::exp(b), std::exp(b));
    case 1:
      return result(square(x->tensor), 2 * (b + e), b * b);
    case 2: {  // sqrt(|x| + 1), with its rounding.
      const Tensor y = sqrt(abs(x->tensor) + 1.0);
      return give(y, std::sqrt(b + 1), 0.5 * e + 2 * rounding(y, b + 1));
    }
    case 3: {
      const Tensor y = rsqrt(square(x->tensor) + 1.0);
      return give(y, 1, e + 2 * rounding(y, b * b + 1));
    }
    case 4:
      return result(log1p(abs(x->tensor)), 1, std::log1p(b));
    case 5: {
      const Tensor y = power(x->tensor, random_.chance(50) ? 2.0 : 3.0);
      return give(y, std::max(b * b, b * b * b),
                  std::max(2 * (b + e), 3 * (b + e) * (b + e)) * e +
                      rounding(y, std::max(b * b, b * b * b)));
    }
    default: {
      const SmoothFunction& f = kSmooth[random_.below(std::size(kSmooth))];
      const double bound = f.bound > 0 ? f.bound : b * f.slope;
      const Tensor y = f.call(x->tensor);
      const bool moves_bits = f.call == static_cast<Tensor (*)(const Tensor&)>(abs) ||
                              f.call == static_cast<Tensor (*)(const Tensor&)>(negative) ||
                              f.call == static_cast<Tensor (*)(const Tensor&)>(relu);
      if (moves_bits) return give(y, b, e);
      return give(y, bound, f.slope * e + rounding(y, std::max(bound, b)));
    }
  }
}

bool RandomGraphBuilder::binary() {
  const auto a = pick_real();
  if (!a) return false;
  const auto b = pick([&](const TameTensor& t) {
    return t.is_real() && broadcast_fits(a->shape(), t.shape(), kMostElements);
  });
  if (!b) return false;
  const Tensor &x = a->tensor, &y = b->tensor;
  const double A = a->bound, B = b->bound, e = a->error, f = b->error;
  const DType dtype = promote(a->dtype(), b->dtype());
  const double r = unit(dtype);
  switch (random_.below(9)) {
    case 0:
    case 1:
      return give(x + y, A + B, e + f + r * (A + B));
    case 2:
      return give(x - y, A + B, e + f + r * (A + B));
    case 3:
    case 4:
      return give(x * y, A * B, e * (B + f) + f * A + r * A * B);
    case 5:
      return give(maximum(x, y), std::max(A, B), std::max(e, f));
    case 6:
      return give(minimum(x, y), std::max(A, B), std::max(e, f));
    case 7:
      return give(x / (abs(y) + 1.0), A,
                  e + (A + e) * (f + unit(b->dtype()) * (B + 1)) + 2 * r * A);
    default:
      return random_.chance(50) ? give(logaddexp(x, y), std::max(A, B) + 0.7,
                                       std::max(e, f) + r * (std::max(A, B) + 1))
                                : give(hypot(x, y), A + B, e + f + r * (A + B));
  }
}

bool RandomGraphBuilder::scalar_operand() {
  const auto a = pick_real();
  if (!a) return false;
  const Tensor& x = a->tensor;
  const double b = a->bound, e = a->error, r = unit(a->dtype());
  switch (random_.below(7)) {
    case 0:
      return give(x * 0.5, b / 2, e / 2 + r * b);
    case 1:
      return give(x + 1, b + 1, e + r * (b + 1));
    case 2:
      return give(1.0 - x, b + 1, e + r * (b + 1));
    case 3:
      return give(x / 3.0, b / 3, e / 3 + r * b);
    case 4:
      return give(maximum(x, 0.125), std::max(b, 0.125), e);
    case 5:
      return give(clip(x, -0.5, 0.5), 0.5, e);
    default:
      return give(2 - x * 0.25, b / 4 + 2, e / 4 + 2 * r * (b + 2));
  }
}

bool RandomGraphBuilder::compare() {
  const auto a = pick([](const TameTensor& t) { return t.exact(); });
  if (!a) return false;
  const auto b = pick([&](const TameTensor& t) {
    return t.exact() && t.is_real() == a->is_real() && t.dtype() == a->dtype() &&
           broadcast_fits(a->shape(), t.shape(), kMostElements);
  });
  if (!b) return false;
  using Predicate = Tensor (*)(const Operand&, const Operand&);
  static constexpr Predicate kPredicates[] = {equal,       not_equal,  less,
                                              less_equal,  greater,    greater_equal,
                                              logical_and, logical_or, logical_xor};
  return give(kPredicates[random_.below(std::size(kPredicates))](a->tensor, b->tensor), 1, 0);
}

bool RandomGraphBuilder::select() {
  const auto condition = pick([](const TameTensor& t) { return t.dtype() == DType::kBool; });
  if (!condition) return false;
  const auto a = pick([&](const TameTensor& t) {
    return t.is_real() && broadcast_fits(t.shape(), condition->shape(), kMostElements);
  });
  if (!a) return false;
  if (random_.chance(30)) {
    return give(where(condition->tensor, a->tensor, 0.25), std::max(a->bound, 0.25), a->error);
  }
  const auto b = pick([&](const TameTensor& t) {
    return t.dtype() == a->dtype() && broadcast_fits(t.shape(), condition->shape(), 100) &&
           broadcast_fits(t.shape(), a->shape(), kMostElements);
  });
  if (!b) return false;
  // All three together.
  if (!broadcast_fits(broadcast_shapes("select", a->shape(), b->shape()), condition->shape(),
                      kMostElements)) {
    return false;
  }
  return give(where(condition->tensor, a->tensor, b->tensor), std::max(a->bound, b->bound),
              std::max(a->error, b->error));
}

bool RandomGraphBuilder::convert() {
  const auto a = pick_any();
  if (!a) return false;
  if (a->is_real()) {
    if (a->exact() && random_.chance(30)) {
      const DType to = random_.chance(50) ? DType::kI32 : DType::kI8;
      return give(astype(a->tensor * 4.0, to), 4 * a->bound + 1, 0);
    }
    const DType to = random_float();
    if (to == a->dtype()) return false;
    const bool widens = to == DType::kF32;
    return give(astype(a->tensor, to), a->bound, a->error + (widens ? 0 : unit(to) * a->bound));
  }
  if (a->bound > 200) return false;
  const DType to = random_.chance(70) ? random_float() : DType::kI64;
  return give(astype(a->tensor, to), a->bound, 0);
}

bool RandomGraphBuilder::whole_numbers() {
  const auto a = pick([](const TameTensor& t) { return t.is_whole(); });
  if (!a) return false;
  const auto b = pick([&](const TameTensor& t) {
    return t.is_whole() && broadcast_fits(a->shape(), t.shape(), kMostElements);
  });
  if (!b) return false;
  const Tensor &x = a->tensor, &y = b->tensor;
  // Results are reduced where they would otherwise grow; narrow types wrap first.
  const double most = std::max(a->bound, b->bound);
  switch (random_.below(10)) {
    case 0:
      return give(remainder(x + y, 101), 101, 0);
    case 1:
      return give(remainder(x * y, 97), 97, 0);
    case 2:
      return give(x & y, 256, 0);
    case 3:
      return give(bitwise_xor(x, y), 256, 0);
    case 4:
      return give(maximum(x, y), most, 0);
    case 5:
      return give(minimum(x, y), most, 0);
    case 6:
      return give(remainder(x - y, 89), 89, 0);
    case 7:
      return give(x >> 1, a->bound, 0);
    case 8:
      return give(floor_divide(x, 3), a->bound, 0);
    default:
      return give(remainder(square(x), 83), 83, 0);
  }
}

RandomGraph make_random_graph(std::uint64_t seed, int operations) {
  RandomGraphBuilder builder(seed);
  for (int i = 0; i < operations; ++i) builder.step();
  const std::vector<TameTensor>& pool = builder.pool();
  RandomSource random(seed ^ 0x5DEECE66Dull);
  RandomGraph graph;
  const int count = 1 + random.below(4);
  for (int i = 0; i < count; ++i) {
    const auto at =
        i == 0 ? pool.size() - 1
               : static_cast<std::size_t>(random.below(static_cast<std::int64_t>(pool.size())));
    graph.outputs.push_back(pool[at].tensor);
    graph.errors.push_back(pool[at].error);
  }
  return graph;
}

}  // namespace metal_candle::testing
