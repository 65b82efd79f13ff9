// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What backend/metal uses of metal-cpp's Metal, with the same names and signatures, for a Metal in
// software (metal_sim.h). What is wrong is a std::logic_error where it is called, and what goes
// wrong on the device is the command buffer's error.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <Foundation/Foundation.hpp>

namespace metal_sim {
struct Kernel;
struct Mapping;
struct HeapMemory;
class Gpu;
struct Dispatch;
}  // namespace metal_sim

namespace MTL {

using GPUAddress = std::uint64_t;
using CFTimeInterval = double;

enum ResourceOptions : NS::UInteger {
  ResourceStorageModeShared = 0,
  ResourceHazardTrackingModeUntracked = 1 << 8,
};
constexpr ResourceOptions operator|(ResourceOptions a, ResourceOptions b) {
  return static_cast<ResourceOptions>(static_cast<NS::UInteger>(a) | static_cast<NS::UInteger>(b));
}
enum ResourceUsage : NS::UInteger { ResourceUsageRead = 1, ResourceUsageWrite = 2 };
constexpr ResourceUsage operator|(ResourceUsage a, ResourceUsage b) {
  return static_cast<ResourceUsage>(static_cast<NS::UInteger>(a) | static_cast<NS::UInteger>(b));
}
enum BarrierScope : NS::UInteger { BarrierScopeBuffers = 1 };
enum DispatchType : NS::UInteger { DispatchTypeSerial = 0, DispatchTypeConcurrent = 1 };
enum GPUFamily : NS::Integer { GPUFamilyApple7 = 1007, GPUFamilyMetal3 = 5001 };
enum LanguageVersion : NS::UInteger { LanguageVersion3_1 = 196609 };
enum PipelineOption : NS::UInteger { PipelineOptionNone = 0 };
enum IndirectCommandType : NS::UInteger { IndirectCommandTypeConcurrentDispatch = 1 << 5 };
enum CommandBufferStatus : NS::UInteger {
  CommandBufferStatusNotEnqueued = 0,
  CommandBufferStatusEnqueued = 1,
  CommandBufferStatusCommitted = 2,
  CommandBufferStatusScheduled = 3,
  CommandBufferStatusCompleted = 4,
  CommandBufferStatusError = 5,
};
enum CommandBufferError : NS::UInteger {
  CommandBufferErrorPageFault = 3,
  CommandBufferErrorOutOfMemory = 8,
  CommandBufferErrorInternal = 1,
};
enum CommandBufferErrorOption : NS::UInteger { CommandBufferErrorOptionEncoderExecutionStatus = 1 };
enum CaptureDestination : NS::Integer { CaptureDestinationGPUTraceDocument = 2 };

struct Size {
  Size(NS::UInteger w, NS::UInteger h, NS::UInteger d) : width(w), height(h), depth(d) {}
  NS::UInteger width, height, depth;
};

class Device;
class CommandQueue;
class CommandBuffer;

class Allocation : public NS::Referencing<Allocation> {
 public:
  /// Where its bytes are; null if the device sees none of them by address.
  std::shared_ptr<metal_sim::Mapping> mapping;
  /// The heap that it is, or that it is of.
  std::shared_ptr<metal_sim::HeapMemory> heap;

 protected:
  void dispose() override {
    mapping.reset();
    heap.reset();
  }
};
class Resource : public NS::Referencing<Resource, Allocation> {};

class Buffer : public NS::Referencing<Buffer, Resource> {
 public:
  void* contents();
  [[nodiscard]] GPUAddress gpuAddress() const;
  [[nodiscard]] NS::UInteger length() const;
  [[nodiscard]] const char* kind() const override { return "an MTL::Buffer"; }

 protected:
  void dispose() override;
};

class HeapDescriptor : public NS::Copying<HeapDescriptor> {
 public:
  static HeapDescriptor* alloc() { return new HeapDescriptor; }
  HeapDescriptor* init() { return this; }
  void setSize(NS::UInteger size);
  void setResourceOptions(ResourceOptions options);
  NS::UInteger size = 0;
  ResourceOptions options{};
};
class Heap : public NS::Referencing<Heap, Allocation> {
 public:
  /// Null if no gap is large enough.
  Buffer* newBuffer(NS::UInteger length, ResourceOptions options);
  [[nodiscard]] NS::UInteger size() const;
  [[nodiscard]] NS::UInteger usedSize() const;
  void setLabel(const NS::String* label);
  [[nodiscard]] const char* kind() const override { return "an MTL::Heap"; }
  ResourceOptions options{};
};
struct SizeAndAlign {
  NS::UInteger size, align;
};

class ResidencySetDescriptor : public NS::Copying<ResidencySetDescriptor> {
 public:
  static ResidencySetDescriptor* alloc() { return new ResidencySetDescriptor; }
  ResidencySetDescriptor* init() { return this; }
  void setLabel(const NS::String* label);
};
class ResidencySet : public NS::Referencing<ResidencySet> {
 public:
  void addAllocation(const Allocation* allocation);
  void removeAllocation(const Allocation* allocation);
  void commit();
  [[nodiscard]] const char* kind() const override { return "an MTL::ResidencySet"; }
  /// What the device goes by since commit(), and what the host has asked for since.
  struct Members {
    std::set<std::shared_ptr<metal_sim::Mapping>> buffers;
    std::set<std::shared_ptr<metal_sim::HeapMemory>> heaps;
  } committed, wanted;
};

class Fence : public NS::Referencing<Fence> {
 public:
  [[nodiscard]] const char* kind() const override { return "an MTL::Fence"; }
};
class Event : public NS::Referencing<Event> {};
class SharedEvent : public NS::Referencing<SharedEvent, Event> {
 public:
  void setSignaledValue(std::uint64_t value);
  [[nodiscard]] std::uint64_t signaledValue() const;
  [[nodiscard]] const char* kind() const override { return "an MTL::SharedEvent"; }
  std::atomic<std::uint64_t> value{0};
};

class CompileOptions : public NS::Copying<CompileOptions> {
 public:
  static CompileOptions* alloc() { return new CompileOptions; }
  CompileOptions* init() { return this; }
  void setLanguageVersion(LanguageVersion version);
  void setFastMathEnabled(bool enabled);
  bool fast_math = true;
  NS::UInteger version = 0;
};
class Function : public NS::Referencing<Function> {
 public:
  [[nodiscard]] const char* kind() const override { return "an MTL::Function"; }
  const metal_sim::Kernel* kernel = nullptr;
};
class Library : public NS::Referencing<Library> {
 public:
  Function* newFunction(const NS::String* name);
  [[nodiscard]] NS::Array* functionNames() const;
  [[nodiscard]] const char* kind() const override { return "an MTL::Library"; }
  std::map<std::string, const metal_sim::Kernel*> kernels;
};

class ComputePipelineDescriptor : public NS::Copying<ComputePipelineDescriptor> {
 public:
  static ComputePipelineDescriptor* alloc() { return new ComputePipelineDescriptor; }
  ComputePipelineDescriptor* init() { return this; }
  void setComputeFunction(const Function* function);
  void setLabel(const NS::String* label);
  void setSupportIndirectCommandBuffers(bool supported);
  const metal_sim::Kernel* kernel = nullptr;
  bool indirect = false;
};
class ComputePipelineReflection;
using AutoreleasedComputePipelineReflection = ComputePipelineReflection*;
class ComputePipelineState : public NS::Referencing<ComputePipelineState> {
 public:
  [[nodiscard]] NS::UInteger maxTotalThreadsPerThreadgroup() const;
  [[nodiscard]] NS::UInteger threadExecutionWidth() const;
  [[nodiscard]] NS::UInteger staticThreadgroupMemoryLength() const;
  [[nodiscard]] const char* kind() const override { return "an MTL::ComputePipelineState"; }
  const metal_sim::Kernel* kernel = nullptr;
  bool indirect = false;
};

/// What is bound where a dispatch is encoded.
struct Bindings {
  struct Place {
    NS::SharedPtr<Buffer> buffer;
    NS::UInteger offset = 0;
  };
  NS::SharedPtr<ComputePipelineState> pipeline;
  std::map<NS::UInteger, Place> buffers;
  std::map<NS::UInteger, NS::UInteger> group_bytes;
};

class IndirectCommandBufferDescriptor : public NS::Copying<IndirectCommandBufferDescriptor> {
 public:
  static IndirectCommandBufferDescriptor* alloc() { return new IndirectCommandBufferDescriptor; }
  IndirectCommandBufferDescriptor* init() { return this; }
  void setCommandTypes(IndirectCommandType types);
  void setInheritBuffers(bool inherit);
  void setInheritPipelineState(bool inherit);
  void setMaxKernelBufferBindCount(NS::UInteger count);
  void setMaxKernelThreadgroupMemoryBindCount(NS::UInteger count);
  NS::UInteger types = 0, buffers = 0, group_memories = 0;
};
class IndirectComputeCommand : public NS::Referencing<IndirectComputeCommand> {
 public:
  void setComputePipelineState(const ComputePipelineState* pipeline);
  void setKernelBuffer(const Buffer* buffer, NS::UInteger offset, NS::UInteger index);
  void setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index);
  void setBarrier();
  void concurrentDispatchThreadgroups(Size groups, Size threads);
  [[nodiscard]] const char* kind() const override { return "an MTL::IndirectComputeCommand"; }
  class IndirectCommandBuffer* owner = nullptr;
  Bindings bindings;
  bool barrier = false;
  std::shared_ptr<metal_sim::Dispatch> dispatch;

 protected:
  void dispose() override;
};
class IndirectCommandBuffer : public NS::Referencing<IndirectCommandBuffer, Resource> {
 public:
  IndirectComputeCommand* indirectComputeCommand(NS::UInteger index);
  [[nodiscard]] const char* kind() const override { return "an MTL::IndirectCommandBuffer"; }
  std::vector<NS::SharedPtr<IndirectComputeCommand>> commands;
  NS::UInteger most_buffers = 0, most_group_memories = 0;
  std::atomic<int> in_flight{0};

 protected:
  void dispose() override;
};

class CommandEncoder : public NS::Referencing<CommandEncoder> {
 public:
  void endEncoding();
  void setLabel(const NS::String* label);
  CommandBuffer* owner = nullptr;
  bool ended = false;
};

/// Dispatches between two barriers, which run in any order.
struct Segment {
  std::vector<std::shared_ptr<metal_sim::Dispatch>> dispatches;
};
class ComputeCommandEncoder : public NS::Referencing<ComputeCommandEncoder, CommandEncoder> {
 public:
  void setComputePipelineState(const ComputePipelineState* pipeline);
  void setBuffer(const Buffer* buffer, NS::UInteger offset, NS::UInteger index);
  void setBufferOffset(NS::UInteger offset, NS::UInteger index);
  void setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index);
  void dispatchThreadgroups(Size groups, Size threads);
  void memoryBarrier(BarrierScope scope);
  void executeCommandsInBuffer(const IndirectCommandBuffer* buffer, NS::Range range);
  void useResource(const Resource* resource, ResourceUsage usage);
  void useResources(const Resource* const resources[], NS::UInteger count, ResourceUsage usage);
  void waitForFence(const Fence* fence);
  void updateFence(const Fence* fence);
  [[nodiscard]] const char* kind() const override { return "an MTL::ComputeCommandEncoder"; }

  bool concurrent = false;
  Bindings bindings;
  std::vector<Segment> segments{1};
  std::set<std::shared_ptr<metal_sim::Mapping>> used;
  std::set<const Fence*> waits, updates;
  std::vector<NS::SharedPtr<IndirectCommandBuffer>> indirect;

 protected:
  void dispose() override;

 private:
  void check_encoding(const char* what) const;
  void add(std::shared_ptr<metal_sim::Dispatch> dispatch);
};

using HandlerFunction = std::function<void(CommandBuffer*)>;

class CommandBufferDescriptor : public NS::Copying<CommandBufferDescriptor> {
 public:
  static CommandBufferDescriptor* alloc() { return new CommandBufferDescriptor; }
  CommandBufferDescriptor* init() { return this; }
  void setRetainedReferences(bool retained);
  void setErrorOptions(CommandBufferErrorOption options);
};
class CommandBuffer : public NS::Referencing<CommandBuffer> {
 public:
  ComputeCommandEncoder* computeCommandEncoder(DispatchType type);
  void encodeWait(const Event* event, std::uint64_t value);
  void encodeSignalEvent(const Event* event, std::uint64_t value);
  void addCompletedHandler(const HandlerFunction& function);
  void commit();
  void waitUntilCompleted();
  [[nodiscard]] CommandBufferStatus status() const;
  [[nodiscard]] NS::Error* error() const;
  [[nodiscard]] NS::String* label() const;
  void setLabel(const NS::String* label);
  [[nodiscard]] CFTimeInterval GPUStartTime() const;
  [[nodiscard]] CFTimeInterval GPUEndTime() const;
  [[nodiscard]] const char* kind() const override { return "an MTL::CommandBuffer"; }

  void check_open(const char* what) const;
  NS::SharedPtr<CommandQueue> queue;
  std::vector<NS::SharedPtr<ComputeCommandEncoder>> encoders;
  std::vector<std::pair<NS::SharedPtr<SharedEvent>, std::uint64_t>> waits, signals;
  std::vector<HandlerFunction> handlers;
  /// Of arguments: so that those of two dispatches do not overlap.
  std::map<std::uint64_t, std::uint64_t> argument_ranges;
  std::atomic<CommandBufferStatus> state{CommandBufferStatusNotEnqueued};
  std::string text;
  NS::Integer error_code = 0;
  std::string error_text;
  double start = 0, end = 0;

 protected:
  void dispose() override;
};

class CommandQueue : public NS::Referencing<CommandQueue> {
 public:
  CommandBuffer* commandBuffer(const CommandBufferDescriptor* descriptor);
  void addResidencySet(const ResidencySet* set);
  void setLabel(const NS::String* label);
  [[nodiscard]] const char* kind() const override { return "an MTL::CommandQueue"; }
  std::vector<NS::SharedPtr<ResidencySet>> residency;
};

class Device : public NS::Referencing<Device> {
 public:
  [[nodiscard]] NS::String* name() const;
  bool supportsFamily(GPUFamily family);
  [[nodiscard]] NS::UInteger maxBufferLength() const;
  [[nodiscard]] NS::UInteger maxThreadgroupMemoryLength() const;
  [[nodiscard]] std::uint64_t recommendedMaxWorkingSetSize() const;
  Buffer* newBuffer(NS::UInteger length, ResourceOptions options);
  Buffer* newBuffer(const void* pointer, NS::UInteger length, ResourceOptions options,
                    void (*deallocator)(void*, NS::UInteger));
  SizeAndAlign heapBufferSizeAndAlign(NS::UInteger length, ResourceOptions options);
  Heap* newHeap(const HeapDescriptor* descriptor);
  CommandQueue* newCommandQueue(NS::UInteger most);
  Fence* newFence();
  SharedEvent* newSharedEvent();
  ResidencySet* newResidencySet(const ResidencySetDescriptor* descriptor, NS::Error** error);
  Library* newLibrary(const NS::URL* url, NS::Error** error);
  Library* newLibrary(const NS::String* source, const CompileOptions* options, NS::Error** error);
  ComputePipelineState* newComputePipelineState(
      const ComputePipelineDescriptor* descriptor, PipelineOption options,
      const AutoreleasedComputePipelineReflection* reflection, NS::Error** error);
  IndirectCommandBuffer* newIndirectCommandBuffer(const IndirectCommandBufferDescriptor* descriptor,
                                                  NS::UInteger count, ResourceOptions options);
  [[nodiscard]] const char* kind() const override { return "an MTL::Device"; }
};

Device* CreateSystemDefaultDevice();
NS::Array* CopyAllDevices();

class CaptureDescriptor : public NS::Copying<CaptureDescriptor> {
 public:
  static CaptureDescriptor* alloc() { return new CaptureDescriptor; }
  CaptureDescriptor* init() { return this; }
  void setCaptureObject(NS::Object* object);
  void setDestination(CaptureDestination destination);
  void setOutputURL(const NS::URL* url);
  NS::Object* object = nullptr;
  std::string path;
};
class CaptureManager : public NS::Referencing<CaptureManager> {
 public:
  static CaptureManager* sharedCaptureManager();
  bool supportsDestination(CaptureDestination destination);
  bool startCapture(const CaptureDescriptor* descriptor, NS::Error** error);
  void stopCapture();
  [[nodiscard]] bool isCapturing() const;
  [[nodiscard]] const char* kind() const override { return "an MTL::CaptureManager"; }

 private:
  std::string path_;
};

}  // namespace MTL
