// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The accuracy that vector_math-inl.h states, for every instruction set this machine has, over
// dense samples of all floats and the special values, against double-precision libm.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/backend/vector_math_test.cpp"
#include "hwy/foreach_target.h"
//
#include "metal_candle/backend/cpu/vector_math-inl.h"

#ifndef VECTOR_MATH_TEST_COMMON_
#define VECTOR_MATH_TEST_COMMON_
#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <vector>

namespace metal_candle::backend::cpu {
using ArrayFunction = void (*)(const float* in, float* out, std::size_t count);
// In the order of the table in this file's HWY_ONCE part.
struct VectorFunctions {
  ArrayFunction exp, exp_flush, expm1, log, log1p, log2, log10, tanh, erf, erfinv, sigmoid, silu,
      gelu, gelu_tanh, sin, cos, tan, log_add_exp_with_one;
};
}  // namespace metal_candle::backend::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {

#define APPLY(Function)                                          \
  [](const float* in, float* out, std::size_t count) HWY_ATTR {  \
    const hn::ScalableTag<float> d;                              \
    for (std::size_t i = 0; i < count; i += hn::Lanes(d)) {      \
      hn::StoreU(Function(d, hn::LoadU(d, in + i)), d, out + i); \
    }                                                            \
  }

template <class D, class V>
V LogAddExpWithOne(D d, V x) {
  return LogAddExp(d, x, hn::Set(d, 1.0f));
}

VectorFunctions GetVectorFunctions() {
  return {APPLY(Exp),    APPLY(ExpFlush), APPLY(Expm1),
          APPLY(Log),    APPLY(Log1p),    APPLY(Log2),
          APPLY(Log10),  APPLY(Tanh),     APPLY(Erf),
          APPLY(ErfInv), APPLY(Sigmoid),  APPLY(Silu),
          APPLY(Gelu),   APPLY(GeluTanh), APPLY(Sin),
          APPLY(Cos),    APPLY(Tan),      APPLY(LogAddExpWithOne)};
}

}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {
HWY_EXPORT(GetVectorFunctions);

// Inputs: every kStep-th float pattern in [lo, hi] and its negation, and the special values.
std::vector<float> samples(float lo, float hi, std::uint32_t step = 4999) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values = {0.0f,
                               -0.0f,
                               1.0f,
                               -1.0f,
                               infinity,
                               -infinity,
                               0x1p-149f,
                               -0x1p-149f,
                               0x1p-126f,
                               -0x1p-126f,
                               0.5f,
                               -0.5f,
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::lowest(),
                               std::numeric_limits<float>::quiet_NaN()};
  for (float v :
       {88.3762589f, 88.72283f, 88.72284f, 87.3365479f, 103.27893f, 103.972f, 9.01f, 3.92f}) {
    values.push_back(v);
    values.push_back(-v);
  }
  const auto last = std::bit_cast<std::uint32_t>(hi);
  for (auto bits = std::bit_cast<std::uint32_t>(lo); bits <= last; bits += step) {
    values.push_back(std::bit_cast<float>(bits));
    values.push_back(-std::bit_cast<float>(bits));
  }
  while (values.size() % 64 != 0) values.push_back(0.25f);
  return values;
}

double ulp_of(double reference) {
  const double magnitude = std::abs(reference);
  if (magnitude < 0x1p-126) return 0x1p-149;
  return std::ldexp(1.0, std::ilogb(magnitude) - 23);
}

class VectorMathTest : public testing::TestWithParam<std::int64_t> {
 protected:
  VectorMathTest() {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    f = HWY_DYNAMIC_DISPATCH(GetVectorFunctions)();
  }
  ~VectorMathTest() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }

  // `slack(x)` is an absolute error allowed besides max_ulp.
  template <typename Reference, typename Slack>
  void check(const char* name, ArrayFunction function, Reference reference, double max_ulp,
             const std::vector<float>& in, Slack slack) {
    std::vector<float> out(in.size());
    function(in.data(), out.data(), in.size());
    double worst = 0;
    float worst_at = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double expected = reference(static_cast<double>(in[i]));
      const auto rounded = static_cast<float>(expected);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(out[i])) << name << "(" << in[i] << ") = " << out[i];
        continue;
      }
      if (expected == 0 && in[i] == 0) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(out[i]), std::bit_cast<std::uint32_t>(rounded))
            << name << "(" << in[i] << ") = " << out[i];
        continue;
      }
      if (std::isinf(rounded) || std::isinf(out[i])) {
        // Within an ulp of the overflow threshold either is right.
        const bool near = std::abs(std::abs(expected) / 0x1.fffffep127 - 1) < 3e-7;
        ASSERT_TRUE(out[i] == rounded || near || slack(static_cast<double>(in[i])) > 1e300)
            << name << "(" << in[i] << ") = " << out[i] << ", not " << rounded;
        continue;
      }
      double error = std::abs(static_cast<double>(out[i]) - expected);
      error = std::max(0.0, error - slack(static_cast<double>(in[i]))) / ulp_of(expected);
      if (error > worst) worst = error, worst_at = in[i];
    }
    EXPECT_LE(worst, max_ulp) << name << " is off by that many ulp at " << worst_at;
    RecordProperty(name, std::to_string(worst));
  }
  template <typename Reference>
  void check(const char* name, ArrayFunction function, Reference reference, double max_ulp,
             const std::vector<float>& in = samples(0x1p-149f, 0x1.fffffep127f)) {
    check(name, function, reference, max_ulp, in, [](double) { return 0.0; });
  }

  VectorFunctions f;
};

TEST_P(VectorMathTest, Exponentials) {
  check(
      "exp", f.exp, [](double x) { return std::exp(x); }, 1.2);
  check(
      "exp", f.exp, [](double x) { return std::exp(x); }, 1.2, samples(0.01f, 110.0f, 37));
  check(
      "expm1", f.expm1, [](double x) { return std::expm1(x); }, 2.0);
  check(
      "expm1", f.expm1, [](double x) { return std::expm1(x); }, 2.0, samples(0.01f, 90.0f, 37));
}

TEST_P(VectorMathTest, ExpFlushGivesUpOnlyTheExtremes) {
  const auto slack = [](double x) { return x > 88.37 ? 1e301 : x < -87.68 ? 1.2e-38 : 0.0; };
  check(
      "exp_flush", f.exp_flush, [](double x) { return std::exp(x); }, 1.2,
      samples(0.001f, 200.0f, 37), slack);
}

TEST_P(VectorMathTest, Logarithms) {
  check(
      "log", f.log, [](double x) { return std::log(x); }, 1.0);
  check(
      "log", f.log, [](double x) { return std::log(x); }, 1.0, samples(0.5f, 2.0f, 17));
  check(
      "log1p", f.log1p, [](double x) { return std::log1p(x); }, 2.0);
  check(
      "log1p", f.log1p, [](double x) { return std::log1p(x); }, 2.0, samples(1e-4f, 4.0f, 37));
  check(
      "log2", f.log2, [](double x) { return std::log2(x); }, 2.0);
  check(
      "log2", f.log2, [](double x) { return std::log2(x); }, 2.0, samples(0.5f, 2.0f, 17));
  check(
      "log10", f.log10, [](double x) { return std::log10(x); }, 2.0);
  check(
      "log10", f.log10, [](double x) { return std::log10(x); }, 2.0, samples(0.5f, 2.0f, 17));
  std::vector<float> powers(64), out(64);
  for (int i = 0; i < 64; ++i) powers[static_cast<std::size_t>(i)] = std::ldexp(1.0f, 3 * i - 100);
  f.log2(powers.data(), out.data(), 64);
  for (int i = 0; i < 64; ++i)
    EXPECT_EQ(out[static_cast<std::size_t>(i)], static_cast<float>(3 * i - 100));
}

TEST_P(VectorMathTest, Sigmoids) {
  check(
      "tanh", f.tanh, [](double x) { return std::tanh(x); }, 6.0);
  check(
      "tanh", f.tanh, [](double x) { return std::tanh(x); }, 6.0, samples(0.01f, 10.0f, 37));
  check(
      "erf", f.erf, [](double x) { return std::erf(x); }, 7.0);
  check(
      "erf", f.erf, [](double x) { return std::erf(x); }, 7.0, samples(0.01f, 5.0f, 37));
  const auto denormal = [](double x) { return x < 0 ? 0x1p-126 : 0.0; };
  check(
      "sigmoid", f.sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, 3.0,
      samples(1e-3f, 200.0f, 37), denormal);
  // Every saturated value is exactly 1, so that GELU of a large negative number is exactly 0.
  std::vector<float> in(64, -20.0f), out(64);
  f.erf(in.data(), out.data(), 64);
  EXPECT_EQ(out[0], -1.0f);
  f.tanh(in.data(), out.data(), 64);
  EXPECT_EQ(out[0], -1.0f);
}

TEST_P(VectorMathTest, Activations) {
  const auto close = [](double x) {
    return std::isfinite(x) ? 0x1p-22 * std::abs(x) + 0x1p-149 : 0.0;
  };
  check(
      "silu", f.silu, [](double x) { return x / (1 + std::exp(-x)); }, 3.0,
      samples(1e-3f, 500.0f, 37), [](double x) { return x < 0 ? 0x1p-119 : 0.0; });
  const auto gelu = [](double x) {
    return std::isinf(x) && x < 0 ? NAN : 0.5 * x * std::erfc(-x * M_SQRT1_2);
  };
  check("gelu", f.gelu, gelu, 1.0, samples(1e-3f, 50.0f, 37), close);
  // In the tail too the result is right, not only small. 64 ulp are 2^-18 at most.
  check("gelu", f.gelu, gelu, 64.0, samples(1e-3f, 8.0f, 37),
        [](double x) { return std::abs(x) <= 8 ? 0.0 : 0x1p-22 * std::abs(x); });
  check(
      "gelu_tanh", f.gelu_tanh,
      [](double x) {
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      },
      0.0, samples(1e-3f, 50.0f, 37), close);
}

TEST_P(VectorMathTest, InverseErrorFunction) {
  // Newton's method on erf in double, from the result under test's neighbourhood.
  const auto reference = [](double y) -> double {
    if (std::abs(y) > 1 || std::isnan(y)) return std::nan("");
    if (std::abs(y) == 1) return std::copysign(INFINITY, y);
    double x = 0;
    for (int i = 0; i < 80; ++i) {
      const double residual = y > 0.5    ? (1 - y) - std::erfc(x)
                              : y < -0.5 ? std::erfc(-x) - (1 + y)
                                         : std::erf(x) - y;
      const double step = residual / (2 / std::sqrt(M_PI) * std::exp(-x * x));
      if (step == 0) break;
      x -= std::clamp(step, -0.5, 0.5);
    }
    return y == 0 ? y : x;
  };
  check("erfinv", f.erfinv, reference, 8.0, samples(1e-30f, 0.9999999f, 9973));
  check("erfinv", f.erfinv, reference, 8.0, samples(0.5f, 0.9999999f, 97));
}

TEST_P(VectorMathTest, Trigonometry) {
  check(
      "sin", f.sin, [](double x) { return std::sin(x); }, 1.0);
  check(
      "sin", f.sin, [](double x) { return std::sin(x); }, 1.0, samples(0.1f, 5000.0f, 37));
  check(
      "cos", f.cos, [](double x) { return std::cos(x); }, 1.0);
  check(
      "cos", f.cos, [](double x) { return std::cos(x); }, 1.0, samples(0.1f, 5000.0f, 37));
  check(
      "tan", f.tan, [](double x) { return std::tan(x); }, 2.0);
  check(
      "tan", f.tan, [](double x) { return std::tan(x); }, 2.0, samples(0.1f, 5000.0f, 37));
}

TEST_P(VectorMathTest, LogAddExp) {
  const auto reference = [](double x) {
    const double m = std::max(x, 1.0);
    return std::isinf(x) || std::isnan(x) ? (x < 0 ? 1.0 : x)
                                          : m + std::log1p(std::exp(-std::abs(x - 1)));
  };
  check("logaddexp", f.log_add_exp_with_one, reference, 2.0, samples(1e-3f, 300.0f, 37));
}

INSTANTIATE_TEST_SUITE_P(Targets, VectorMathTest, testing::ValuesIn([] {
                           std::vector<std::int64_t> targets;
                           std::int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
                           for (; all != 0; all &= all - 1) targets.push_back(all & -all);
                           return targets;
                         }()),
                         [](const auto& target) {
                           return std::string(hwy::TargetName(target.param));
                         });

}  // namespace
}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
