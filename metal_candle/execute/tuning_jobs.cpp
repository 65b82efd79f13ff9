// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What the tuner evaluates: by name, by default, and as a trace has it.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "metal_candle/core/error.h"
#include "metal_candle/execute/tuner.h"
#include "metal_candle/graph/ops.h"

namespace metal_candle {
namespace {

using Sizes = std::vector<std::int64_t>;
using Maker = std::function<Tensor()> (*)(const Sizes& sizes, DType dtype, Device device);

Tensor random_tensor(const Shape& shape, DType dtype, Device device, std::uint64_t seed) {
  return random::normal(shape, random::key(seed, device), dtype).eval();
}

template <typename Fn>
std::function<Tensor()> of_rows(const Sizes& s, DType dtype, Device device, Fn fn) {
  const Tensor x = random_tensor({s[0], s[1]}, dtype, device, 1);
  const Tensor w = random_tensor({s[1]}, dtype, device, 2);
  return [=] { return fn(x, w); };
}

struct Kind {
  std::string_view name;
  std::size_t sizes;
  Maker make;
};

constexpr Kind kKinds[] = {
    {"matmul", 3,
     [](const Sizes& s, DType dtype, Device device) -> std::function<Tensor()> {
       const Tensor x = random_tensor({s[0], s[2]}, dtype, device, 1);
       const Tensor w = random_tensor({s[2], s[1]}, dtype, device, 2);
       return [=] { return matmul(x, w); };
     }},
    {"matmul_t", 3,
     [](const Sizes& s, DType dtype, Device device) -> std::function<Tensor()> {
       const Tensor x = random_tensor({s[0], s[2]}, dtype, device, 1);
       const Tensor w = random_tensor({s[1], s[2]}, dtype, device, 2);
       return [=] { return matmul(x, transpose(w)); };
     }},
    {"softmax", 2,
     [](const Sizes& s, DType dtype, Device device) {
       return of_rows(s, dtype, device, [](const Tensor& x, const Tensor&) { return softmax(x); });
     }},
    {"rms_norm", 2,
     [](const Sizes& s, DType dtype, Device device) {
       return of_rows(s, dtype, device,
                      [](const Tensor& x, const Tensor& w) { return rms_norm(x, w, 1e-5f); });
     }},
    {"layer_norm", 2,
     [](const Sizes& s, DType dtype, Device device) {
       return of_rows(s, dtype, device,
                      [](const Tensor& x, const Tensor& w) { return layer_norm(x, w, w, 1e-5f); });
     }},
    {"sum", 2,
     [](const Sizes& s, DType dtype, Device device) {
       return of_rows(s, dtype, device, [](const Tensor& x, const Tensor&) { return sum(x, -1); });
     }},
    {"elementwise", 2,
     [](const Sizes& s, DType dtype, Device device) {
       return of_rows(s, dtype, device,
                      [](const Tensor& x, const Tensor& w) { return silu(x) * x + w * x; });
     }},
    {"attention", 5,
     [](const Sizes& s, DType dtype, Device device) -> std::function<Tensor()> {
       const Tensor q = random_tensor({s[0], s[1], s[2], s[4]}, dtype, device, 1);
       const Tensor k = random_tensor({s[0], s[1], s[3], s[4]}, dtype, device, 2);
       const Tensor v = random_tensor({s[0], s[1], s[3], s[4]}, dtype, device, 3);
       const bool causal = s[2] > 1;
       return [=] { return scaled_dot_product_attention(q, k, v, {.causal = causal}); };
     }},
    {"steps", 1,
     [](const Sizes& s, DType dtype, Device device) -> std::function<Tensor()> {
       const Tensor x = random_tensor({16}, dtype, device, 1);
       return [x, count = s[0]] {
         Tensor y = x;
         for (std::int64_t i = 0; i < count; ++i) y = cumsum(y * 0.5f, 0);
         return y;
       };
     }},
};

std::string known_kinds() {
  std::string text;
  for (const Kind& kind : kKinds) text += (text.empty() ? "" : ", ") + std::string(kind.name);
  return text;
}

std::optional<std::int64_t> to_size(const std::string& word) {
  std::int64_t size = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), size);
  if (error != std::errc() || end != word.data() + word.size() || size < 1) return {};
  return size;
}

// "f32[2, 3]" -> f32 and the sizes.
struct Operand {
  std::string dtype;
  Sizes sizes;
};

// What is before the arrow and after it, as backend::StepLabel::detail has it.
std::vector<std::vector<Operand>> parse_shapes(const std::string& text) {
  std::vector<std::vector<Operand>> sides(1);
  for (std::size_t at = 0; at < text.size();) {
    if (text.compare(at, 4, " -> ") == 0) {
      sides.emplace_back();
      at += 4;
      continue;
    }
    const std::size_t open = text.find('[', at), close = text.find(']', at);
    if (open == std::string::npos || close == std::string::npos || open > close) break;
    Operand operand{text.substr(at, open - at), {}};
    std::istringstream sizes(text.substr(open + 1, close - open - 1));
    for (std::string word; std::getline(sizes, word, ',');) {
      word.erase(0, word.find_first_not_of(' '));
      operand.sizes.push_back(to_size(word).value_or(0));
    }
    sides.back().push_back(std::move(operand));
    at = close + 1;
    if (text.compare(at, 2, ", ") == 0) at += 2;
  }
  return sides;
}

// The jobs that are like a step. How a weight lies a trace does not say.
std::vector<std::string> jobs_of_step(const std::string& name, const std::string& shapes) {
  const auto sides = parse_shapes(shapes);
  if (sides.size() != 2 || sides[0].empty() || sides[1].empty()) return {};
  const Operand& x = sides[0][0];
  const Sizes& out = sides[1][0].sizes;
  if (x.sizes.empty() || out.empty() || std::ranges::find(x.sizes, 0) != x.sizes.end()) return {};
  if (x.dtype != "f32" && x.dtype != "bf16" && x.dtype != "f16") return {};
  const auto rows = [](const Sizes& sizes) {
    std::int64_t count = 1;
    for (std::size_t i = 0; i + 1 < sizes.size(); ++i) count *= sizes[i];
    return count;
  };
  if (name == "matmul" || name == "linear" || name == "lora_linear") {
    if (sides[0].size() < 2 || sides[0][1].sizes.size() != 2) return {};
    const std::string rest =
        fmt::format(" {} {} {} {}", rows(out), out.back(), x.sizes.back(), x.dtype);
    return {"matmul" + rest, "matmul_t" + rest};
  }
  if (name == "softmax" || name == "rms_norm" || name == "layer_norm" || name == "elementwise") {
    return {fmt::format("{} {} {} {}", name, rows(x.sizes), x.sizes.back(), x.dtype)};
  }
  if (name == "attention" && x.sizes.size() == 4 && sides[0].size() >= 2) {
    const Sizes& k = sides[0][1].sizes;
    if (k.size() != 4) return {};
    return {fmt::format("attention {} {} {} {} {} {}", x.sizes[0], x.sizes[1], x.sizes[2], k[2],
                        x.sizes[3], x.dtype)};
  }
  return {};
}

}  // namespace

TuningJob parse_tuning_job(std::string_view text, Device device) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  const auto fail = [&](const std::string& why) {
    return FormatError(fmt::format("tune: '{}': {}", text, why));
  };
  if (words.empty()) throw fail("no operation; known are " + known_kinds());
  const auto* kind = std::ranges::find(kKinds, words[0], &Kind::name);
  if (kind == std::end(kKinds)) throw fail("known are " + known_kinds());
  Sizes sizes;
  DType dtype = DType::kF32;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (const auto size = to_size(words[i])) {
      sizes.push_back(*size);
    } else if (i + 1 == words.size()) {
      try {
        dtype = parse_dtype(words[i]);
      } catch (const DTypeError&) {
        throw fail(words[i] + " is neither a size nor a dtype");
      }
    } else {
      throw fail(words[i] + " is no size");
    }
  }
  if (sizes.size() != kind->sizes) {
    throw fail(fmt::format("{} has {} sizes, not {}", kind->name, kind->sizes, sizes.size()));
  }
  if (!is_floating(dtype)) throw fail("the dtype must be floating");
  TuningJob job;
  job.name = std::string(text);
  job.make = [make = kind->make, sizes, dtype, device] { return make(sizes, dtype, device); };
  // One launch on a GPU is waited for longer than it runs.
  job.queued = kind->name == "steps" || !(device == Device::cpu());
  return job;
}

std::vector<TuningJob> default_tuning_jobs(Device device, std::string_view op) {
  std::vector<std::string> names;
  const bool on_cpu = device == Device::cpu();
  for (const char* dtype : {"bf16", "f32"}) {
    for (const std::int64_t m : {1, 8, 32, 128, 512}) {
      for (const auto& [n, k] : std::initializer_list<std::pair<std::int64_t, std::int64_t>>{
               {1024, 1024}, {4096, 1024}, {1024, 4096}}) {
        names.push_back(fmt::format("matmul {} {} {} {}", m, n, k, dtype));
        names.push_back(fmt::format("matmul_t {} {} {} {}", m, n, k, dtype));
      }
    }
    for (const char* rows : {"softmax", "rms_norm", "layer_norm", "sum", "elementwise"}) {
      for (const std::int64_t m : {1, 64, on_cpu ? 1024 : 16384}) {
        names.push_back(fmt::format("{} {} 1024 {}", rows, m, dtype));
        names.push_back(fmt::format("{} {} 4096 {}", rows, m, dtype));
      }
    }
    names.push_back(fmt::format("attention 1 16 1 4096 64 {}", dtype));
  }
  names.emplace_back("steps 200");
  std::vector<TuningJob> jobs;
  for (const std::string& name : names) {
    if (op.empty() || name.substr(0, name.find(' ')) == op) {
      jobs.push_back(parse_tuning_job(name, device));
    }
  }
  if (jobs.empty()) {
    throw FormatError(
        fmt::format("tune: there is no operation '{}'; known are {}", op, known_kinds()));
  }
  return jobs;
}

std::vector<TuningJob> tuning_jobs_of_trace(std::string_view json, const std::string& path,
                                            Device device, std::size_t most) {
  std::map<std::string, double> microseconds;
  try {
    const auto trace = nlohmann::json::parse(json);
    for (const auto& event : trace.at("traceEvents")) {
      if (event.value("cat", "") != "step") continue;
      for (const std::string& job :
           jobs_of_step(event.at("name").get<std::string>(),
                        event.at("args").at("shapes").get<std::string>())) {
        microseconds[job] += event.at("dur").get<double>();
      }
    }
  } catch (const nlohmann::json::exception& error) {
    throw FormatError(fmt::format("{}: no trace: {}", path, error.what()));
  }
  std::vector<std::pair<double, std::string>> sorted;
  for (const auto& [job, time] : microseconds) sorted.emplace_back(-time, job);
  std::ranges::sort(sorted);
  std::vector<TuningJob> jobs;
  for (const auto& [time, job] : sorted) {
    if (jobs.size() < most) jobs.push_back(parse_tuning_job(job, device));
  }
  if (jobs.empty()) throw FormatError(path + ": a trace without a step that can be tuned");
  return jobs;
}

}  // namespace metal_candle
