// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/backend/slab_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace metal_candle::backend {
namespace {

using ::testing::ElementsAre;

/// Addresses without memory, of which there is so much.
class FakeDriver final : public BlockSource {
 public:
  void* obtain(std::size_t size) override {
    if (size > left) return nullptr;
    left -= size;
    obtained.push_back(size);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): nothing is there.
    auto* const block = reinterpret_cast<std::byte*>(next_);
    next_ += (size + SlabSource::kAlignment - 1) / SlabSource::kAlignment * SlabSource::kAlignment;
    held.emplace(block, size);
    return block;
  }
  void give_back(void* block) override {
    const auto it = held.find(static_cast<std::byte*>(block));
    ASSERT_NE(it, held.end());
    left += it->second;
    held.erase(it);
  }

  std::size_t left = std::size_t{1} << 40;
  std::vector<std::size_t> obtained;
  std::map<std::byte*, std::size_t> held;

 private:
  std::uintptr_t next_ = std::uintptr_t{1} << 40;  // Slabs follow each other directly.
};

constexpr std::size_t kMiB = std::size_t{1} << 20;

class SlabSourceTest : public ::testing::Test {
 protected:
  FakeDriver driver_;
  SlabSource source_{driver_};
};

TEST_F(SlabSourceTest, ManyBlocksAreOfOneSlab) {
  std::vector<void*> blocks;
  for (int i = 0; i < 100; ++i)
    blocks.push_back(source_.obtain(64 + 64 * static_cast<std::size_t>(i)));
  for (int i = 0; i < 7; ++i) blocks.push_back(source_.obtain(4 * kMiB));
  EXPECT_THAT(driver_.obtained, ElementsAre(SlabSource::kSmallSlab, SlabSource::kMediumSlab));
  for (void* block : blocks) source_.give_back(block);
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, LargeBlocksAreTheDriversOwn) {
  void* const block = source_.obtain(9 * kMiB);
  EXPECT_THAT(driver_.obtained, ElementsAre(9 * kMiB));
  source_.give_back(block);
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, ASlabInUseIsKept) {
  void* const first = source_.obtain(kMiB);
  void* const second = source_.obtain(kMiB);
  source_.give_back(first);
  EXPECT_EQ(driver_.held.size(), 1u);
  EXPECT_EQ(source_.obtain(kMiB), first);
  source_.give_back(first);
  source_.give_back(second);
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, NeighboursThatAreFreeBecomeOneRange) {
  std::vector<void*> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(source_.obtain(8 * kMiB));
  source_.give_back(blocks[0]);
  source_.give_back(blocks[2]);
  source_.give_back(blocks[1]);
  // 24 MiB in one piece: three times 7 and what is left take no other slab.
  for (int i = 0; i < 3; ++i) EXPECT_NE(source_.obtain(7 * kMiB), nullptr);
  EXPECT_NE(source_.obtain(3 * kMiB), nullptr);
  EXPECT_EQ(driver_.obtained.size(), 1u);
}

TEST_F(SlabSourceTest, WithoutMemoryForASlabThereMayBeSomeForABlock) {
  driver_.left = 3 * kMiB;
  void* const block = source_.obtain(2 * kMiB);
  ASSERT_NE(block, nullptr);
  EXPECT_THAT(driver_.obtained, ElementsAre(2 * kMiB));
  EXPECT_EQ(source_.obtain(2 * kMiB), nullptr);
  source_.give_back(block);
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, PreparedSlabsServeTheFirstBlocks) {
  source_.prepare();
  source_.prepare();
  EXPECT_THAT(driver_.obtained, ElementsAre(SlabSource::kSmallSlab, SlabSource::kMediumSlab));
  void* const small = source_.obtain(64);
  void* const medium = source_.obtain(4 * kMiB);
  EXPECT_EQ(driver_.obtained.size(), 2u);
  source_.give_back(small);
  source_.give_back(medium);
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, PreparedSlabsGoBackWhereMemoryRunsOut) {
  driver_.left = 50 * kMiB;
  source_.prepare();
  void* const small = source_.obtain(64);
  void* const large = source_.obtain(40 * kMiB);
  EXPECT_NE(large, nullptr);
  EXPECT_EQ(source_.obtain(40 * kMiB), nullptr);
  source_.give_back(small);
  source_.give_back(large);
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, NothingIsPreparedWithoutMemory) {
  driver_.left = kMiB;
  source_.prepare();
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, LittleOfManySlabsIsUnused) {
  constexpr std::size_t kSize = 6 * kMiB + 512 * 1024;  // Four of 32 MiB: a fifth is left over.
  constexpr std::size_t kCount = 300;
  for (std::size_t i = 0; i < kCount; ++i) source_.obtain(kSize);
  std::size_t held = 0;
  for (const auto& [block, size] : driver_.held) held += size;
  EXPECT_LT(static_cast<double>(held), 1.25 * static_cast<double>(kCount * kSize));
}

// The pool's statistics and its limit are of blocks, whatever they are cut from.
TEST_F(SlabSourceTest, APoolGivesItsCacheBackWhereMemoryRunsOut) {
  driver_.left = 40 * kMiB;
  PoolAllocator pool("test", source_, /*host_visible=*/false, 64 * kMiB, 64 * kMiB);
  for (int i = 0; i < 8; ++i) pool.allocate(4 * kMiB);
  EXPECT_EQ(pool.statistics().cached, 4 * kMiB);
  EXPECT_EQ(pool.statistics().in_use, 0u);
  EXPECT_NE(pool.allocate(20 * kMiB), nullptr);
  EXPECT_EQ(pool.statistics().cached, 20 * kMiB);
  pool.clear_cache();
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, BlocksDoNotOverlap) {
  std::mt19937 random(7);
  std::map<std::byte*, std::size_t> blocks;
  for (int i = 0; i < 20000; ++i) {
    if (blocks.size() > 200 || (!blocks.empty() && random() % 2 == 0)) {
      const auto victim =
          std::next(blocks.begin(), static_cast<std::ptrdiff_t>(random() % blocks.size()));
      source_.give_back(victim->first);
      blocks.erase(victim);
      continue;
    }
    const std::size_t size = 64 * (1 + random() % (std::size_t{1} << (random() % 18)));
    auto* const block = static_cast<std::byte*>(source_.obtain(size));
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block) % SlabSource::kAlignment, 0u);
    const auto [at, added] = blocks.emplace(block, size);
    ASSERT_TRUE(added);
    if (at != blocks.begin()) {
      ASSERT_LE(std::prev(at)->first + std::prev(at)->second, block);
    }
    if (std::next(at) != blocks.end()) {
      ASSERT_LE(block + size, std::next(at)->first);
    }
    const auto below = std::prev(driver_.held.upper_bound(block));
    ASSERT_LE(block + size, below->first + below->second);
  }
  for (const auto& [block, size] : blocks) source_.give_back(block);
  EXPECT_TRUE(driver_.held.empty());
}

TEST_F(SlabSourceTest, ThreadsShareIt) {
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 500; ++i) {
        void* const one = source_.obtain(256 * (1 + (i + t) % 50));
        void* const other = source_.obtain(kMiB);
        source_.give_back(one);
        source_.give_back(other);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(driver_.held.empty());
}

}  // namespace
}  // namespace metal_candle::backend
