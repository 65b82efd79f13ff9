// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Checks the kernels of attention on a real GPU against a reference in double, and times them:
//
//   nvcc -O2 -std=c++20 -I. -arch=native -o attention_check bench/gpu/attention_check.cu
//   ./attention_check [check | time]
//
// It launches kernels as backend/gpu/attention.cpp and attention_backward.cpp do. Errors are
// relative to the largest element of a result. FLOPs are those of the products over keys that are
// seen: two forward, five backward, as is usual, though the gradient here computes scores twice.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "metal_candle/backend/gpu/kernels/attention.h"

namespace {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

enum Type { kF32, kF16, kBF16 };
constexpr const char* kNames[] = {"f32", "f16", "bf16"};
size_t size_of(Type type) { return type == kF32 ? 4 : 2; }

float to_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
uint32_t to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
float half_to_float(uint16_t h) {
  const int exponent = h >> 10 & 31;
  const float mantissa = float(h & 1023) / 1024.0f;
  const float x =
      exponent == 0 ? std::ldexp(mantissa, -14) : std::ldexp(1 + mantissa, exponent - 15);
  return h & 0x8000 ? -x : x;
}
uint16_t float_to_half(float x) {  // Of numbers that are neither tiny nor huge.
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  int exponent;
  const float fraction = std::frexp(std::fabs(x), &exponent);
  if (fraction == 0 || exponent < -13) return sign;
  const int mantissa = int(std::nearbyint(std::ldexp(fraction, 11)));
  return uint16_t(sign + ((exponent + 14) << 10) + mantissa - 1024);
}
uint16_t float_to_bfloat(float x) {
  const uint32_t bits = to_bits(x);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A tensor on the device, and its values.
struct Buffer {
  Type type;
  std::vector<float> values;
  void* device = nullptr;

  Buffer(Type type_, size_t count, unsigned seed = 0) : type(type_), values(count) {
    check(cudaMalloc(&device, std::max<size_t>(count, 1) * size_of(type)), "cudaMalloc");
    if (seed == 0) return;
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    for (float& v : values) v = normal(engine);
    write();
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(device); }

  void write() {
    std::vector<char> bytes(values.size() * size_of(type));
    for (size_t i = 0; i < values.size(); ++i) {
      if (type == kF32) {
        std::memcpy(&bytes[4 * i], &values[i], 4);
        continue;
      }
      const uint16_t bits = type == kF16 ? float_to_half(values[i]) : float_to_bfloat(values[i]);
      std::memcpy(&bytes[2 * i], &bits, 2);
      values[i] = type == kF16 ? half_to_float(bits) : to_float(uint32_t{bits} << 16);
    }
    check(cudaMemcpy(device, bytes.data(), bytes.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  void read() {
    std::vector<char> bytes(values.size() * size_of(type));
    check(cudaMemcpy(bytes.data(), device, bytes.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    for (size_t i = 0; i < values.size(); ++i) {
      if (type == kF32) {
        std::memcpy(&values[i], &bytes[4 * i], 4);
        continue;
      }
      uint16_t bits;
      std::memcpy(&bits, &bytes[2 * i], 2);
      values[i] = type == kF16 ? half_to_float(bits) : to_float(uint32_t{bits} << 16);
    }
  }
};

struct Case {
  int batch, heads, key_heads, queries, keys, width, value_width;
  bool causal;
  int window = 0;
  int key_length = -1;
  bool mask = false;
};

struct Problem {
  Case c;
  Type type;
  Buffer q, k, v, out, dout, dq, dk, dv, logsumexp, length;
  std::vector<uint8_t> mask_values;
  void* mask = nullptr;
  void* scratch = nullptr;
  AttentionProblem p{};
  HeadStrides out_strides{};
  int multiprocessors = 0;
  bool wide = false;  // By wide products.

  Problem(const Case& c_, Type type_)
      : c(c_),
        type(type_),
        q(type, size_t(c.batch) * c.heads * c.queries * c.width, 1),
        k(type, size_t(c.batch) * c.key_heads * c.keys * c.width, 2),
        v(type, size_t(c.batch) * c.key_heads * c.keys * c.value_width, 3),
        out(type, size_t(c.batch) * c.heads * c.queries * c.value_width),
        dout(type, out.values.size(), 4),
        dq(type, q.values.size()),
        dk(type, k.values.size()),
        dv(type, v.values.size()),
        logsumexp(kF32, size_t(c.batch) * c.heads * c.queries),
        length(kF32, 1) {
    wide = type != kF32 && std::max(c.width, c.value_width) <= 128 && !c.mask && c.width % 8 == 0 &&
           c.value_width % 8 == 0;
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    multiprocessors = properties.multiProcessorCount;
    const auto strides = [](int64_t heads, int64_t rows, int64_t width) {
      return HeadStrides{heads * rows * width, rows * width, width};
    };
    p.q = q.device;
    p.k = k.device;
    p.v = v.device;
    p.q_strides = strides(c.heads, c.queries, c.width);
    p.k_strides = strides(c.key_heads, c.keys, c.width);
    p.v_strides = strides(c.key_heads, c.keys, c.value_width);
    out_strides = strides(c.heads, c.queries, c.value_width);
    p.batch = c.batch;
    p.heads = c.heads;
    p.key_heads = c.key_heads;
    p.queries = c.queries;
    p.keys = c.keys;
    p.width = c.width;
    p.value_width = c.value_width;
    p.causal = c.causal;
    p.window = c.window;
    p.scale = 1.0f / std::sqrt(float(c.width));
    if (c.key_length >= 0) {
      const int32_t n = c.key_length;
      check(cudaMemcpy(length.device, &n, 4, cudaMemcpyHostToDevice), "cudaMemcpy");
      p.key_length = length.device;
    }
    if (c.mask) {
      mask_values.resize(size_t(c.queries) * c.keys);
      for (size_t i = 0; i < mask_values.size(); ++i) mask_values[i] = (i * 7 + i / 5) % 3 != 0;
      check(cudaMalloc(&mask, mask_values.size()), "cudaMalloc");
      check(cudaMemcpy(mask, mask_values.data(), mask_values.size(), cudaMemcpyHostToDevice),
            "cudaMemcpy");
      p.mask = mask;
      p.mask_strides = {0, 0, c.keys};
      p.mask_key_stride = 1;
    }
    check(cudaMalloc(&scratch, size_t{1} << 30), "cudaMalloc");
  }
  ~Problem() {
    cudaFree(mask);
    cudaFree(scratch);
  }

  int shares() const { return c.batch * c.key_heads; }
  int share_rows() const { return c.heads / c.key_heads * c.queries; }
  int length_of() const { return c.key_length >= 0 ? c.key_length : c.keys; }
  bool sees(int query, int key) const {
    const int position = length_of() - c.queries + query;
    if (key >= length_of() || (c.causal && key > position)) return false;
    if (c.causal && c.window > 0 && key <= position - c.window) return false;
    return !c.mask || mask_values[size_t(query) * c.keys + key] != 0;
  }
  // Pairs of a query and a key that it sees, of one head.
  double pairs() const {
    double count = 0;
    for (int i = 0; i < c.queries; ++i) {
      const int end = c.causal ? std::max(length_of() - c.queries + i + 1, 0) : length_of();
      count += c.causal && c.window > 0 ? std::min(end, c.window) : end;
    }
    return count;
  }
};

template <typename Arguments>
void launch(void (*kernel)(Arguments), int64_t groups, int threads, const Arguments& arguments,
            int bytes = 0) {
  if (groups == 0) return;
  if (bytes > 0) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
          "cudaFuncSetAttribute");
  }
  kernel<<<unsigned(groups), threads, bytes>>>(arguments);
  check(cudaGetLastError(), "launch");
}

#define BY_16_BIT_TYPE(name, type) (type == kF16 ? name##_f16 : name##_bf16)
#define BY_TYPE(name, type) (type == kF32 ? name##_f32 : BY_16_BIT_TYPE(name, type))

int round_up_to(int n, int unit) { return (n + unit - 1) / unit * unit; }

void forward(const Problem& x) {
  AttentionArguments a{};
  a.problem = x.p;
  a.out = x.out.device;
  a.out_strides = x.out_strides;
  a.logsumexp = x.logsumexp.device;
  a.parts = x.scratch;
  const int width = std::max(x.c.width, x.c.value_width);
  const auto blocks = [&](int rows) {
    return int64_t{x.shares()} * ((x.share_rows() + rows - 1) / rows);
  };
  if (x.c.queries >= 16 && x.wide) {
    launch(width <= 64 ? BY_16_BIT_TYPE(attention_wide_64, x.type)
                       : BY_16_BIT_TYPE(attention_wide_128, x.type),
           blocks(64), 128, a, 1024 + 5 * 8192 * (width <= 64 ? 1 : 2));
    return;
  }
  if (x.type != kF32 && x.c.queries >= 16 && width <= 256) {
    const bool large = blocks(128) >= x.multiprocessors && width <= 128;
    const int rows = large ? 128 : 64;
    const int padded = width <= 64 ? 64 : width <= 128 ? 128 : 256;
    const int keys = padded * rows / 64 <= 128 ? 64 : 32;
    const int bytes = 2 * (padded + 8) * (rows + 2 * keys) + (x.c.mask ? 4 * rows * keys : 0);
    const auto kernel = padded == 64    ? large ? BY_16_BIT_TYPE(attention_tiles_64_2, x.type)
                                                : BY_16_BIT_TYPE(attention_tiles_64_1, x.type)
                           : padded == 128 ? large ? BY_16_BIT_TYPE(attention_tiles_128_2, x.type)
                                                   : BY_16_BIT_TYPE(attention_tiles_128_1, x.type)
                                           : BY_16_BIT_TYPE(attention_tiles_256_1, x.type);
    launch(kernel, blocks(rows), 128, a, bytes);
    return;
  }
  const int which = width <= 64 ? 0 : width <= 128 ? 1 : width <= 256 ? 2 : 3;
  constexpr int kRows[] = {8, 8, 4, 2};
  constexpr int kUnits[] = {64, 32, 16, 8};
  const auto kernel = which == 0   ? BY_TYPE(attention_rows_64, x.type)
                      : which == 1 ? BY_TYPE(attention_rows_128, x.type)
                      : which == 2 ? BY_TYPE(attention_rows_256, x.type)
                                   : BY_TYPE(attention_rows_512, x.type);
  const int64_t groups = blocks(kRows[which]);
  const int64_t most = round_up_to(x.c.keys, kUnits[which]) / kUnits[which];
  a.splits = int(std::clamp<int64_t>(std::min(2 * x.multiprocessors / groups, most), 1, 256));
  a.split_unit = kUnits[which];
  a.tile_rows = kRows[which];
  launch(kernel, groups * a.splits, 128, a);
  if (a.splits > 1) {
    launch(BY_TYPE(attention_join, x.type), int64_t{x.shares()} * x.share_rows(), 256, a);
  }
}

void sum_key_parts(const Problem& x, const AttentionGradientArguments& a) {
  const auto sum = BY_16_BIT_TYPE(attention_sum_parts, x.type);
  const auto sum_of = [&](void* from, const Buffer& to, HeadStrides strides, int width) {
    const int64_t elements = int64_t(to.values.size());
    launch(sum, (elements + 255) / 256, 256,
           SumPartsArguments{from, to.device, strides, elements, a.splits, x.c.key_heads, x.c.keys,
                             width});
  };
  sum_of(a.dk_parts, x.dk, x.p.k_strides, x.c.width);
  sum_of(a.dv_parts, x.dv, x.p.v_strides, x.c.value_width);
}

// which: 1 dq, 2 dk and dv, 3 all.
void backward(const Problem& x, int which = 3) {
  AttentionGradientArguments a{};
  a.problem = x.p;
  a.out = x.out.device;
  a.dout = x.dout.device;
  a.logsumexp = x.logsumexp.device;
  a.out_strides = a.dout_strides = {int64_t{x.c.heads} * x.c.queries * x.c.value_width,
                                    int64_t{x.c.queries} * x.c.value_width, x.c.value_width};
  a.statistics = x.scratch;
  a.dq = x.dq.device;
  a.dk = x.dk.device;
  a.dv = x.dv.device;
  a.dv_strides = x.p.v_strides;
  char* parts =
      static_cast<char*>(x.scratch) + round_up_to(int(x.logsumexp.values.size()) * 8, 256);
  const int64_t rows = int64_t{x.shares()} * x.share_rows();
  launch(BY_TYPE(attention_statistics, x.type), (rows + 31) / 32, 256, a);
  const int width = std::max(x.c.width, x.c.value_width);
  a.splits = 1;
  if (x.type == kF32 || width > 256) {
    const int held = width <= 256 ? 4 : 2;
    const int64_t row_blocks = int64_t{x.shares()} * ((x.share_rows() + held - 1) / held);
    const int64_t key_blocks = int64_t{x.shares()} * ((x.c.keys + held - 1) / held);
    const auto dq = width <= 64    ? attention_dq_rows_64_f32
                    : width <= 128 ? attention_dq_rows_128_f32
                    : width <= 256 ? attention_dq_rows_256_f32
                                   : BY_TYPE(attention_dq_rows_512, x.type);
    const auto dkv = width <= 64    ? attention_dkv_rows_64_f32
                     : width <= 128 ? attention_dkv_rows_128_f32
                     : width <= 256 ? attention_dkv_rows_256_f32
                                    : BY_TYPE(attention_dkv_rows_512, x.type);
    if (which & 1) launch(dq, row_blocks, 128, a);
    if (which & 2) launch(dkv, key_blocks, 128, a);
    return;
  }
  if (x.wide) {
    const int blocks = width <= 64 ? 1 : 2;
    const int bytes = 1024 + blocks * 6 * 8192 + 2 * 512;
    const int64_t key_blocks = int64_t{x.shares()} * ((x.c.keys + 63) / 64);
    a.splits = int(std::min<int64_t>(x.c.heads / x.c.key_heads,
                                     (6 * x.multiprocessors + key_blocks - 1) / key_blocks));
    a.dk_parts = parts;
    a.dv_parts = parts + a.splits * x.dk.values.size() * 4;
    if (which & 1) {
      launch(blocks == 1 ? BY_16_BIT_TYPE(attention_dq_wide_64, x.type)
                         : BY_16_BIT_TYPE(attention_dq_wide_128, x.type),
             int64_t{x.shares()} * ((x.share_rows() + 63) / 64), 128, a, bytes);
    }
    if (!(which & 2)) return;
    launch(blocks == 1 ? BY_16_BIT_TYPE(attention_dkv_wide_64, x.type)
                       : BY_16_BIT_TYPE(attention_dkv_wide_128, x.type),
           key_blocks * a.splits, 128, a, bytes);
    if (a.splits > 1) sum_key_parts(x, a);
    return;
  }
  const int padded = width <= 64 ? 64 : width <= 128 ? 128 : 256;
  const int held = padded == 64 ? 128 : 64;
  const int stream = padded == 64 ? 64 : padded == 128 ? 32 : 16;
  const int stages = padded == 256 ? 1 : 2;
  const int bytes = 4 * (padded + 8) * (held + stages * stream) + 8 * stages * stream +
                    (x.c.mask ? 4 * held * std::min(stream, 32) : 0);
  const int64_t row_blocks = int64_t{x.shares()} * ((x.share_rows() + held - 1) / held);
  const int64_t key_blocks = int64_t{x.shares()} * ((x.c.keys + held - 1) / held);
  const int64_t heads = x.c.heads / x.c.key_heads;
  a.splits = int(std::min(heads, (x.multiprocessors + key_blocks - 1) / key_blocks));
  a.dk_parts = parts;
  a.dv_parts = parts + a.splits * x.dk.values.size() * 4;
  if (which & 1) {
    const auto dq = padded == 64    ? BY_16_BIT_TYPE(attention_dq_tiles_64, x.type)
                    : padded == 128 ? BY_16_BIT_TYPE(attention_dq_tiles_128, x.type)
                                    : BY_16_BIT_TYPE(attention_dq_tiles_256, x.type);
    launch(dq, row_blocks, 128, a, bytes);
  }
  if (!(which & 2)) return;
  if (padded == 256) {
    launch(BY_16_BIT_TYPE(attention_dk_tiles_256, x.type), key_blocks * a.splits, 128, a, bytes);
    launch(BY_16_BIT_TYPE(attention_dv_tiles_256, x.type), key_blocks * a.splits, 128, a, bytes);
  } else {
    launch(padded == 64 ? BY_16_BIT_TYPE(attention_dkv_tiles_64, x.type)
                        : BY_16_BIT_TYPE(attention_dkv_tiles_128, x.type),
           key_blocks * a.splits, 128, a, bytes);
  }
  if (a.splits > 1) sum_key_parts(x, a);
}

struct Reference {
  std::vector<double> out, logsumexp, dq, dk, dv;
};

Reference reference(const Problem& x) {
  const Case& c = x.c;
  Reference r;
  r.out.resize(x.out.values.size());
  r.logsumexp.resize(x.logsumexp.values.size());
  r.dq.resize(x.q.values.size());
  r.dk.resize(x.k.values.size());
  r.dv.resize(x.v.values.size());
  std::vector<double> p(c.keys), dp(c.keys);
  for (int b = 0; b < c.batch; ++b) {
    for (int h = 0; h < c.heads; ++h) {
      const size_t share = size_t(b) * c.key_heads + h / (c.heads / c.key_heads);
      for (int i = 0; i < c.queries; ++i) {
        const size_t row = (size_t(b) * c.heads + h) * c.queries + i;
        const float* q = &x.q.values[row * c.width];
        const float* dout = &x.dout.values[row * c.value_width];
        double top = -INFINITY, sum = 0, delta = 0;
        for (int j = 0; j < c.keys; ++j) {
          p[j] = -INFINITY;
          if (!x.sees(i, j)) continue;
          const float* k = &x.k.values[(share * c.keys + j) * c.width];
          double score = 0;
          for (int d = 0; d < c.width; ++d) score += double(q[d]) * k[d];
          p[j] = score * x.p.scale;
          top = std::max(top, p[j]);
        }
        for (int j = 0; j < c.keys; ++j) sum += p[j] = std::isinf(p[j]) ? 0 : std::exp(p[j] - top);
        r.logsumexp[row] = sum == 0 ? -INFINITY : top + std::log(sum);
        for (int j = 0; j < c.keys; ++j) {
          if (p[j] == 0) continue;
          p[j] /= sum;
          const float* v = &x.v.values[(share * c.keys + j) * c.value_width];
          dp[j] = 0;
          for (int d = 0; d < c.value_width; ++d) {
            r.out[row * c.value_width + d] += p[j] * v[d];
            r.dv[(share * c.keys + j) * c.value_width + d] += p[j] * dout[d];
            dp[j] += double(dout[d]) * v[d];
          }
          delta += p[j] * dp[j];
        }
        for (int j = 0; j < c.keys; ++j) {
          if (p[j] == 0) continue;
          const double ds = p[j] * (dp[j] - delta) * x.p.scale;
          const size_t key = (share * c.keys + j) * c.width;
          for (int d = 0; d < c.width; ++d) {
            r.dq[row * c.width + d] += ds * x.k.values[key + d];
            r.dk[key + d] += ds * q[d];
          }
        }
      }
    }
  }
  return r;
}

double error_of(Buffer& actual, const std::vector<double>& expected) {
  actual.read();
  // Elements are of the order of 1; where the result is 0, as a gradient through a softmax of one
  // key is, there is rounding only.
  double worst = 0, largest = 1e-3;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isinf(expected[i])) {
      if (actual.values[i] != expected[i]) worst = INFINITY;
      continue;
    }
    largest = std::max(largest, std::fabs(expected[i]));
    const double difference = std::fabs(actual.values[i] - expected[i]);
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
  }
  return worst / largest;
}

std::string describe(const Case& c, Type type) {
  char text[160];
  std::snprintf(text, sizeof(text), "%-4s b %d h %d/%d lq %d lk %d d %d/%d%s%s%s%s", kNames[type],
                c.batch, c.heads, c.key_heads, c.queries, c.keys, c.width, c.value_width,
                c.causal ? " causal" : "", c.window ? " window" : "",
                c.key_length >= 0 ? " length" : "", c.mask ? " mask" : "");
  return text;
}

bool check_case(const Case& c, Type type) {
  Problem x(c, type);
  const Reference r = reference(x);
  for (Buffer* result : {&x.out, &x.logsumexp, &x.dq, &x.dk, &x.dv}) {
    check(cudaMemset(result->device, 0xff, result->values.size() * size_of(result->type)),
          "cudaMemset");
  }
  forward(x);
  backward(x);
  check(cudaDeviceSynchronize(), describe(c, type).c_str());
  const double errors[] = {error_of(x.out, r.out), error_of(x.logsumexp, r.logsumexp),
                           error_of(x.dq, r.dq), error_of(x.dk, r.dk), error_of(x.dv, r.dv)};
  const double limit = type == kF32 ? 2e-5 : type == kF16 ? 3e-3 : 2e-2;
  const bool good = *std::max_element(errors, errors + 5) < limit;
  std::printf("%-64s out %.1e lse %.1e dq %.1e dk %.1e dv %.1e%s\n", describe(c, type).c_str(),
              errors[0], errors[1], errors[2], errors[3], errors[4], good ? "" : "  WRONG");
  return good;
}

double milliseconds(const std::function<void()>& run) {
  cudaEvent_t start, stop;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  for (int i = 0; i < 3; ++i) run();
  std::vector<float> times(21);
  for (float& time : times) {
    cudaEventRecord(start);
    run();
    cudaEventRecord(stop);
    check(cudaEventSynchronize(stop), "run");
    cudaEventElapsedTime(&time, start, stop);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void time_case(const Case& c, Type type) {
  Problem x(c, type);
  const double flops = 2.0 * c.batch * c.heads * x.pairs() * (c.width + c.value_width);
  const double forward_ms = milliseconds([&] { forward(x); });
  const double all_ms = milliseconds([&] { backward(x); });
  const double dq_ms = milliseconds([&] { backward(x, 1); });
  const double dkv_ms = milliseconds([&] { backward(x, 2); });
  std::printf(
      "%-56s forward %8.3f ms %4.0f TFLOP/s  backward %8.3f ms %4.0f TFLOP/s"
      "  (dq %.3f, dk dv %.3f)\n",
      describe(c, type).c_str(), forward_ms, flops / forward_ms * 1e-9, all_ms,
      2.5 * flops / all_ms * 1e-9, dq_ms, dkv_ms);
  if (c.width > 128 || type == kF32) return;
  x.wide = false;
  const double forward_before = milliseconds([&] { forward(x); });
  std::printf("%56s without wide products: forward %8.3f ms  backward %8.3f ms\n", "",
              forward_before, milliseconds([&] { backward(x); }));
}

void time_decoding(const Case& c, Type type) {
  Problem x(c, type);
  const double bytes =
      double(c.batch) * c.key_heads * x.length_of() * (c.width + c.value_width) * size_of(type);
  // As many at once as hide the launches.
  const double ms = milliseconds([&] {
                      for (int i = 0; i < 20; ++i) forward(x);
                    }) /
                    20;
  std::printf("%-56s length %6d %8.2f us %6.0f GB/s\n", describe(c, type).c_str(), x.length_of(),
              ms * 1e3, bytes / ms * 1e-6);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "all";
  bool good = true;
  if (what != "time") {
    for (const Type type : {kF32, kF16, kBF16}) {
      for (const Case& c :
           {Case{1, 2, 1, 256, 256, 64, 64, true}, Case{2, 4, 2, 200, 200, 64, 64, true},
            Case{1, 2, 2, 130, 300, 64, 64, false}, Case{1, 40, 20, 512, 512, 64, 64, true},
            Case{1, 14, 2, 100, 100, 64, 64, true}, Case{1, 2, 1, 100, 300, 64, 64, true, 40, 250},
            Case{1, 2, 1, 70, 90, 40, 56, true, 0, -1, true},
            Case{1, 4, 1, 150, 150, 128, 128, true}, Case{1, 20, 20, 1024, 256, 128, 128, true},
            Case{1, 2, 1, 90, 150, 128, 96, false, 0, 77, true},
            Case{1, 2, 1, 100, 100, 256, 256, true}, Case{1, 2, 1, 65, 65, 33, 35, true},
            Case{1, 2, 1, 20, 50, 300, 300, true}, Case{1, 14, 2, 1, 4096, 64, 64, true, 0, 3000},
            Case{1, 14, 2, 1, 4096, 64, 64, true, 0, 1},
            Case{2, 8, 2, 3, 2000, 128, 128, true, 0, 1500}, Case{1, 2, 2, 40, 20, 64, 64, true}}) {
        good = check_case(c, type) && good;
      }
    }
    std::printf("%s\n", good ? "all right" : "SOMETHING IS WRONG");
  }
  if (what != "check") {
    time_case({4, 16, 16, 2048, 2048, 64, 64, true}, kBF16);
    time_case({4, 16, 16, 2048, 2048, 64, 64, false}, kBF16);
    time_case({1, 16, 16, 8192, 8192, 64, 64, true}, kBF16);
    time_case({4, 14, 2, 512, 512, 64, 64, true}, kBF16);
    time_case({8, 14, 2, 1024, 1024, 64, 64, true}, kBF16);
    time_case({8, 14, 2, 2048, 2048, 64, 64, true}, kBF16);
    time_case({4, 16, 16, 2048, 2048, 128, 128, true}, kBF16);
    time_case({2, 32, 8, 4096, 4096, 128, 128, true}, kBF16);
    time_case({1, 8, 4, 4096, 4096, 256, 256, true}, kBF16);
    time_case({4, 16, 16, 2048, 2048, 64, 64, true}, kF16);
    time_case({1, 16, 16, 1024, 1024, 64, 64, true}, kF32);
    for (const int length : {1, 128, 1024, 4096, 32768}) {
      time_decoding({1, 14, 2, 1, std::max(length, 4096), 64, 64, true, 0, length}, kBF16);
    }
    time_decoding({1, 32, 8, 1, 8192, 128, 128, true, 0, 8192}, kBF16);
    time_decoding({16, 14, 2, 1, 4096, 64, 64, true, 0, 4096}, kBF16);
  }
  return good ? 0 : 1;
}
