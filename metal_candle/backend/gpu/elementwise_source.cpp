// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See elementwise_source.h.
#include "metal_candle/backend/gpu/elementwise_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "metal_candle/backend/gpu/axes_text.h"
#include "metal_candle/backend/gpu/element_text.h"
#include "metal_candle/backend/strided.h"

namespace metal_candle::backend::gpu {
namespace {

constexpr std::int64_t kPacketBytes = 16;
// What a thread loads before it computes: with all threads of a multiprocessor at it, enough to
// cover the memory's latency.
constexpr std::int64_t kBytesInFlight = 64;
constexpr int kMostInFlight = 4;
// Longer programs would fill the registers with several packets at once.
constexpr int kLongProgram = 12;

bool fits_32_bits(const Shape& shape, const Strides& strides) {
  std::int64_t reach = 0;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    reach += std::max<std::int64_t>(shape[axis] - 1, 0) * std::abs(strides[axis]);
  }
  return reach < (std::int64_t{1} << 31);
}

PacketAccess access_of(const Strides& strides, int packet) {
  const auto is_zero = [](std::int64_t s) { return s == 0; };
  if (std::all_of(strides.begin(), strides.end(), is_zero)) return PacketAccess::kScalar;
  if (packet == 1) return PacketAccess::kGather;
  if (strides.back() == 0) return PacketAccess::kRepeat;
  const bool dense =
      strides.back() == 1 && std::all_of(strides.begin(), strides.end() - 1,
                                         [&](std::int64_t s) { return s % packet == 0; });
  return dense ? PacketAccess::kDense : PacketAccess::kGather;
}

}  // namespace

ElementwiseLoop::ElementwiseLoop(std::span<const TensorLayout> inputs, const TensorLayout& out)
    : shape(out.shape), output(out.dtype) {
  std::vector<Strides> strides;
  std::size_t widest = size_of(out.dtype);
  for (const TensorLayout& input : inputs) {
    strides.push_back(broadcast_strides(input, out.shape));
    widest = std::max(widest, size_of(input.dtype));
  }
  collapse_axes(shape, strides);
  count = num_elements(shape);
  packet = static_cast<int>(kPacketBytes / static_cast<std::int64_t>(widest));
  if (shape.rank() > 1) packet = std::gcd(packet, static_cast<int>(shape.back() & 15));
  packets = count / packet;

  wide = count >= (std::int64_t{1} << 31);
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    operands.push_back({inputs[k].dtype, strides[k], access_of(strides[k], packet)});
    wide = wide || !fits_32_bits(shape, strides[k]);
  }
}

bool ElementwiseLoop::is_aligned(std::span<const void* const> addresses) const {
  if (packet == 1) return true;
  const auto lies_well = [&](const void* address, DType dtype) {
    const std::size_t bytes = static_cast<std::size_t>(packet) * size_of(dtype);
    return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
  };
  if (!lies_well(addresses[0], output)) return false;
  for (std::size_t k = 0; k < operands.size(); ++k) {
    if (operands[k].access != PacketAccess::kDense) continue;
    if (!lies_well(addresses[k + 1], operands[k].dtype)) return false;
  }
  return true;
}

int packets_in_flight(std::int64_t bytes, int instructions) {
  const std::int64_t most = instructions > kLongProgram || bytes == 0 ? 2 : kMostInFlight;
  return static_cast<int>(
      std::clamp<std::int64_t>(kBytesInFlight / std::max<std::int64_t>(bytes, 1), 1, most));
}

namespace {

/// Of what a thread loads for a packet.
std::int64_t bytes_of_a_packet(const ElementwiseLoop& loop) {
  std::int64_t bytes = 0;
  for (const ElementwiseLoop::Operand& operand : loop.operands) {
    if (operand.access == PacketAccess::kDense || operand.access == PacketAccess::kGather) {
      bytes += loop.packet * static_cast<std::int64_t>(size_of(operand.dtype));
    }
  }
  return bytes;
}

/// Writes the loop around element().
class LoopText {
 public:
  LoopText(const Operation& operation, const ElementwiseLoop& loop, bool aligned)
      : loop_(loop),
        last_(loop.shape.rank() - 1),
        aligned_(aligned ? "true" : "false"),
        axes_('i', loop.shape, loop.packet, loop.wide, loop.wide) {
    add_addresses();
    add_shape();
    std::vector<DType> dtypes;
    for (const ElementwiseLoop::Operand& operand : loop.operands) dtypes.push_back(operand.dtype);
    const ElementText element(operation, dtypes, loop.output, arguments_);
    in_flight_ = packets_in_flight(bytes_of_a_packet(loop), element.instructions());
    text_ = arguments_.text() + element.function(index_) + run() + body();
  }

  ElementwiseSource finish(const Operation& operation) const {
    const std::string_view layout = loop_.shape.rank() == 1 ? "flat"
                                    : loop_.packet > 1      ? "rows"
                                                            : "strided";
    ElementwiseSource source;
    source.name = name_with_hash(
        fmt::format("{}_{}_{}", short_name(operation), ::metal_candle::name(loop_.output), layout),
        text_);
    source.text = fmt::format("{}MC_KERNEL_MERGED({}, Arguments, {}, 0, body);\n", text_,
                              source.name, kElementwiseThreads);
    source.arguments = arguments_.bytes();
    source.in_flight = in_flight_;
    return source;
  }

 private:
  void add_addresses() {
    arguments_.add("MC_GLOBAL void*", "out", std::uint64_t{0});
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      arguments_.add("const MC_GLOBAL void*", fmt::format("in{}", k), std::uint64_t{0});
    }
  }

  void add_shape() {
    axes_.add_index(arguments_, "packets", loop_.packets);
    if (last_ == 0) axes_.add_index(arguments_, "count", loop_.count);
    axes_.add_sizes(arguments_);
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      axes_.add_strides(arguments_, k, loop_.operands[k].strides);
    }
  }

  [[nodiscard]] std::string times_stride(std::size_t k) const {
    return axes_.times_stride(k, loop_.operands[k].strides, last_);
  }

  [[nodiscard]] bool is(std::size_t k, PacketAccess access) const {
    return loop_.operands[k].access == access;
  }
  /// One element a packet.
  [[nodiscard]] bool is_single(std::size_t k) const {
    return is(k, PacketAccess::kRepeat) || (is(k, PacketAccess::kGather) && loop_.packet == 1);
  }

  [[nodiscard]] std::string load(std::size_t k) const {
    const int n = loop_.packet;
    const std::string at = axes_.offset_of(k, loop_.operands[k].strides);
    if (is_single(k)) return fmt::format("    p{0}[u] = in{0}[{1}];\n", k, at);
    if (is(k, PacketAccess::kDense)) {
      return fmt::format("    p{0}[u] = load_packet<{1}, {2}>(in{0} + ({3}));\n", k, n, aligned_,
                         at);
    }
    return fmt::format(
        "    MC_UNROLL\n    for (int e = 0; e < {1}; ++e) p{0}[u].values[e] = in{0}[{2} + e{3}];\n",
        k, n, at, times_stride(k));
  }

  /// Packets first, first + self.size, ...
  [[nodiscard]] std::string run() const {
    const int n = loop_.packet;
    std::string loads, values;
    std::string text = fmt::format(
        "MC_FUNCTION void run(MC_CONSTANT Arguments& a, {} first, Thread self) {{\n", index_);
    text += fmt::format("  MC_GLOBAL {0}* out = static_cast<MC_GLOBAL {0}*>(a.out);\n",
                        stored_type(loop_.output));
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      const DType dtype = loop_.operands[k].dtype;
      const std::string_view type = stored_type(dtype);
      text += fmt::format(
          "  const MC_GLOBAL {1}* in{0} = static_cast<const MC_GLOBAL {1}*>(a.in{0});\n", k, type);
      if (is(k, PacketAccess::kScalar)) {
        text += fmt::format("  const {} s{} = {};\n", value_type(dtype), k,
                            load_text(dtype, fmt::format("in{}[0]", k)));
        values += fmt::format(", s{}", k);
        continue;
      }
      text += is_single(k) ? fmt::format("  {} p{}[{}];\n", type, k, in_flight_)
                           : fmt::format("  Packet<{}, {}> p{}[{}];\n", type, n, k, in_flight_);
      loads += load(k);
      values +=
          ", " + load_text(dtype, fmt::format("p{}[u]{}", k, is_single(k) ? "" : ".values[e]"));
    }
    const std::string loop =
        fmt::format("  MC_UNROLL\n  for (int u = 0; u < {}; ++u) {{\n", in_flight_);
    if (!loads.empty()) {
      // Those beyond the last are read again and not stored.
      text += loop;
      text += fmt::format("    const {} next = first + u * self.size;\n", index_);
      text += fmt::format("    const {} p = next < a.packets ? next : a.packets - 1;\n", index_);
      text += axes_.coordinates("p") + loads + "  }\n";
    }
    text += loop + fmt::format("    const {} p = first + u * self.size;\n", index_);
    const auto element = [&](std::string_view position) {
      return store_text(loop_.output, fmt::format("element(a, {}{})", position, values));
    };
    if (n == 1) {
      text += fmt::format("    if (p < a.packets) out[p] = {};\n", element("p"));
    } else {
      text += fmt::format("    Packet<{}, {}> y;\n", stored_type(loop_.output), n);
      text += fmt::format("    MC_UNROLL\n    for (int e = 0; e < {0}; ++e) y.values[e] = {1};\n",
                          n, element(fmt::format("p * {} + e", n)));
      text +=
          fmt::format("    if (p < a.packets) store_packet<{}>(out + p * {}, y);\n", aligned_, n);
    }
    return text + "  }\n}\n";
  }

  /// run(), and the elements after the last whole packet.
  [[nodiscard]] std::string body() const {
    const int n = loop_.packet;
    std::string text =
        "MC_FUNCTION void body(MC_CONSTANT Arguments& a, MC_GROUP char*, Thread self) {\n";
    text += fmt::format("  const {0} first = {0}(self.group) * (self.size * {1}) + self.index;\n",
                        index_, in_flight_);
    text += "  if (first < a.packets) run(a, first, self);\n";
    if (n == 1 || last_ > 0) return text + "}\n";
    std::string values;
    for (std::size_t k = 0; k < loop_.operands.size(); ++k) {
      const DType dtype = loop_.operands[k].dtype;
      const std::string times = times_stride(k);
      const std::string at = is(k, PacketAccess::kScalar) ? "0"
                             : times.empty()              ? "i"
                                                          : fmt::format("{}(i){}", offset_, times);
      values += ", " + load_text(dtype, fmt::format("static_cast<const MC_GLOBAL {}*>(a.in{})[{}]",
                                                    stored_type(dtype), k, at));
    }
    text += fmt::format("  const {} i = a.packets * {} + self.index;\n", index_, n);
    text += "  if (self.group + 1 == self.groups && i < a.count) {\n";
    text += fmt::format("    static_cast<MC_GLOBAL {}*>(a.out)[i] = {};\n  }}\n}}\n",
                        stored_type(loop_.output),
                        store_text(loop_.output, fmt::format("element(a, i{})", values)));
    return text;
  }

  const ElementwiseLoop& loop_;
  const int last_;  // Axis.
  const std::string_view aligned_;
  const AxesText axes_;
  const std::string_view index_ = axes_.index(), offset_ = axes_.offset();
  int in_flight_ = 1;
  ArgumentStruct arguments_;
  std::string text_;
};

}  // namespace

ElementwiseSource write_elementwise(const Operation& operation, const ElementwiseLoop& loop,
                                    bool aligned) {
  return LoopText(operation, loop, aligned).finish(operation);
}

}  // namespace metal_candle::backend::gpu
