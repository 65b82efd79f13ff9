// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Parameters of kernels that are best chosen by measuring: tile sizes, how much work is worth a
// thread, which of several products runs. Backends ask for each with the value that they would take
// by themselves; `metal-candle tune` finds better ones and keeps them in a file (tuning_file.h),
// which is read when a device is first asked about.
#pragma once

#include <array>
#include <atomic>
#include <compare>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "metal_candle/core/device.h"
#include "metal_candle/core/dtype.h"

namespace metal_candle::backend {

enum class Tunable : std::uint8_t {
  kProductMethod,        // CPU: which product computes a block: 0 our own, 1 sgemm, 2 matmul.
  kProductRows,          // CPU: rows of a block.
  kProductColumns,       // CPU: columns of a block.
  kProductSplits,        // CPU: parts of the depth, with few rows.
  kElementwiseTile,      // CPU: bytes of an elementwise program's values for a tile.
  kElementwiseGrain,     // CPU: work that is worth a thread, in additions of f32.
  kRowGrain,             // CPU: elements of rows that are worth a thread.
  kStepsPerBuffer,       // CPU: steps that are committed together.
  kGpuRowThreads,        // GPU: threads that a group brings to a row.
  kGpuChunkGroups,       // GPU: groups a multiprocessor where long rows are cut in chunks.
  kGpuReduceGroups,      // GPU: groups a multiprocessor of a reduction that is split.
  kGpuAttentionGroups,   // GPU: groups a multiprocessor of attention that is split over the keys.
  kGpuProductAlgorithm,  // CUDA: which of cuBLASLt's suggestions, from 0.
};

struct TunableInfo {
  Tunable id;
  std::string_view name;                     // In files.
  std::span<const std::int64_t> candidates;  // That are tried, beside the backend's own.
};
/// All of them, in the order above.
[[nodiscard]] std::span<const TunableInfo> tunables();
[[nodiscard]] const TunableInfo& info_of(Tunable tunable);
/// None if there is no such name.
[[nodiscard]] std::optional<Tunable> find_tunable(std::string_view name);

/// Shapes that are tuned together: sizes between the same powers of two, one dtype, one form (a
/// layout or a kind; what it means is the asking kernel's business).
struct ShapeClass {
  DType dtype = DType::kF32;
  std::array<std::int64_t, 3> sizes{};  // The powers of two below; 0 for 0.
  std::int64_t form = 0;

  [[nodiscard]] static ShapeClass of(DType dtype, std::initializer_list<std::int64_t> sizes,
                                     std::int64_t form = 0);
  // NOLINTNEXTLINE(modernize-use-nullptr): no pointer is meant by the 0 that it compares with.
  friend auto operator<=>(const ShapeClass&, const ShapeClass&) = default;
};

/// Values that were chosen for a device. Filled, then installed, then only read: by any thread.
class Tuning {
 public:
  using Key = std::pair<Tunable, ShapeClass>;
  /// Told of what is asked for and what the answer would be without tuning.
  using Listener = std::function<void(const Key& key, std::int64_t fallback)>;

  /// The value chosen, else `fallback`. A load and a compare where there is nothing chosen at all.
  [[nodiscard]] std::int64_t get(Tunable tunable, const ShapeClass& shape,
                                 std::int64_t fallback) const {
    return plain_ ? fallback : look_up(tunable, shape, fallback);
  }
  /// The same, without making a shape class where nothing is chosen.
  template <typename MakeShape>
  requires std::invocable<MakeShape>
  [[nodiscard]] std::int64_t get(Tunable tunable, MakeShape make_shape,
                                 std::int64_t fallback) const {
    return plain_ ? fallback : look_up(tunable, make_shape(), fallback);
  }

  void set(Tunable tunable, const ShapeClass& shape, std::int64_t value);
  void listen(Listener listener);
  [[nodiscard]] const std::map<Key, std::int64_t>& values() const { return values_; }
  /// Unlike that of any other; 0 for one with nothing in it. Part of a plan's key.
  [[nodiscard]] std::uint64_t id() const { return plain_ ? 0 : id_; }

 private:
  [[nodiscard]] std::int64_t look_up(Tunable tunable, const ShapeClass& shape,
                                     std::int64_t fallback) const;

  static inline std::atomic<std::uint64_t> next_id_{1};
  bool plain_ = true;
  std::uint64_t id_ = next_id_.fetch_add(1, std::memory_order_relaxed);
  std::map<Key, std::int64_t> values_;
  Listener listener_;
};

/// That of a device. The first call for a device reads what ships with the library and the user's
/// file, and throws FormatError or IoError if the user has named a file that is damaged or missing.
/// Thread safe.
[[nodiscard]] const Tuning& tuning(Device device);
/// Replaces it; plans made before are not used any more. The tuning is kept for ever, since kernels
/// may be reading it. Not while work of the device is in flight.
void install_tuning(Device device, std::unique_ptr<const Tuning> tuning);

}  // namespace metal_candle::backend
