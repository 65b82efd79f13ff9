// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Random bits: blocks of Philox, several at a time. A block is a function of its number and the
// key, so any part can be computed by itself.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "metal_candle/backend/cpu/random.cpp"
#include "hwy/foreach_target.h"
//
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "metal_candle/backend/cpu/cpu_kernel.h"
#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/core/philox.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::backend::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D32 = hn::ScalableTag<std::uint32_t>;
using D64 = hn::RepartitionToWide<D32>;
using V32 = hn::Vec<D32>;

// Blocks [first, first + count), four words each.
void PhiloxBlocksScalar(std::uint64_t first, std::size_t count,
                        const std::array<std::uint32_t, 2>& key, std::uint32_t* out) {
  for (std::uint64_t number = first; number < first + count; ++number, out += 4) {
    const auto words = philox4x32(
        {static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32), 0, 0}, key);
    std::memcpy(out, words.data(), sizeof(words));
  }
}

#if HWY_TARGET == HWY_SCALAR
void PhiloxBlocks(std::uint64_t first, std::size_t count, const std::array<std::uint32_t, 2>& key,
                  std::uint32_t* out) {
  PhiloxBlocksScalar(first, count, key, out);
}
#else
// The state of one block is held in 64-bit lanes: a lane of `a` has words 0 (low) and 1, a lane of
// `b` words 2 and 3. The low words are those that are multiplied, so a product is one instruction.
void PhiloxBlocks(std::uint64_t first, std::size_t count, const std::array<std::uint32_t, 2>& key,
                  std::uint32_t* out) {
  const D32 d32;
  const D64 d64;
  const std::size_t lanes = hn::Lanes(d64);
  const auto m0 = hn::BitCast(d32, hn::Set(d64, kPhiloxMultiplier0));
  const auto m1 = hn::BitCast(d32, hn::Set(d64, kPhiloxMultiplier1));
  const auto low = hn::Set(d64, 0xffffffffu);
  HWY_ALIGN std::uint64_t ab[2][hn::MaxLanes(d64)];
  std::size_t block = 0;
  // Two vectors at a time hide the latency of the multiplication.
  for (; block + 2 * lanes <= count; block += 2 * lanes) {
    auto a0 = hn::Iota(d64, first + block);
    auto a1 = hn::Iota(d64, first + block + lanes);
    auto b0 = hn::Zero(d64);
    auto b1 = hn::Zero(d64);
    std::uint32_t k0 = key[0];
    std::uint32_t k1 = key[1];
    for (int round = 0; round < kPhiloxRounds; ++round, k0 += kPhiloxWeyl0, k1 += kPhiloxWeyl1) {
      const auto key0 = hn::Set(d64, k0);
      const auto key1 = hn::Set(d64, k1);
      const auto next = [&](auto& a, auto& b) HWY_ATTR {
        const auto p0 = hn::MulEven(hn::BitCast(d32, a), m0);
        const auto p1 = hn::MulEven(hn::BitCast(d32, b), m1);
        // New low word: high half of the other product, the old high word, the key. New high word:
        // low half of that product.
        const auto x0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), hn::ShiftRight<32>(a)), key0);
        const auto x1 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), hn::ShiftRight<32>(b)), key1);
        a = hn::Or(hn::And(x0, low), hn::ShiftLeft<32>(p1));
        b = hn::Or(hn::And(x1, low), hn::ShiftLeft<32>(p0));
      };
      next(a0, b0);
      next(a1, b1);
    }
    const auto store = [&](auto a, auto b, std::uint32_t* to) HWY_ATTR {
      hn::Store(a, d64, ab[0]);
      hn::Store(b, d64, ab[1]);
      for (std::size_t i = 0; i < lanes; ++i) {
        std::memcpy(to + 4 * i, &ab[0][i], 8);
        std::memcpy(to + 4 * i + 2, &ab[1][i], 8);
      }
    };
    store(a0, b0, out + 4 * block);
    store(a1, b1, out + 4 * (block + lanes));
  }
  PhiloxBlocksScalar(first + block, count - block, key, out + 4 * block);
}
#endif

}  // namespace metal_candle::backend::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::backend::cpu {
namespace {

HWY_EXPORT(PhiloxBlocks);

// Blocks for one thread.
constexpr std::int64_t kGrain = 4096;

}  // namespace

std::unique_ptr<Kernel> make_random(const KernelRequest& request) {
  const TensorLayout& key_layout = request.inputs[0];
  const std::int64_t key_stride = key_layout.strides[0];
  const std::int64_t count = num_elements(request.outputs[0].shape);
  return make_cpu_kernel([key_stride, count](const KernelArguments& arguments) {
    const auto* key_words = static_cast<const std::uint32_t*>(arguments.inputs[0]);
    const std::array<std::uint32_t, 2> key = {key_words[0], key_words[key_stride]};
    auto* out = static_cast<std::uint32_t*>(arguments.outputs[0]);
    const auto generate = HWY_DYNAMIC_DISPATCH(PhiloxBlocks);
    parallel_for((count + 3) / 4, kGrain, [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t whole = std::min(end, count / 4);
      generate(static_cast<std::uint64_t>(begin), static_cast<std::size_t>(whole - begin), key,
               out + 4 * begin);
      if (whole == end) return;
      std::array<std::uint32_t, 4> last{};
      generate(static_cast<std::uint64_t>(whole), 1, key, last.data());
      std::copy_n(last.begin(), count % 4, out + 4 * whole);
    });
  });
}

}  // namespace metal_candle::backend::cpu
#endif  // HWY_ONCE
