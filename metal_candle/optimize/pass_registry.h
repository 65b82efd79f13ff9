// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Which passes exist and which of them are switched on. Built-in passes are always there; users add
// their own. Everything here is thread safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metal_candle/optimize/fusion_pass.h"

namespace metal_candle {

/// When a pass runs. Each stage is run to a fixed point before the next begins.
enum class OptimizerStage : std::uint8_t {
  kCanonicalize,  // One spelling for each value, so that patterns need not list them all.
  kCompose,       // Primitives into composites: norms, softmax, attention, LoRA, losses.
  kEpilogue,      // What follows a matrix product goes into it.
  kPrologue,      // What comes before goes into it too, where it is of few rows.
  kElementwise,   // What is left of elementwise operations becomes programs.
};
inline constexpr int kNumOptimizerStages = 5;

/// Makes an instance for one run, or for all if it is reusable().
using PassFactory = std::function<std::unique_ptr<FusionPass>()>;

class PassEntry {
 public:
  PassEntry(std::string pass, OptimizerStage when, PassFactory make)
      : name(std::move(pass)), stage(when), make_(std::move(make)) {}

  /// For a run. Thread safe.
  [[nodiscard]] std::shared_ptr<FusionPass> instance() const;
  /// What its instances say of themselves, all alike. May make one.
  struct Traits {
    OperationSet roots;
    FusionPass::Order order = FusionPass::Order::kInputsFirst;
  };
  [[nodiscard]] Traits traits() const;

  std::string name;
  OptimizerStage stage;

 private:
  struct Reused {
    std::mutex mutex;
    std::shared_ptr<FusionPass> pass;  // Null until there is one that is reusable.
  };
  PassFactory make_;
  std::shared_ptr<Reused> reused_ = std::make_shared<Reused>();  // Of all copies.
};

/// The most passes that can be registered at a time, built-in ones included.
inline constexpr int kMaxPasses = 64;

/// Adds a pass, switched on. In its stage it is tried before the built-in ones. Throws Error when
/// the name is taken (built-in names are) or there are kMaxPasses already. The factory may be
/// called by any thread.
void register_pass(std::string name, PassFactory factory,
                   OptimizerStage stage = OptimizerStage::kCompose);
/// Removes a pass that register_pass() added. Throws Error for any other name.
void unregister_pass(std::string_view name);
/// All names, in the order in which passes are tried.
[[nodiscard]] std::vector<std::string> pass_names();

/// A choice of passes: a value to compare, to hash and to keep in the key of a plan cache.
class PassSet {
 public:
  /// Every registered pass; none of them.
  static PassSet all();
  static PassSet none();
  /// The same with one pass more or less. Throws Error naming the known passes if there is no such
  /// pass.
  [[nodiscard]] PassSet with(std::string_view pass) const;
  [[nodiscard]] PassSet without(std::string_view pass) const;
  [[nodiscard]] bool contains(std::string_view pass) const;

  [[nodiscard]] std::size_t hash() const {
    return static_cast<std::size_t>((enabled_ ^ (version_ << 32)) * 0x9E3779B97F4A7C15ull);
  }
  /// Equal only if the registry has not changed in between either.
  friend bool operator==(const PassSet&, const PassSet&) = default;

 private:
  friend class PassRegistry;
  PassSet(std::uint64_t enabled, std::uint64_t version) : enabled_(enabled), version_(version) {}
  std::uint64_t enabled_;  // One bit a slot of the registry.
  std::uint64_t version_;  // Of the registry.
};

/// The passes that evaluation on this thread uses: those of the innermost ScopedPasses, or else the
/// process's. A few loads. The first call reads METAL_CANDLE_DISABLE_PASSES (see
/// parse_disabled_passes()) and throws if that names an unknown pass.
[[nodiscard]] PassSet current_passes();

/// Switches a pass on or off for the process. Throws Error for an unknown name.
void set_pass_enabled(std::string_view name, bool enabled);

/// "a,b" (spaces allowed) leaves out a and b; "all" leaves out all; "" none. Throws FormatError
/// naming the unknown pass and the known ones.
[[nodiscard]] PassSet parse_disabled_passes(std::string_view list);

/// Uses `passes` on this thread until the end of the scope. Scopes nest.
class [[nodiscard]] ScopedPasses {
 public:
  explicit ScopedPasses(PassSet passes);
  ~ScopedPasses();
  ScopedPasses(const ScopedPasses&) = delete;
  ScopedPasses& operator=(const ScopedPasses&) = delete;

 private:
  const PassSet* previous_;
  PassSet passes_;
};

/// The entries of `passes`, in the order in which they are tried.
[[nodiscard]] std::vector<PassEntry> passes_in_order(PassSet passes);

}  // namespace metal_candle
