// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The Metal in software is strict: each thing that Metal forbids, done once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Metal/Metal.hpp>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/metal_sim/metal_sim.h"
#include "tests/support/message_of.h"

namespace metal_candle::testing {
namespace {

using ::testing::HasSubstr;

constexpr const char* kKernels = R"(
#include <metal_stdlib>
using namespace metal;
struct Arguments {
  device float* x;
  ulong count;
};
struct Half { ulong one[2]; };
[[kernel, max_total_threads_per_threadgroup(64)]] void add_one(
    constant Arguments& a [[buffer(0)]], uint3 i [[thread_position_in_threadgroup]]) {
  if (i.x < a.count) a.x[i.x] += 1.0f;
}
[[kernel, max_total_threads_per_threadgroup(64)]] void twice(
    constant Arguments& a [[buffer(0)]], uint3 i [[thread_position_in_threadgroup]]) {
  if (i.x < a.count) a.x[i.x] *= 2.0f;
}
[[kernel, max_total_threads_per_threadgroup(64)]] void negative(
    constant Arguments& a [[buffer(0)]], uint3 i [[thread_position_in_threadgroup]]) {
  a.x[-1 - long(a.count)] = 1.0f;
}
[[kernel, max_total_threads_per_threadgroup(64)]] void given(
    constant Arguments& a [[buffer(0)]], threadgroup char* memory [[threadgroup(0)]],
    uint3 i [[thread_position_in_threadgroup]]) {
  memory[i.x] = 1;
  memory[a.count] = 1;
}
[[kernel, max_total_threads_per_threadgroup(64)]] void own(
    constant Arguments& a [[buffer(0)]], uint3 i [[thread_position_in_threadgroup]]) {
  threadgroup float shared[64];
  shared[i.x] = a.x[i.x];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  a.x[i.x] = shared[63 - i.x];
}
[[kernel, max_total_threads_per_threadgroup(64)]] void too_large(
    constant Arguments& a [[buffer(0)]], uint3 i [[thread_position_in_threadgroup]]) {
  threadgroup float shared[8193];
  shared[i.x] = a.x[i.x];
}
[[kernel, max_total_threads_per_threadgroup(64)]] void diverge(
    constant Arguments& a [[buffer(0)]], uint3 i [[thread_position_in_threadgroup]]) {
  if (i.x < 3) threadgroup_barrier(mem_flags::mem_threadgroup);
}
)";

struct Arguments {
  std::uint64_t x;
  std::uint64_t count;
};
constexpr std::size_t kCount = 64;

// A device, a queue, memory for 64 floats and for arguments, and a pool for the test.
class MetalSim : public ::testing::Test {
 protected:
  MetalSim()
      : pool_(NS::AutoreleasePool::alloc()->init()),
        device_(NS::TransferPtr(MTL::CreateSystemDefaultDevice())),
        queue_(NS::TransferPtr(device_->newCommandQueue(64))),
        descriptor_(NS::TransferPtr(MTL::CommandBufferDescriptor::alloc()->init())),
        data_(buffer(kCount * sizeof(float))),
        arguments_(buffer(4096)) {
    const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
    options->setLanguageVersion(MTL::LanguageVersion3_1);
    options->setFastMathEnabled(false);
    NS::Error* error = nullptr;
    library_ = NS::TransferPtr(device_->newLibrary(
        NS::String::string(kKernels, NS::UTF8StringEncoding), options.get(), &error));
    if (!library_) throw std::runtime_error(error->localizedDescription()->utf8String());
    std::memset(data_->contents(), 0, data_->length());
    write_arguments(0, data_->gpuAddress(), kCount);
  }
  ~MetalSim() override {
    metal_sim::resume();
    pool_->release();
  }

  NS::SharedPtr<MTL::Buffer> buffer(std::size_t bytes) {
    return NS::TransferPtr(device_->newBuffer(bytes, MTL::ResourceStorageModeShared));
  }
  void write_arguments(std::size_t offset, std::uint64_t x, std::uint64_t count) {
    const Arguments arguments{x, count};
    std::memcpy(static_cast<char*>(arguments_->contents()) + offset, &arguments, sizeof(arguments));
  }
  NS::SharedPtr<MTL::ComputePipelineState> pipeline(const char* name, bool indirect = false) {
    const auto function =
        NS::TransferPtr(library_->newFunction(NS::String::string(name, NS::UTF8StringEncoding)));
    const auto descriptor = NS::TransferPtr(MTL::ComputePipelineDescriptor::alloc()->init());
    descriptor->setComputeFunction(function.get());
    descriptor->setSupportIndirectCommandBuffers(indirect);
    return NS::TransferPtr(device_->newComputePipelineState(
        descriptor.get(), MTL::PipelineOptionNone, nullptr, nullptr));
  }
  MTL::CommandBuffer* commands() { return queue_->commandBuffer(descriptor_.get()); }
  /// An encoder that may touch data_, with the kernel and its arguments bound.
  MTL::ComputeCommandEncoder* encoder(MTL::CommandBuffer* commands, const char* kernel) {
    MTL::ComputeCommandEncoder* encoder =
        commands->computeCommandEncoder(MTL::DispatchTypeConcurrent);
    encoder->setComputePipelineState(pipeline(kernel).get());
    encoder->setBuffer(arguments_.get(), 0, 0);
    encoder->useResource(data_.get(), MTL::ResourceUsageRead | MTL::ResourceUsageWrite);
    return encoder;
  }
  static void dispatch(MTL::ComputeCommandEncoder* encoder, NS::UInteger threads = kCount) {
    encoder->dispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(threads, 1, 1));
  }
  /// Runs one kernel; what the device says of it.
  std::string run(const char* kernel, NS::UInteger group_bytes = 0) {
    MTL::CommandBuffer* buffer = commands();
    MTL::ComputeCommandEncoder* encoder = this->encoder(buffer, kernel);
    if (group_bytes > 0) encoder->setThreadgroupMemoryLength(group_bytes, 0);
    dispatch(encoder);
    encoder->endEncoding();
    return finish(buffer);
  }
  static std::string finish(MTL::CommandBuffer* buffer) {
    buffer->commit();
    buffer->waitUntilCompleted();
    return buffer->error() == nullptr ? "" : buffer->error()->localizedDescription()->utf8String();
  }
  float* values() { return static_cast<float*>(data_->contents()); }
  template <typename Fn>
  static std::string violation(Fn fn) {
    return message_of<std::logic_error>(fn);
  }

  NS::AutoreleasePool* pool_;
  NS::SharedPtr<MTL::Device> device_;
  NS::SharedPtr<MTL::CommandQueue> queue_;
  NS::SharedPtr<MTL::CommandBufferDescriptor> descriptor_;
  NS::SharedPtr<MTL::Buffer> data_, arguments_;
  NS::SharedPtr<MTL::Library> library_;
};

TEST_F(MetalSim, RunsKernels) {
  EXPECT_EQ(run("add_one"), "");
  EXPECT_EQ(run("twice"), "");
  for (std::size_t i = 0; i < kCount; ++i) EXPECT_EQ(values()[i], 2.0f);
  values()[5] = 7;
  EXPECT_EQ(run("own"), "");
  EXPECT_EQ(values()[58], 7.0f);
}

TEST_F(MetalSim, ReleasedObjectsAreNotUsed) {
  MTL::Buffer* gone = device_->newBuffer(64, MTL::ResourceStorageModeShared);
  gone->release();
  EXPECT_THAT(violation([&] { (void)gone->length(); }),
              HasSubstr("released object, an MTL::Buffer"));
  EXPECT_THAT(violation([&] { gone->release(); }), HasSubstr("released object"));
  MTL::CommandBuffer* buffer = nullptr;
  {
    NS::AutoreleasePool* inner = NS::AutoreleasePool::alloc()->init();
    buffer = commands();
    inner->release();
  }
  EXPECT_THAT(violation([&] { buffer->commit(); }), HasSubstr("an MTL::CommandBuffer"));
}

// A heap of 1 KiB, and an encoder that uses one of its buffers.
class HeapSim : public MetalSim {
 protected:
  HeapSim() : heap_(heap(1024)) {}
  NS::SharedPtr<MTL::Heap> heap(NS::UInteger bytes) {
    const auto descriptor = NS::TransferPtr(MTL::HeapDescriptor::alloc()->init());
    descriptor->setSize(bytes);
    descriptor->setResourceOptions(MTL::ResourceStorageModeShared);
    return NS::TransferPtr(device_->newHeap(descriptor.get()));
  }
  NS::SharedPtr<MTL::Buffer> piece(NS::UInteger bytes) {
    return NS::TransferPtr(heap_->newBuffer(bytes, MTL::ResourceStorageModeShared));
  }
  /// What the device says when a kernel adds 1 to 64 floats there.
  std::string add_one(std::uint64_t address) {
    write_arguments(0, address, kCount);
    return run("add_one");
  }
  NS::SharedPtr<MTL::Heap> heap_;
};

TEST_F(HeapSim, BuffersOfAHeapFitInIt) {
  EXPECT_EQ(heap_->size(), 1024u);
  const auto first = piece(500);
  auto second = piece(256);
  EXPECT_EQ(heap_->usedSize(), 768u);
  EXPECT_FALSE(piece(257));
  const auto third = piece(256);
  ASSERT_TRUE(third);
  EXPECT_FALSE(piece(1));
  second.reset();
  EXPECT_FALSE(piece(257));  // The gap is in the middle.
  EXPECT_TRUE(piece(256));
  EXPECT_EQ(heap_->usedSize(), 768u);
  EXPECT_THAT(violation([&] { (void)heap_->newBuffer(0, MTL::ResourceStorageModeShared); }),
              HasSubstr("no bytes"));
  EXPECT_THAT(
      violation([&] { (void)heap_->newBuffer(16, MTL::ResourceHazardTrackingModeUntracked); }),
      HasSubstr("other options than the heap's"));
  EXPECT_THAT(violation([&] { (void)heap(0); }), HasSubstr("a heap of no bytes"));
}

TEST_F(HeapSim, ResidencyIsTheHeaps) {
  const auto descriptor = NS::TransferPtr(MTL::ResidencySetDescriptor::alloc()->init());
  const auto set = NS::TransferPtr(device_->newResidencySet(descriptor.get(), nullptr));
  queue_->addResidencySet(set.get());
  const auto first = piece(256);
  EXPECT_THAT(add_one(first->gpuAddress()), HasSubstr("not resident"));
  EXPECT_THAT(violation([&] { set->addAllocation(first.get()); }),
              HasSubstr("rather than the heap"));
  set->addAllocation(heap_.get());
  set->commit();
  EXPECT_EQ(add_one(first->gpuAddress()), "");
  const auto second = piece(256);  // Made later, it is resident too.
  EXPECT_EQ(add_one(second->gpuAddress()), "");
  EXPECT_THAT(add_one(second->gpuAddress() + 16), HasSubstr("behind a buffer of 256 bytes"));
  set->removeAllocation(heap_.get());
  set->commit();
  EXPECT_THAT(add_one(first->gpuAddress()), HasSubstr("not resident"));
}

TEST_F(HeapSim, WhatIsReleasedIsNotUsed) {
  const auto descriptor = NS::TransferPtr(MTL::ResidencySetDescriptor::alloc()->init());
  const auto set = NS::TransferPtr(device_->newResidencySet(descriptor.get(), nullptr));
  queue_->addResidencySet(set.get());
  set->addAllocation(heap_.get());
  set->commit();
  auto first = piece(256);
  const std::uint64_t address = first->gpuAddress();
  EXPECT_EQ(add_one(address), "");
  first.reset();
  EXPECT_THAT(add_one(address), HasSubstr("a released buffer"));
  // A heap's buffers keep its memory; the heap itself is gone.
  const auto second = piece(256);
  MTL::Heap* gone = heap_.get();
  heap_.reset();
  EXPECT_EQ(add_one(second->gpuAddress()), "");
  EXPECT_THAT(violation([&] { (void)gone->newBuffer(16, MTL::ResourceStorageModeShared); }),
              HasSubstr("released object, an MTL::Heap"));
}

TEST_F(MetalSim, ThreadsHaveAutoreleasePools) {
  std::string text;
  std::thread([&] { text = violation([&] { (void)commands(); }); }).join();
  EXPECT_THAT(text, HasSubstr("autoreleased on a thread without a pool"));
}

TEST_F(MetalSim, NothingIsEncodedAfterTheEnd) {
  MTL::CommandBuffer* buffer = commands();
  MTL::ComputeCommandEncoder* encoder = this->encoder(buffer, "add_one");
  EXPECT_THAT(violation([&] { buffer->commit(); }), HasSubstr("an encoder that is open"));
  EXPECT_THAT(violation([&] { (void)buffer->computeCommandEncoder(MTL::DispatchTypeSerial); }),
              HasSubstr("while another is open"));
  encoder->endEncoding();
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("after endEncoding"));
  EXPECT_THAT(violation([&] { encoder->endEncoding(); }), HasSubstr("after endEncoding"));
}

TEST_F(MetalSim, NothingIsEncodedOrCommittedAfterTheCommit) {
  MTL::CommandBuffer* buffer = commands();
  EXPECT_EQ(finish(buffer), "");
  EXPECT_THAT(violation([&] { buffer->commit(); }), HasSubstr("commit after commit"));
  EXPECT_THAT(violation([&] { (void)buffer->computeCommandEncoder(MTL::DispatchTypeSerial); }),
              HasSubstr("after commit"));
  EXPECT_THAT(violation([&] { buffer->addCompletedHandler([](MTL::CommandBuffer*) {}); }),
              HasSubstr("after commit"));
}

TEST_F(MetalSim, ArgumentsAreBoundAndWhole) {
  MTL::CommandBuffer* buffer = commands();
  MTL::ComputeCommandEncoder* encoder = buffer->computeCommandEncoder(MTL::DispatchTypeConcurrent);
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("without a pipeline"));
  encoder->setComputePipelineState(pipeline("add_one").get());
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("argument 0 is not bound"));
  EXPECT_THAT(violation([&] { encoder->setBufferOffset(16, 0); }), HasSubstr("no buffer is bound"));
  encoder->setBuffer(arguments_.get(), 4088, 0);
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("16 bytes at 4088"));
  encoder->setBufferOffset(4, 0);
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("no multiple of 8"));
  encoder->setComputePipelineState(pipeline("given").get());
  encoder->setBufferOffset(0, 0);
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("has no length"));
  encoder->endEncoding();
}

TEST_F(MetalSim, ArgumentsDoNotOverlap) {
  MTL::CommandBuffer* buffer = commands();
  MTL::ComputeCommandEncoder* encoder = this->encoder(buffer, "add_one");
  dispatch(encoder);
  dispatch(encoder);  // The very same are allowed.
  encoder->setBufferOffset(8, 0);
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("overlap"));
  encoder->endEncoding();
}

TEST_F(MetalSim, GroupsAreNotTooLarge) {
  MTL::CommandBuffer* buffer = commands();
  MTL::ComputeCommandEncoder* encoder = this->encoder(buffer, "given");
  EXPECT_THAT(violation([&] { encoder->setThreadgroupMemoryLength(24, 0); }),
              HasSubstr("no multiple of 16"));
  encoder->setThreadgroupMemoryLength((32 << 10) + 16, 0);
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("of at most 32768"));
  encoder->setComputePipelineState(pipeline("too_large").get());
  EXPECT_THAT(violation([&] { dispatch(encoder); }), HasSubstr("of at most 32768"));
  encoder->setComputePipelineState(pipeline("add_one").get());
  EXPECT_THAT(violation([&] { dispatch(encoder, 96); }), HasSubstr("96 threads"));
  EXPECT_THAT(
      violation([&] { encoder->dispatchThreadgroups(MTL::Size(0, 1, 1), MTL::Size(32, 1, 1)); }),
      HasSubstr("a dispatch of nothing"));
  encoder->endEncoding();
}

TEST_F(MetalSim, AccessIsWithinBuffers) {
  const std::uint64_t x = data_->gpuAddress();
  write_arguments(0, x + 4, kCount);
  EXPECT_THAT(run("add_one"), HasSubstr("add_one touches 0 bytes behind a buffer of 256 bytes"));
  write_arguments(0, x, 8192);
  EXPECT_THAT(run("negative"), HasSubstr("bytes before a buffer of 256 bytes"));
  write_arguments(0, 0, kCount);
  EXPECT_THAT(run("add_one"), HasSubstr("where no buffer of the device is"));
  // The host's address is not the device's.
  write_arguments(0, reinterpret_cast<std::uint64_t>(data_->contents()), kCount);
  EXPECT_NE(reinterpret_cast<std::uint64_t>(data_->contents()), x);
  // What failed does not stand in the way of what comes.
  write_arguments(0, x, kCount);
  EXPECT_EQ(run("add_one"), "");
}

TEST_F(MetalSim, ReleasedMemoryIsNotTouched) {
  auto other = buffer(256);
  write_arguments(0, other->gpuAddress(), kCount);
  other.reset();
  EXPECT_THAT(run("add_one"), HasSubstr("byte 0 of a released buffer of 256 bytes"));
}

TEST_F(MetalSim, GroupMemoryIsNotOverrun) {
  write_arguments(0, 0, 64);
  EXPECT_THAT(run("given", 64), HasSubstr("writes beyond the 64 bytes of its group"));
}

TEST_F(MetalSim, BarriersAreForAllThreads) {
  EXPECT_THAT(run("diverge"), HasSubstr("wait for others that never come"));
}

// (x + 1) * 2 in 40 orders of chance.
TEST_F(MetalSim, DispatchesWithoutABarrierRunInAnyOrder) {
  const auto wrong = [&](bool barrier) {
    int count = 0;
    for (int i = 0; i < 40; ++i) {
      values()[0] = 1;
      MTL::CommandBuffer* buffer = commands();
      MTL::ComputeCommandEncoder* encoder = this->encoder(buffer, "add_one");
      dispatch(encoder);
      if (barrier) encoder->memoryBarrier(MTL::BarrierScopeBuffers);
      encoder->setComputePipelineState(pipeline("twice").get());
      dispatch(encoder);
      encoder->endEncoding();
      EXPECT_EQ(finish(buffer), "");
      count += values()[0] != 4.0f;
    }
    return count;
  };
  EXPECT_GT(wrong(false), 0);
  EXPECT_EQ(wrong(true), 0);
}

TEST_F(MetalSim, EncodersWithoutAFenceRunInAnyOrder) {
  const auto fence = NS::TransferPtr(device_->newFence());
  const auto wrong = [&](bool fenced) {
    int count = 0;
    for (int i = 0; i < 40; ++i) {
      values()[0] = 1;
      metal_sim::pause();
      MTL::CommandBuffer* both[] = {commands(), commands()};
      for (int j = 0; j < 2; ++j) {
        MTL::ComputeCommandEncoder* encoder = this->encoder(both[j], j == 0 ? "add_one" : "twice");
        if (fenced) encoder->waitForFence(fence.get());
        dispatch(encoder);
        if (fenced) encoder->updateFence(fence.get());
        encoder->endEncoding();
        both[j]->commit();
      }
      metal_sim::resume();
      both[1]->waitUntilCompleted();
      count += values()[0] != 4.0f;
    }
    return count;
  };
  EXPECT_GT(wrong(false), 0);
  EXPECT_EQ(wrong(true), 0);
}

class IndirectSim : public MetalSim {
 protected:
  IndirectSim() {
    const auto descriptor = NS::TransferPtr(MTL::IndirectCommandBufferDescriptor::alloc()->init());
    descriptor->setCommandTypes(MTL::IndirectCommandTypeConcurrentDispatch);
    descriptor->setMaxKernelBufferBindCount(1);
    indirect_ = NS::TransferPtr(
        device_->newIndirectCommandBuffer(descriptor.get(), 2, MTL::ResourceStorageModeShared));
  }
  void encode(NS::UInteger index, const char* kernel, bool barrier) {
    MTL::IndirectComputeCommand* command = indirect_->indirectComputeCommand(index);
    command->setComputePipelineState(pipeline(kernel, true).get());
    command->setKernelBuffer(arguments_.get(), 0, 0);
    if (barrier) command->setBarrier();
    command->concurrentDispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(kCount, 1, 1));
  }
  std::string execute(bool resident) {
    MTL::CommandBuffer* buffer = commands();
    MTL::ComputeCommandEncoder* encoder =
        buffer->computeCommandEncoder(MTL::DispatchTypeConcurrent);
    encoder->useResource(arguments_.get(), MTL::ResourceUsageRead);
    if (resident) encoder->useResource(data_.get(), MTL::ResourceUsageRead);
    encoder->executeCommandsInBuffer(indirect_.get(), NS::Range(0, 2));
    encoder->endEncoding();
    return finish(buffer);
  }
  NS::SharedPtr<MTL::IndirectCommandBuffer> indirect_;
};

TEST_F(IndirectSim, WhatIndirectCommandsTouchIsResident) {
  encode(0, "add_one", false);
  encode(1, "twice", true);
  EXPECT_THAT(execute(false), HasSubstr("byte 0 of a buffer of 256 bytes that is not resident"));
  EXPECT_EQ(execute(true), "");
  EXPECT_EQ(values()[3], 2.0f);
}

TEST_F(IndirectSim, ResidencySetsHoldOnceTheyAreCommitted) {
  encode(0, "add_one", false);
  encode(1, "twice", true);
  const auto descriptor = NS::TransferPtr(MTL::ResidencySetDescriptor::alloc()->init());
  const auto set = NS::TransferPtr(device_->newResidencySet(descriptor.get(), nullptr));
  queue_->addResidencySet(set.get());
  set->addAllocation(data_.get());
  EXPECT_THAT(execute(false), HasSubstr("not resident"));
  set->commit();
  EXPECT_EQ(execute(false), "");
  set->removeAllocation(data_.get());
  EXPECT_EQ(execute(false), "");
  set->commit();
  EXPECT_THAT(execute(false), HasSubstr("not resident"));
}

TEST_F(IndirectSim, IndirectCommandsNeedBarriersToo) {
  const auto wrong = [&](bool barrier) {
    encode(0, "add_one", false);
    MTL::IndirectComputeCommand* second = indirect_->indirectComputeCommand(1);
    second->setComputePipelineState(pipeline("twice", true).get());
    second->setKernelBuffer(arguments_.get(), 0, 0);
    if (barrier) second->setBarrier();
    second->concurrentDispatchThreadgroups(MTL::Size(1, 1, 1), MTL::Size(kCount, 1, 1));
    int count = 0;
    for (int i = 0; i < 40; ++i) {
      values()[0] = 1;
      EXPECT_EQ(execute(true), "");
      count += values()[0] != 4.0f;
    }
    return count;
  };
  EXPECT_GT(wrong(false), 0);
  EXPECT_EQ(wrong(true), 0);
}

TEST_F(IndirectSim, IndirectCommandsAreWhole) {
  MTL::IndirectComputeCommand* command = indirect_->indirectComputeCommand(0);
  EXPECT_THAT(violation([&] { command->setComputePipelineState(pipeline("add_one").get()); }),
              HasSubstr("does not support indirect command buffers"));
  EXPECT_THAT(violation([&] { command->setKernelBuffer(arguments_.get(), 0, 1); }),
              HasSubstr("kernel buffer 1 is too many"));
  EXPECT_THAT(violation([&] { (void)indirect_->indirectComputeCommand(2); }),
              HasSubstr("indirect command 2"));
  encode(0, "add_one", false);
  MTL::CommandBuffer* buffer = commands();
  MTL::ComputeCommandEncoder* encoder = buffer->computeCommandEncoder(MTL::DispatchTypeConcurrent);
  EXPECT_THAT(
      violation([&] { encoder->executeCommandsInBuffer(indirect_.get(), NS::Range(0, 2)); }),
      HasSubstr("was never encoded"));
  EXPECT_THAT(
      violation([&] { encoder->executeCommandsInBuffer(indirect_.get(), NS::Range(1, 2)); }),
      HasSubstr("of an indirect command buffer of 2"));
  encoder->endEncoding();
}

TEST_F(IndirectSim, CommandsOnTheDeviceAreNotChanged) {
  encode(0, "add_one", false);
  encode(1, "twice", true);
  metal_sim::pause();
  MTL::CommandBuffer* buffer = commands();
  MTL::ComputeCommandEncoder* encoder = buffer->computeCommandEncoder(MTL::DispatchTypeConcurrent);
  encoder->executeCommandsInBuffer(indirect_.get(), NS::Range(0, 2));
  encoder->useResource(data_.get(), MTL::ResourceUsageRead);
  encoder->useResource(arguments_.get(), MTL::ResourceUsageRead);
  encoder->endEncoding();
  buffer->commit();
  EXPECT_THAT(violation([&] { encode(0, "twice", false); }), HasSubstr("on the device"));
  metal_sim::resume();
  buffer->waitUntilCompleted();
  encode(0, "twice", false);
}

TEST_F(MetalSim, HostMemoryIsTakenInPages) {
  alignas(4096) static char pages[8192];
  EXPECT_THAT(violation([&] {
                (void)device_->newBuffer(pages + 64, 4096, MTL::ResourceStorageModeShared, nullptr);
              }),
              HasSubstr("are not whole pages"));
  EXPECT_THAT(violation([&] {
                (void)device_->newBuffer(pages, 100, MTL::ResourceStorageModeShared, nullptr);
              }),
              HasSubstr("are not whole pages"));
  const auto taken =
      NS::TransferPtr(device_->newBuffer(pages, 4096, MTL::ResourceStorageModeShared, nullptr));
  EXPECT_EQ(taken->contents(), pages);
}

TEST_F(MetalSim, TextThatIsWrongDoesNotCompile) {
  const auto options = NS::TransferPtr(MTL::CompileOptions::alloc()->init());
  const auto compile = [&](const char* text) -> std::string {
    NS::Error* error = nullptr;
    const auto library = NS::TransferPtr(device_->newLibrary(
        NS::String::string(text, NS::UTF8StringEncoding), options.get(), &error));
    return library ? "" : error->localizedDescription()->utf8String();
  };
  EXPECT_THAT(violation([&] { (void)compile(""); }), HasSubstr("without fast math"));
  options->setLanguageVersion(MTL::LanguageVersion3_1);
  options->setFastMathEnabled(false);
  EXPECT_THAT(compile("#include <metal_stdlib>\nint x = nothing;"), HasSubstr("nothing"));
  EXPECT_THAT(compile("[[kernel, max_total_threads_per_threadgroup(1)]] void f(uint i) {}"),
              HasSubstr("without an attribute"));
  // Functions that call themselves.
  EXPECT_THAT(
      compile("#include <metal_stdlib>\ninline __attribute__((always_inline)) int f(int n) {"
              " return n > 0 ? f(n - 1) + f(n - 2) : 0; }\nint g(int n) { return f(n); }"),
      HasSubstr("inlining failed"));
}

}  // namespace
}  // namespace metal_candle::testing
