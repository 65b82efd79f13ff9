// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The thread pool: every index once, nested and concurrent callers, exceptions, parking, fork.
#include "metal_candle/backend/cpu/parallel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "metal_candle/core/error.h"

namespace metal_candle::backend::cpu {
namespace {

class ParallelTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_num_threads(GetParam()); }
  void TearDown() override { set_num_threads(2); }
};

TEST_P(ParallelTest, CoversEveryIndexOnceAtMultiplesOfGrain) {
  for (const std::int64_t count : {0, 1, 2, 63, 64, 65, 1000, 4097}) {
    for (const std::int64_t grain : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(count));
      parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
        EXPECT_EQ(begin % grain, 0);
        EXPECT_LT(begin, end);
        for (std::int64_t i = begin; i < end; ++i) hits[static_cast<std::size_t>(i)]++;
      });
      for (const auto& hit : hits) ASSERT_EQ(hit.load(), 1);
    }
  }
}

TEST_P(ParallelTest, PlainWritesAreVisibleToTheCaller) {
  std::vector<std::int64_t> values(10'000);
  for (std::int64_t round = 1; round < 300; ++round) {
    parallel_for(static_cast<std::int64_t>(values.size()), 100,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     values[static_cast<std::size_t>(i)] += i;
                   }
                 });
    for (std::int64_t i = 0; i < 10'000; i += 999) {
      ASSERT_EQ(values[static_cast<std::size_t>(i)], i * round);
    }
  }
}

TEST_P(ParallelTest, NestedCallsRunOnTheirThread) {
  std::atomic<std::int64_t> sum{0};
  parallel_for(16, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto outer = std::this_thread::get_id();
      parallel_for(100, 1, [&](std::int64_t b, std::int64_t e) {
        EXPECT_EQ(std::this_thread::get_id(), outer);
        sum += e - b;
      });
    }
  });
  EXPECT_EQ(sum.load(), 1600);
}

TEST_P(ParallelTest, ManyCallersAtOnce) {
  std::vector<std::thread> callers;
  std::atomic<std::int64_t> total{0};
  for (int c = 0; c < 8; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        std::atomic<std::int64_t> sum{0};
        parallel_for(1000, 10, [&](std::int64_t begin, std::int64_t end) {
          std::int64_t local = 0;
          for (std::int64_t i = begin; i < end; ++i) local += i;
          sum += local;
        });
        ASSERT_EQ(sum.load(), 499'500);
        total += sum;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total.load(), 8 * 500 * 499'500LL);
}

TEST_P(ParallelTest, RethrowsAnExceptionAndGoesOn) {
  for (int round = 0; round < 200; ++round) {
    const std::int64_t bad = round * 5;
    EXPECT_THROW(parallel_for(1000, 1,
                              [&](std::int64_t begin, std::int64_t end) {
                                if (begin <= bad && bad < end) throw std::out_of_range("bad");
                              }),
                 std::out_of_range);
    std::atomic<int> sum{0};
    parallel_for(100, 1, [&](std::int64_t b, std::int64_t e) { sum += static_cast<int>(e - b); });
    EXPECT_EQ(sum.load(), 100);
  }
}

TEST_P(ParallelTest, WakesParkedWorkersAndWaitsForSlowOnes) {
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // Long enough to park.
    std::atomic<int> done{0};
    parallel_for(GetParam(), 1, [&](std::int64_t begin, std::int64_t end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      done += static_cast<int>(end - begin);
    });
    EXPECT_EQ(done.load(), GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelTest, ::testing::Values(1, 2, 4));

TEST(Parallel, UsesSeveralThreads) {
  set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  // Sleeping chunks give the second thread time to come whatever the load of the machine.
  for (int round = 0; round < 50 && ids.size() < 2; ++round) {
    parallel_for(8, 1, [&](std::int64_t, std::int64_t) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      const std::lock_guard lock(mutex);
      ids.insert(std::this_thread::get_id());
    });
  }
  EXPECT_EQ(ids.size(), 2u);
}

TEST(Parallel, RefusesZeroThreads) { EXPECT_THROW(set_num_threads(0), FormatError); }

TEST(Parallel, WorksInAForkedChild) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not follow a fork of a process with threads";
#else
  set_num_threads(2);
  std::atomic<int> warm{0};
  parallel_for(100, 1, [&](std::int64_t b, std::int64_t e) { warm += static_cast<int>(e - b); });
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);
    std::atomic<int> sum{0};
    parallel_for(1000, 1, [&](std::int64_t b, std::int64_t e) { sum += static_cast<int>(e - b); });
    _exit(sum.load() == 1000 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
#endif
}

}  // namespace
}  // namespace metal_candle::backend::cpu
