// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A slot a pass, so that a choice of passes is one word. Slots of removed passes are used again;
// the version number keeps choices made before apart from those made after.
#include "metal_candle/optimize/pass_registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "metal_candle/core/error.h"
#include "metal_candle/optimize/passes/builtin_passes.h"

namespace metal_candle {

class PassRegistry {
 public:
  static PassRegistry& instance() {
    // Never destroyed: other threads may be evaluating while the process exits.
    static auto* registry = new PassRegistry;
    return *registry;
  }

  void add(PassEntry entry) {
    const std::unique_lock lock(mutex_);
    if (find(entry.name)) {
      throw Error(fmt::format("register_pass: there is a pass \"{}\" already", entry.name));
    }
    const auto free = std::find_if_not(slots_.begin(), slots_.end(),
                                       [](const auto& slot) { return slot.has_value(); });
    if (free == slots_.end()) {
      throw Error(fmt::format("register_pass: \"{}\" would be pass number {}, and {} is the limit",
                              entry.name, kMaxPasses + 1, kMaxPasses));
    }
    const auto slot = static_cast<std::size_t>(free - slots_.begin());
    *free = std::move(entry);
    enabled_.fetch_or(bit(slot));
    version_.fetch_add(1);
  }

  void remove(std::string_view name) {
    const std::unique_lock lock(mutex_);
    const std::size_t slot = find_or_throw(name);
    if (slot < num_builtin_) {
      throw Error(fmt::format("unregister_pass: \"{}\" is built in; disable it instead", name));
    }
    slots_[slot].reset();
    version_.fetch_add(1);
  }

  /// Throws Error for an unknown name.
  [[nodiscard]] std::uint64_t bit_of(std::string_view name) const {
    const std::shared_lock lock(mutex_);
    return bit(find_or_throw(name));
  }

  [[nodiscard]] std::vector<PassEntry> entries(std::uint64_t enabled) const {
    const std::shared_lock lock(mutex_);
    std::vector<PassEntry> in_order;
    for (int stage = 0; stage < kNumOptimizerStages; ++stage) {
      const auto append = [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
          if (slots_[i] && (enabled & bit(i)) != 0 && static_cast<int>(slots_[i]->stage) == stage) {
            in_order.push_back(*slots_[i]);
          }
        }
      };
      append(num_builtin_, slots_.size());
      append(0, num_builtin_);
    }
    return in_order;
  }

  [[nodiscard]] PassSet set(std::uint64_t enabled) const {
    return {enabled, version_.load(std::memory_order_acquire)};
  }
  [[nodiscard]] static std::uint64_t enabled_bits(const PassSet& passes) { return passes.enabled_; }
  /// What the process uses. Starts with what the environment leaves.
  [[nodiscard]] std::atomic<std::uint64_t>& process_bits() {
    static const bool kEnvironmentRead = [this] {
      const char* list = std::getenv("METAL_CANDLE_DISABLE_PASSES");
      if (list != nullptr) enabled_.fetch_and(parse_disabled_passes(list).enabled_);
      return true;
    }();
    static_cast<void>(kEnvironmentRead);
    return enabled_;
  }

 private:
  PassRegistry() {
    std::vector<PassEntry> entries = builtin_passes();
    num_builtin_ = entries.size();
    std::move(entries.begin(), entries.end(), slots_.begin());
  }
  static std::uint64_t bit(std::size_t slot) { return std::uint64_t{1} << slot; }
  [[nodiscard]] std::optional<std::size_t> find(std::string_view name) const {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i] && slots_[i]->name == name) return i;
    }
    return std::nullopt;
  }
  [[nodiscard]] std::size_t find_or_throw(std::string_view name) const {
    if (const auto slot = find(name)) return *slot;
    std::vector<std::string_view> known;
    for (const auto& entry : slots_) {
      if (entry) known.push_back(entry->name);
    }
    throw FormatError(
        fmt::format("no pass is called \"{}\"; there are {}", name, fmt::join(known, ", ")));
  }

  mutable std::shared_mutex mutex_;  // Guards slots_.
  std::array<std::optional<PassEntry>, kMaxPasses> slots_;
  std::size_t num_builtin_ = 0;
  std::atomic<std::uint64_t> enabled_{~std::uint64_t{0}};
  std::atomic<std::uint64_t> version_{0};
};

std::shared_ptr<FusionPass> PassEntry::instance() const {
  {
    const std::lock_guard lock(reused_->mutex);
    if (reused_->pass) return reused_->pass;
  }
  std::shared_ptr<FusionPass> pass = make_();
  if (pass->reusable()) {
    const std::lock_guard lock(reused_->mutex);
    reused_->pass = pass;
  }
  return pass;
}

PassEntry::Traits PassEntry::traits() const {
  const std::shared_ptr<FusionPass> pass = instance();
  return {pass->roots(), pass->order()};
}

namespace {

thread_local const PassSet* scoped_passes = nullptr;

}  // namespace

void register_pass(std::string name, PassFactory factory, OptimizerStage stage) {
  PassRegistry::instance().add({std::move(name), stage, std::move(factory)});
}

void unregister_pass(std::string_view name) { PassRegistry::instance().remove(name); }

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (PassEntry& entry : PassRegistry::instance().entries(~std::uint64_t{0})) {
    names.push_back(std::move(entry.name));
  }
  return names;
}

PassSet PassSet::all() { return PassRegistry::instance().set(~std::uint64_t{0}); }
PassSet PassSet::none() { return PassRegistry::instance().set(0); }
PassSet PassSet::with(std::string_view pass) const {
  return {enabled_ | PassRegistry::instance().bit_of(pass), version_};
}
PassSet PassSet::without(std::string_view pass) const {
  return {enabled_ & ~PassRegistry::instance().bit_of(pass), version_};
}
bool PassSet::contains(std::string_view pass) const {
  return (enabled_ & PassRegistry::instance().bit_of(pass)) != 0;
}

PassSet current_passes() {
  PassRegistry& registry = PassRegistry::instance();
  if (scoped_passes != nullptr) return registry.set(PassRegistry::enabled_bits(*scoped_passes));
  return registry.set(registry.process_bits().load(std::memory_order_relaxed));
}

void set_pass_enabled(std::string_view name, bool enabled) {
  PassRegistry& registry = PassRegistry::instance();
  const std::uint64_t bit = registry.bit_of(name);
  if (enabled) {
    registry.process_bits().fetch_or(bit);
  } else {
    registry.process_bits().fetch_and(~bit);
  }
}

PassSet parse_disabled_passes(std::string_view list) {
  PassSet passes = PassSet::all();
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view item = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    if (item == "all") {
      passes = PassSet::none();
    } else if (!item.empty()) {
      passes = passes.without(item);
    }
  }
  return passes;
}

ScopedPasses::ScopedPasses(PassSet passes) : previous_(scoped_passes), passes_(passes) {
  scoped_passes = &passes_;
}
ScopedPasses::~ScopedPasses() { scoped_passes = previous_; }

std::vector<PassEntry> passes_in_order(PassSet passes) {
  return PassRegistry::instance().entries(PassRegistry::enabled_bits(passes));
}

}  // namespace metal_candle
