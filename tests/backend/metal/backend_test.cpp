// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The Metal backend on the Metal in software: how steps become dispatches, what waits for what, and
// who hears of errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <numeric>
#include <thread>

#include "metal_candle/backend/metal/kernel_sources.h"
#include "metal_candle/backend/metal/metal_backend.h"
#include "metal_candle/backend/metal/metal_matmul.h"
#include "metal_candle/backend/registry.h"
#include "metal_candle/core/error.h"
#include "tests/metal_sim/metal_sim.h"
#include "tests/support/message_of.h"
#include "tests/support/temporary_folder.h"

namespace metal_candle::backend::metal {
namespace {

using ::metal_candle::testing::message_of;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::int64_t kCount = 100;
const StepLabel kAdd{"add", "[100] [100]", 0, 0, {}, DType::kF32};
const StepLabel kTwice{"multiply", "[100] [100]", 0, 0, {}, DType::kF32};

MetalBackend& shared_backend() {
  static auto* backend = new MetalBackend(0);
  return *backend;
}

// Vectors of floats, kernels for them, and command buffers made of those by hand.
class Steps {
 public:
  explicit Steps(MetalBackend& backend) : backend_(backend) {
    const TensorLayout layout = TensorLayout::contiguous({{kCount}, DType::kF32});
    const TensorLayout inputs[] = {layout, layout};
    const bool needed = true;
    const auto make = [&](BinaryKind kind) {
      const Operation operation = op::Binary{kind};
      return backend.make_kernel({operation, inputs, std::span(&layout, 1), std::span(&needed, 1)});
    };
    add_ = make(BinaryKind::kAdd);
    multiply_ = make(BinaryKind::kMultiply);
  }
  [[nodiscard]] BufferPtr vector(float value) const {
    BufferPtr buffer = backend_.allocate(kCount * sizeof(float));
    const std::vector<float> values(kCount, value);
    backend_.write(*buffer, 0, std::as_bytes(std::span(values)));
    return buffer;
  }
  [[nodiscard]] float first(const BufferPtr& buffer) const {
    std::vector<float> values(kCount);
    backend_.read(*buffer, 0, std::as_writable_bytes(std::span(values)));
    for (const float value : values) EXPECT_EQ(value, values[0]);
    return values[0];
  }
  void add(CommandBuffer& to, const BufferPtr& a, const BufferPtr& b, const BufferPtr& out) const {
    encode(to, *add_, kAdd, a, b, out);
  }
  void multiply(CommandBuffer& to, const BufferPtr& a, const BufferPtr& b,
                const BufferPtr& out) const {
    encode(to, *multiply_, kTwice, a, b, out);
  }
  /// Commits to a queue, with a completion of it.
  CompletionPtr commit(int queue, std::unique_ptr<CommandBuffer> buffer,
                       std::vector<CompletionPtr> dependencies = {}) const {
    CommandQueue& to = backend_.queue(queue);
    CompletionPtr completion(new Completion(&to));
    to.commit(std::move(buffer), dependencies,
              [completion](std::exception_ptr error) { completion->complete(error); });
    return completion;
  }

 private:
  static void encode(CommandBuffer& to, const Kernel& kernel, const StepLabel& label,
                     const BufferPtr& a, const BufferPtr& b, const BufferPtr& out) {
    const BufferRegion inputs[] = {{a.get(), 0}, {b.get(), 0}};
    const BufferRegion output{out.get(), 0};
    to.encode(kernel, inputs, std::span(&output, 1), {}, label);
  }

  MetalBackend& backend_;
  std::unique_ptr<Kernel> add_, multiply_;
};

class MetalBackendTest : public ::testing::Test {
 protected:
  ~MetalBackendTest() override {
    metal_sim::resume();
    metal_sim::machine() = {};
  }
  MetalBackend& backend_ = shared_backend();
  Steps steps_{backend_};
};

TEST_F(MetalBackendTest, SaysWhatItRunsOn) {
  const BackendDescription description = backend_.describe();
  EXPECT_EQ(description.device, "a Metal in software");
  EXPECT_THAT(description.libraries,
              ::testing::ElementsAre("macOS 15.0", "compiled kernels", "indirect command buffers",
                                     "residency sets"));
  EXPECT_EQ(to_string(backend_.device()), "metal:0");
}

TEST_F(MetalBackendTest, DevicesThatKernelsDoNotRunOnAreRefused) {
  metal_sim::machine().apple7 = false;
  EXPECT_EQ(count_devices(), 0);
  EXPECT_THAT(message_of<DeviceError>([] { MetalBackend backend(0); }),
              AllOf(HasSubstr("metal:0"), HasSubstr("0 GPUs"), HasSubstr("family 7")));
  metal_sim::machine() = {};
  metal_sim::machine().macos = 13;
  EXPECT_THAT(message_of<DeviceError>([] { MetalBackend backend(0); }), HasSubstr("macOS 14"));
  metal_sim::machine() = {};
  EXPECT_EQ(count_devices(), 1);
  EXPECT_THAT(message_of<DeviceError>([] { MetalBackend backend(1); }),
              HasSubstr("this machine has 1 GPU that kernels run on"));
}

TEST_F(MetalBackendTest, StepsOfAWaveWaitForThoseBeforeItOnly) {
  const BufferPtr one = steps_.vector(1), two = steps_.vector(2);
  const BufferPtr x = steps_.vector(5), y = steps_.vector(0);
  auto buffer = backend_.queue(0).make_command_buffer();
  steps_.add(*buffer, x, one, y);  // y = 6
  steps_.add(*buffer, y, one, y);  // y = 7: outside of waves every step waits.
  buffer->begin_wave();
  std::vector<BufferPtr> sums, products;
  for (int i = 0; i < 8; ++i) {
    sums.push_back(steps_.vector(0));
    products.push_back(steps_.vector(0));
    steps_.add(*buffer, y, one, sums.back());
    steps_.multiply(*buffer, y, two, products.back());
  }
  buffer->begin_wave();
  steps_.add(*buffer, products[0], sums[7], y);  // y = 22
  auto& encoded = static_cast<MetalCommandBuffer&>(*buffer);
  encoded.finish();
  // Those of a wave are a dispatch a function.
  EXPECT_EQ(encoded.size(), 19u);
  EXPECT_EQ(encoded.list().commands().size(), 5u);
  EXPECT_EQ(encoded.list().barriers(), 3u);
  EXPECT_EQ(encoded.list().steps_of(encoded.list().commands()[2]).size(), 8u);
  steps_.commit(0, std::move(buffer))->wait();
  EXPECT_EQ(steps_.first(y), 22.0f);
  for (const BufferPtr& sum : sums) EXPECT_EQ(steps_.first(sum), 8.0f);
  for (const BufferPtr& product : products) EXPECT_EQ(steps_.first(product), 14.0f);
}

TEST_F(MetalBackendTest, BuffersOfAQueueRunInOrder) {
  const BufferPtr x = steps_.vector(1), one = steps_.vector(1), two = steps_.vector(2);
  CompletionPtr last;
  metal_sim::pause();
  for (int i = 0; i < 10; ++i) {
    auto buffer = backend_.queue(0).make_command_buffer();
    if (i % 2 == 0) {
      steps_.add(*buffer, x, one, x);
    } else {
      steps_.multiply(*buffer, x, two, x);
    }
    last = steps_.commit(0, std::move(buffer));
  }
  EXPECT_FALSE(backend_.queue(0).idle());
  metal_sim::resume();
  last->wait();
  backend_.queue(0).synchronize();
  EXPECT_TRUE(backend_.queue(0).idle());
  EXPECT_EQ(steps_.first(x), 94.0f);  // ((((1+1)*2+1)*2 ...
}

TEST_F(MetalBackendTest, QueuesWaitForEachOthersEvents) {
  const BufferPtr x = steps_.vector(1), one = steps_.vector(1), y = steps_.vector(0);
  for (int i = 0; i < 20; ++i) {
    metal_sim::pause();
    auto first = backend_.queue(1).make_command_buffer();
    steps_.add(*first, x, one, x);
    const CompletionPtr done = steps_.commit(1, std::move(first));
    auto second = backend_.queue(2).make_command_buffer();
    steps_.add(*second, x, x, y);
    const CompletionPtr sum = steps_.commit(2, std::move(second), {done});
    metal_sim::resume();
    sum->wait();
    ASSERT_EQ(steps_.first(y), 2.0f * static_cast<float>(i + 2));
  }
}

TEST_F(MetalBackendTest, CommitsWaitWhileManyAreUnfinished) {
  const BufferPtr x = steps_.vector(0), one = steps_.vector(1);
  const std::uint64_t before = backend_.queue_statistics().full_waits;
  metal_sim::pause();
  std::vector<CompletionPtr> completions;
  const auto commit_one = [&] {
    auto buffer = backend_.queue(0).make_command_buffer();
    steps_.add(*buffer, x, one, x);
    return steps_.commit(0, std::move(buffer));
  };
  for (std::size_t i = 0; i < MetalQueue::kMaxPending; ++i) completions.push_back(commit_one());
  EXPECT_EQ(backend_.queue_statistics().full_waits, before);
  auto waiting = std::async(std::launch::async, commit_one);
  while (backend_.queue_statistics().full_waits == before) std::this_thread::yield();
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  metal_sim::resume();
  waiting.get()->wait();
  EXPECT_EQ(steps_.first(x), static_cast<float>(MetalQueue::kMaxPending + 1));
}

TEST_F(MetalBackendTest, CommandBuffersArePooled) {
  const BufferPtr x = steps_.vector(0), one = steps_.vector(1);
  backend_.queue(3);
  const std::uint64_t made = backend_.queue_statistics().buffers_made;
  for (int i = 0; i < 20; ++i) {
    auto buffer = backend_.queue(3).make_command_buffer();
    steps_.add(*buffer, x, one, x);
    steps_.commit(3, std::move(buffer))->wait();
    backend_.queue(3).synchronize();
  }
  EXPECT_EQ(backend_.queue_statistics().buffers_made, made + 1);
}

TEST_F(MetalBackendTest, ErrorsOfTheDeviceReachTheWaiterAndNameTheStep) {
  const BufferPtr x = steps_.vector(0), one = steps_.vector(1);
  const auto fails = [&](int count, long code) {
    metal_sim::pause();
    auto buffer = backend_.queue(0).make_command_buffer();
    for (int i = 0; i < count; ++i) steps_.add(*buffer, x, one, x);
    metal_sim::fail_next(code, "the GPU is tired");
    const CompletionPtr completion = steps_.commit(0, std::move(buffer));
    auto after = backend_.queue(0).make_command_buffer();
    steps_.multiply(*after, x, one, x);
    const CompletionPtr dependent = steps_.commit(0, std::move(after), {completion});
    metal_sim::resume();
    EXPECT_THAT(message_of<Error>([&] { dependent->wait(); }), HasSubstr("the GPU is tired"));
    return completion;
  };
  EXPECT_THAT(
      message_of<DeviceError>([&] { fails(1, 1)->wait(); }),
      AllOf(HasSubstr("add [100] [100]: metal: the GPU is tired"), Not(HasSubstr("one of"))));
  EXPECT_THAT(message_of<DeviceError>([&] { fails(3, 1)->wait(); }),
              HasSubstr("one of 3 steps from add [100] [100] to add"));
  EXPECT_THAT(
      message_of<OutOfMemoryError>([&] { fails(1, MTL::CommandBufferErrorOutOfMemory)->wait(); }),
      HasSubstr("the GPU is tired"));
  // A failed buffer does not keep other queues waiting, nor what comes later.
  auto later = backend_.queue(0).make_command_buffer();
  steps_.add(*later, one, one, x);
  steps_.commit(0, std::move(later))->wait();
  EXPECT_EQ(steps_.first(x), 2.0f);
}

TEST_F(MetalBackendTest, ErrorsOfInlineRunsAreThrown) {
  const BufferPtr x = steps_.vector(0), one = steps_.vector(1);
  auto buffer = backend_.queue(0).make_command_buffer();
  steps_.add(*buffer, x, one, x);
  metal_sim::fail_next(1, "no");
  EXPECT_THAT(message_of<DeviceError>([&] { backend_.queue(0).run_inline(buffer); }),
              HasSubstr("add [100] [100]: metal: no"));
  buffer = backend_.queue(0).make_command_buffer();
  steps_.add(*buffer, one, one, x);
  EXPECT_TRUE(backend_.queue(0).run_inline(buffer));
  EXPECT_EQ(steps_.first(x), 2.0f);
}

// The same list again and again, with buffers that move.
TEST_F(MetalBackendTest, ListsThatComeAgainAreReplayed) {
  const BufferPtr one = steps_.vector(1);
  const ReplayStatistics before = backend_.replay_statistics();
  const std::uint64_t indirect = metal_sim::statistics().indirect_dispatches;
  for (int round = 0; round < 6; ++round) {
    const BufferPtr x = steps_.vector(static_cast<float>(round));
    auto buffer = backend_.queue(0).make_command_buffer();
    for (int i = 0; i < 7; ++i) steps_.add(*buffer, x, one, x);
    steps_.commit(0, std::move(buffer))->wait();
    backend_.queue(0).synchronize();
    ASSERT_EQ(steps_.first(x), static_cast<float>(round + 7));
  }
  const ReplayStatistics after = backend_.replay_statistics();
  EXPECT_EQ(after.direct - before.direct, 1u);
  EXPECT_EQ(after.made - before.made, 1u);
  EXPECT_EQ(after.replayed - before.replayed, 5u);
  EXPECT_EQ(metal_sim::statistics().indirect_dispatches - indirect, 35u);
}

TEST_F(MetalBackendTest, PlansInFlightAreNotWrittenTo) {
  const BufferPtr one = steps_.vector(1);
  metal_sim::pause();
  std::vector<BufferPtr> results;
  std::vector<CompletionPtr> completions;
  for (int round = 0; round < 8; ++round) {
    results.push_back(steps_.vector(static_cast<float>(round)));
    auto buffer = backend_.queue(0).make_command_buffer();
    for (int i = 0; i < 9; ++i) steps_.add(*buffer, results.back(), one, results.back());
    completions.push_back(steps_.commit(0, std::move(buffer)));
  }
  metal_sim::resume();
  for (const CompletionPtr& completion : completions) completion->wait();
  for (int round = 0; round < 8; ++round) {
    EXPECT_EQ(steps_.first(results[static_cast<std::size_t>(round)]),
              static_cast<float>(round + 9));
  }
}

// What older systems lack: residency sets, indirect command buffers, host pages.
TEST_F(MetalBackendTest, OlderSystemsDoWithout) {
  metal_sim::machine().macos = 14;
  metal_sim::machine().metal3 = false;
  metal_sim::machine().takes_host_pages = false;
  MetalBackend backend(0);
  EXPECT_THAT(backend.describe().libraries,
              ::testing::IsSupersetOf({"no indirect command buffers", "no residency sets"}));
  const Steps steps(backend);
  const BufferPtr x = steps.vector(1), one = steps.vector(1);
  for (int round = 0; round < 4; ++round) {
    auto buffer = backend.queue(0).make_command_buffer();
    for (int i = 0; i < 5; ++i) steps.add(*buffer, x, one, x);
    steps.commit(0, std::move(buffer))->wait();
  }
  EXPECT_EQ(steps.first(x), 21.0f);
  EXPECT_EQ(backend.replay_statistics().made, 0u);
  const auto values = std::make_shared<std::vector<float>>(kCount, 3.0f);
  const BufferPtr copied = backend.borrow(std::as_bytes(std::span(*values)), values);
  EXPECT_NE(copied->contents(), values->data());
  EXPECT_EQ(values.use_count(), 1);
  EXPECT_EQ(steps.first(copied), 3.0f);
  backend.stop();
}

TEST_F(MetalBackendTest, WithoutResidencySetsPlansAreReplayedToo) {
  metal_sim::machine().macos = 14;
  MetalBackend backend(0);
  const Steps steps(backend);
  const BufferPtr x = steps.vector(1), one = steps.vector(1);
  for (int round = 0; round < 4; ++round) {
    auto buffer = backend.queue(0).make_command_buffer();
    for (int i = 0; i < 5; ++i) steps.add(*buffer, x, one, x);
    steps.commit(0, std::move(buffer))->wait();
    backend.queue(0).synchronize();
  }
  EXPECT_EQ(steps.first(x), 21.0f);
  EXPECT_EQ(backend.replay_statistics().replayed, 3u);
  backend.stop();
}

TEST_F(MetalBackendTest, BorrowedMemoryIsNotCopied) {
  const std::uint64_t before = metal_sim::statistics().no_copy;
  const auto values = std::make_shared<std::vector<float>>(kCount + 4, 3.0f);
  const std::size_t in_use = backend_.memory().in_use;
  {
    // From the middle of a page.
    const BufferPtr borrowed =
        backend_.borrow(std::as_bytes(std::span(*values).subspan(4)), values);
    EXPECT_EQ(borrowed->contents(), values->data() + 4);
    EXPECT_EQ(metal_sim::statistics().no_copy, before + 1);
    EXPECT_EQ(backend_.memory().in_use, in_use);
    EXPECT_EQ(values.use_count(), 2);
    const BufferPtr x = steps_.vector(4);
    auto buffer = backend_.queue(0).make_command_buffer();
    steps_.add(*buffer, borrowed, x, x);
    steps_.commit(0, std::move(buffer))->wait();
    EXPECT_EQ(steps_.first(x), 7.0f);
    backend_.queue(0).synchronize();
  }
  EXPECT_EQ(values.use_count(), 1);
  const BufferPtr odd =
      backend_.borrow(std::as_bytes(std::span(*values).subspan(3, kCount)), values);
  EXPECT_NE(odd->contents(), values->data() + 3);
  EXPECT_EQ(steps_.first(odd), 3.0f);
}

TEST_F(MetalBackendTest, MemoryIsPooledAndBounded) {
  backend_.clear_memory_cache();
  const std::uint64_t buffers = metal_sim::statistics().live_buffers;
  {
    const BufferPtr a = backend_.allocate(1 << 20);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a->contents()) % 256, 0u);
    EXPECT_EQ(metal_sim::statistics().live_buffers, buffers + 1);
  }
  const std::uint64_t hits = backend_.memory().pool_hits;
  { const BufferPtr b = backend_.allocate(1 << 20); }
  EXPECT_EQ(backend_.memory().pool_hits, hits + 1);
  EXPECT_THAT(message_of<OutOfMemoryError>([&] { (void)backend_.allocate(std::size_t{1} << 40); }),
              HasSubstr("metal:0: allocating"));
  backend_.clear_memory_cache();
  // The device lets go of it with the next commit.
  auto buffer = backend_.queue(0).make_command_buffer();
  const BufferPtr x = steps_.vector(1);
  steps_.add(*buffer, x, x, x);
  steps_.commit(0, std::move(buffer))->wait();
  EXPECT_LE(metal_sim::statistics().live_buffers, buffers + 1);
}

TEST_F(MetalBackendTest, SmallBuffersShareHeaps) {
  MetalBackend backend(0);
  const std::uint64_t heaps = metal_sim::statistics().heaps;
  const Steps steps(backend);
  std::vector<BufferPtr> buffers;
  for (int i = 0; i < 100; ++i) {
    buffers.push_back(steps.vector(1));
    const auto& buffer = static_cast<const MetalBuffer&>(*buffers.back());
    EXPECT_EQ(buffer.device_address() % backend.alignment(), 0u);
  }
  EXPECT_EQ(metal_sim::statistics().heaps, heaps + 1);
  const BufferPtr large = backend.allocate(1 << 20);
  EXPECT_EQ(metal_sim::statistics().heaps, heaps + 1);
  // More than one holds.
  for (int i = 0; i < 20; ++i) buffers.push_back(backend.allocate(512 << 10));
  EXPECT_EQ(metal_sim::statistics().heaps, heaps + 2);
  auto buffer = backend.queue(0).make_command_buffer();
  for (int i = 0; i < 99; ++i) steps.add(*buffer, buffers[0], buffers[0], buffers[i + 1]);
  steps.commit(0, std::move(buffer))->wait();
  for (int i = 0; i < 99; ++i) EXPECT_EQ(steps.first(buffers[i + 1]), 2.0f);
  // Heaps go with their last buffer; what comes then is of a new one.
  backend.stop();
  buffers.clear();
  backend.clear_memory_cache();
  const std::uint64_t live = metal_sim::statistics().live_buffers;
  const BufferPtr one = steps.vector(3), sum = steps.vector(0);
  EXPECT_EQ(metal_sim::statistics().live_buffers, live + 2);
}

TEST_F(MetalBackendTest, WithoutHeapsBuffersAreByThemselves) {
  metal_sim::machine().max_heap_size = 0;
  MetalBackend backend(0);
  const std::uint64_t heaps = metal_sim::statistics().heaps;
  const Steps steps(backend);
  const BufferPtr x = steps.vector(1), y = steps.vector(0);
  auto buffer = backend.queue(0).make_command_buffer();
  steps.add(*buffer, x, x, y);
  steps.commit(0, std::move(buffer))->wait();
  EXPECT_EQ(steps.first(y), 2.0f);
  EXPECT_EQ(metal_sim::statistics().heaps, heaps);
  backend.stop();
}

class Observer final : public StepObserver {
 public:
  void on_step(const StepLabel& label, int, std::int64_t start, std::int64_t end) override {
    names.push_back(label.name);
    EXPECT_LE(start, end);
    EXPECT_GE(start, last);
    last = end;
  }
  std::vector<std::string> names;
  std::int64_t last = 0;
};

TEST_F(MetalBackendTest, ObservedStepsHaveTimesOfTheDevice) {
  Observer observer;
  const BufferPtr x = steps_.vector(1), one = steps_.vector(1);
  auto buffer = backend_.queue(0).make_command_buffer();
  steps_.add(*buffer, x, one, x);
  steps_.multiply(*buffer, x, x, x);
  steps_.add(*buffer, x, one, x);
  set_step_observer(&observer);
  steps_.commit(0, std::move(buffer))->wait();
  set_step_observer(nullptr);
  EXPECT_THAT(observer.names, ::testing::ElementsAre("add", "multiply", "add"));
  EXPECT_EQ(steps_.first(x), 5.0f);
}

TEST_F(MetalBackendTest, CommandBuffersAreSignposts) {
  const BufferPtr x = steps_.vector(1);
  metal_sim::record_signposts(true);
  auto buffer = backend_.queue(0).make_command_buffer();
  steps_.add(*buffer, x, x, x);
  steps_.commit(0, std::move(buffer))->wait();
  const auto signposts = metal_sim::signposts();
  metal_sim::record_signposts(false);
  ASSERT_EQ(signposts.size(), 1u);
  EXPECT_EQ(signposts[0].name, "command buffer");
  EXPECT_EQ(signposts[0].text, "add [100] [100]");
  EXPECT_TRUE(signposts[0].ended);
}

TEST_F(MetalBackendTest, CapturesAreWrittenWhereTheyAreAsked) {
  const testing::TemporaryFolder folder;
  const std::string file = folder / "run.gputrace";
  setenv("METAL_CANDLE_CAPTURE", file.c_str(), 1);
  EXPECT_THAT(message_of<DeviceError>([] { MetalBackend backend(0); }),
              HasSubstr("MTL_CAPTURE_ENABLED=1"));
  setenv("MTL_CAPTURE_ENABLED", "1", 1);
  {
    MetalBackend backend(0);
    backend.stop();
  }
  EXPECT_TRUE(std::filesystem::exists(file));
  EXPECT_THAT(message_of<DeviceError>([] { MetalBackend backend(0); }), HasSubstr("exists"));
  unsetenv("METAL_CANDLE_CAPTURE");
  unsetenv("MTL_CAPTURE_ENABLED");
}

TEST(MetalKernels, EveryKernelHasAHeaderThatDefinesIt) {
  const AutoreleaseScope scope;
  const auto device = NS::TransferPtr(MTL::CreateSystemDefaultDevice());
  const auto library = NS::TransferPtr(
      device->newLibrary(NS::URL::fileURLWithPath(ns_string(METAL_SIM_METALLIB)), nullptr));
  ASSERT_TRUE(library);
  const NS::Array* names = library->functionNames();
  ASSERT_GT(names->count(), 300u);
  for (NS::UInteger i = 0; i < names->count(); ++i) {
    const std::string name = names->object<NS::String>(i)->utf8String();
    const std::string text = expand_header(header_of_kernel(name));
    // Names are put together by macros, of this beginning.
    const std::string stem = name.substr(0, name.find_first_of("0123456789"));
    const std::string beginning = stem.substr(0, stem.find('_', 4));
    EXPECT_THAT(text, HasSubstr(beginning)) << name;
    EXPECT_THAT(text, Not(HasSubstr("#include \"")));
  }
  EXPECT_THAT(message_of<DeviceError>([] { (void)header_of_kernel("unknown"); }),
              HasSubstr("no kernel unknown"));
  EXPECT_THAT(message_of<DeviceError>([] { (void)expand_header("unknown.h"); }),
              HasSubstr("unknown.h"));
}

TEST_F(MetalBackendTest, WithoutACompiledLibraryKernelsAreCompiledAtFirstUse) {
  setenv("METAL_CANDLE_METALLIB", "", 1);
  MetalBackend backend(0);
  unsetenv("METAL_CANDLE_METALLIB");
  EXPECT_THAT(backend.describe().libraries, ::testing::Contains("kernels compiled at first use"));
  const std::uint64_t before = metal_sim::statistics().compiled;
  (void)backend.gpu().function("random_bits_u32");
  (void)backend.gpu().function("random_bits_u32");
  EXPECT_EQ(metal_sim::statistics().compiled, before + 1);
  EXPECT_THAT(message_of<DeviceError>([&] { (void)backend.gpu().function("random_bits_u8"); }),
              HasSubstr("no kernel random_bits_u8"));
  EXPECT_THAT(message_of<DeviceError>([&] { (void)backend.gpu().compile("broken", "broken"); }),
              HasSubstr("broken does not compile"));
  backend.stop();
}

TEST(MetalProducts, TilesSuitTheShape) {
  const auto tile = [](std::int64_t rows, std::int64_t columns) {
    return choose_tile(rows, columns, 128, 1, 16).tile->name;
  };
  EXPECT_EQ(tile(2048, 2048), "64x64");
  EXPECT_EQ(tile(5, 4096), "8x64");
  EXPECT_EQ(tile(14, 4096), "16x64");
  EXPECT_EQ(tile(4096, 8), "64x8");
  // Few large tiles would leave cores without work.
  EXPECT_EQ(tile(128, 128), "32x32");
}

// Of a weight whose columns are dense, as model files have them.
TEST_F(MetalBackendTest, FewRowsAreMadeByWarpsThatReadColumns) {
  constexpr std::int64_t kDepth = 64, kColumns = 24;
  const BufferPtr memory = backend_.allocate(kDepth * kColumns * sizeof(float));
  const BufferRegion regions[] = {{memory.get(), 0}, {memory.get(), 0}, {memory.get(), 0}};
  for (std::int64_t rows = 1; rows <= 9; ++rows) {
    TensorLayout weight = TensorLayout::contiguous({{kDepth, kColumns}, DType::kF32});
    weight.strides = {1, kDepth};
    const TensorLayout inputs[] = {TensorLayout::contiguous({{rows, kDepth}, DType::kF32}), weight};
    const TensorLayout output = TensorLayout::contiguous({{rows, kColumns}, DType::kF32});
    const bool needed = true;
    const Operation operation = op::Matmul{};
    const auto kernel =
        backend_.make_kernel({operation, inputs, std::span(&output, 1), std::span(&needed, 1)});
    auto buffer = backend_.queue(0).make_command_buffer();
    buffer->encode(*kernel, std::span(regions).first(2), std::span(regions).last(1), {}, kAdd);
    const auto& commands = static_cast<MetalCommandBuffer&>(*buffer).list().commands();
    ASSERT_EQ(commands.size(), 1u);
    EXPECT_THAT(commands[0].function->name(),
                ::testing::StartsWith(rows <= 8 ? "few_rows_" + std::to_string(rows) : "product_"));
  }
}

TEST(MetalProducts, ThinOnesAreDividedAlongTheirDepth) {
  // The gradient of a low-rank factor.
  const TileChoice thin = choose_tile(8, 576, 4096, 1, 16);
  EXPECT_EQ(thin.tile->name, "8x64");
  EXPECT_GT(thin.parts, 1);
  EXPECT_EQ(choose_tile(8, 64, 16384, 1, 16).parts, 16);
  // Not where every core has a tile, nor where there is too little to divide.
  EXPECT_EQ(choose_tile(8, 8192, 4096, 1, 16).parts, 1);
  EXPECT_EQ(choose_tile(8, 576, 4096, 16, 16).parts, 1);
  EXPECT_EQ(choose_tile(8, 64, 300, 1, 16).parts, 1);
  EXPECT_EQ(choose_tile(8, 64, 4096, 1, 1).parts, 1);
}

}  // namespace
}  // namespace metal_candle::backend::metal
