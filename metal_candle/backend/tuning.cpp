// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See tuning.h.
#include "metal_candle/backend/tuning.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <vector>

#include "metal_candle/backend/registry.h"
#include "metal_candle/backend/tuning_file.h"
#include "metal_candle/core/error.h"

namespace metal_candle::backend {
namespace {

constexpr std::int64_t kMethods[] = {0, 1, 2};
constexpr std::int64_t kBlockRows[] = {48, 96, 192, 264, 512, 1024};
constexpr std::int64_t kBlockColumns[] = {64, 128, 192, 256, 384, 512, 768, 1024, 2048};
constexpr std::int64_t kSplits[] = {1, 2, 4, 8};
constexpr std::int64_t kTileBytes[] = {4 << 10, 8 << 10, 16 << 10, 24 << 10, 32 << 10, 64 << 10};
constexpr std::int64_t kWork[] = {4096, 16384, 32768, 65536, 131072, 262144, 1048576};
constexpr std::int64_t kSteps[] = {8, 16, 32, 64, 128, 256};
constexpr std::int64_t kThreads[] = {64, 128, 256, 512, 1024};
constexpr std::int64_t kGroups[] = {1, 2, 4, 8, 16};
constexpr std::int64_t kAlgorithms[] = {0, 1, 2, 3, 4, 5, 6, 7};

constexpr TunableInfo kTunables[] = {
    {Tunable::kProductMethod, "product method", kMethods},
    {Tunable::kProductRows, "product rows", kBlockRows},
    {Tunable::kProductColumns, "product columns", kBlockColumns},
    {Tunable::kProductSplits, "product splits", kSplits},
    {Tunable::kElementwiseTile, "elementwise tile", kTileBytes},
    {Tunable::kElementwiseGrain, "elementwise grain", kWork},
    {Tunable::kRowGrain, "row grain", kWork},
    {Tunable::kStepsPerBuffer, "steps per buffer", kSteps},
    {Tunable::kGpuRowThreads, "row threads", kThreads},
    {Tunable::kGpuChunkGroups, "chunk groups", kGroups},
    {Tunable::kGpuReduceGroups, "reduce groups", kGroups},
    {Tunable::kGpuAttentionGroups, "attention groups", kGroups},
    {Tunable::kGpuProductAlgorithm, "product algorithm", kAlgorithms},
};

constexpr std::size_t kTypes = 3;
constexpr std::size_t kMaxDevices = 16;  // Of a type.

struct Slots {
  std::mutex mutex;
  std::atomic<const Tuning*> current[kTypes][kMaxDevices]{};
  std::vector<std::unique_ptr<const Tuning>> all;
};
Slots& slots() {
  static auto* instance = new Slots;  // Read by work in flight while the process exits.
  return *instance;
}

std::atomic<const Tuning*>& slot(Device device) {
  if (device.index >= kMaxDevices)
    throw DeviceError(to_string(device) + ": there is no such device");
  return slots().current[static_cast<std::size_t>(device.type)][device.index];
}

}  // namespace

std::span<const TunableInfo> tunables() { return kTunables; }

const TunableInfo& info_of(Tunable tunable) { return kTunables[static_cast<std::size_t>(tunable)]; }

std::optional<Tunable> find_tunable(std::string_view name) {
  const auto* found = std::ranges::find(kTunables, name, &TunableInfo::name);
  return found == std::end(kTunables) ? std::nullopt : std::optional(found->id);
}

ShapeClass ShapeClass::of(DType dtype, std::initializer_list<std::int64_t> sizes,
                          std::int64_t form) {
  ShapeClass shape{dtype, {}, form};
  std::size_t i = 0;
  for (const std::int64_t size : sizes) {
    shape.sizes.at(i++) = static_cast<std::int64_t>(
        std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(size, 0))));
  }
  return shape;
}

void Tuning::set(Tunable tunable, const ShapeClass& shape, std::int64_t value) {
  values_[{tunable, shape}] = value;
  plain_ = false;
}

void Tuning::listen(Listener listener) {
  listener_ = std::move(listener);
  plain_ = false;
}

std::int64_t Tuning::look_up(Tunable tunable, const ShapeClass& shape,
                             std::int64_t fallback) const {
  const Key key{tunable, shape};
  if (listener_) listener_(key, fallback);
  const auto found = values_.find(key);
  return found == values_.end() ? fallback : found->second;
}

const Tuning& tuning(Device device) {
  std::atomic<const Tuning*>& current = slot(device);
  if (const Tuning* known = current.load(std::memory_order_acquire)) return *known;
  auto loaded = std::make_unique<const Tuning>(load_tuning(tuning_key(backend_for(device))));
  const std::lock_guard lock(slots().mutex);
  if (const Tuning* known = current.load(std::memory_order_acquire)) return *known;
  current.store(loaded.get(), std::memory_order_release);
  slots().all.push_back(std::move(loaded));
  return *slots().all.back();
}

void install_tuning(Device device, std::unique_ptr<const Tuning> tuning) {
  const std::lock_guard lock(slots().mutex);
  slot(device).store(tuning.get(), std::memory_order_release);
  slots().all.push_back(std::move(tuning));
}

}  // namespace metal_candle::backend
