// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See metrics.h.
#include "metal_candle/train/metrics.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "metal_candle/core/error.h"

namespace metal_candle {
namespace {

using nlohmann::ordered_json;

// A number that was not finite is null.
double number(const ordered_json& line, const char* key) {
  const ordered_json& value = line.at(key);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

TrainReport read_report(const ordered_json& line) {
  TrainReport report;
  report.iteration = line.at("iteration").get<std::int64_t>();
  report.loss = number(line, "train_loss");
  report.learning_rate = number(line, "learning_rate");
  report.gradient_norm = number(line, "gradient_norm");
  report.tokens_per_second = number(line, "tokens_per_second");
  report.iterations_per_second = number(line, "iterations_per_second");
  report.trained_tokens = line.at("trained_tokens").get<std::int64_t>();
  report.seconds = number(line, "train_seconds");
  report.peak_memory = line.at("peak_memory_bytes").get<std::size_t>();
  return report;
}

EvaluationReport read_evaluation(const ordered_json& line) {
  EvaluationReport report;
  report.iteration = line.at("iteration").get<std::int64_t>();
  report.loss = number(line, "val_loss");
  report.perplexity = number(line, "val_perplexity");
  report.tokens = line.at("val_tokens").get<std::int64_t>();
  report.seconds = number(line, "val_seconds");
  return report;
}

// Calls visit for each line that ends, with the number of bytes up to its end.
void for_each_line(const std::string& path,
                   const std::function<void(const ordered_json&, std::size_t end)>& visit) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw IoError(fmt::format("{}: cannot open: {}", path, std::generic_category().message(errno)));
  }
  std::stringstream contents;
  contents << file.rdbuf();
  const std::string text = contents.str();
  std::size_t begin = 0;
  for (std::size_t line = 1;; ++line) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) return;
    try {
      visit(ordered_json::parse(text.substr(begin, end - begin)), end + 1);
    } catch (const ordered_json::exception& error) {
      throw FormatError(fmt::format("{}:{}: not a line of metrics: {}", path, line, error.what()));
    }
    begin = end + 1;
  }
}

// Where the lines up to an iteration end.
std::size_t length_up_to(const std::string& path, std::int64_t iteration) {
  std::size_t length = 0;
  bool later = false;
  for_each_line(path, [&](const ordered_json& line, std::size_t end) {
    later = later || line.at("iteration").get<std::int64_t>() > iteration;
    if (!later) length = end;
  });
  return length;
}

}  // namespace

MetricsWriter::~MetricsWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MetricsWriter::fail(const char* doing) const {
  const std::error_code reason(errno, std::generic_category());
  throw IoError(fmt::format("{}: {}: {}", path_, doing, reason.message()));
}

void MetricsWriter::on_start(const TrainStart& start) {
  const bool resumed = start.first_iteration > 1 && ::access(path_.c_str(), F_OK) == 0;
  std::size_t length = 0;
  if (resumed) length = length_up_to(path_, start.first_iteration - 1);
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("cannot open for writing");
  if (::ftruncate(descriptor_, static_cast<off_t>(length)) != 0) fail("cannot truncate");
}

void MetricsWriter::append(const std::string& text) {
  const std::string line = text + "\n";
  const off_t length = ::lseek(descriptor_, 0, SEEK_END);
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t written = ::write(descriptor_, line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int error = errno;
      // Not half a line, to which the next one would be appended.
      (void)!::ftruncate(descriptor_, length);
      errno = error;
      fail("cannot write");
    }
    done += static_cast<std::size_t>(written);
  }
}

void MetricsWriter::on_report(const TrainReport& report) {
  append(ordered_json{{"iteration", report.iteration},
                      {"train_loss", report.loss},
                      {"learning_rate", report.learning_rate},
                      {"gradient_norm", report.gradient_norm},
                      {"tokens_per_second", report.tokens_per_second},
                      {"iterations_per_second", report.iterations_per_second},
                      {"trained_tokens", report.trained_tokens},
                      {"train_seconds", report.seconds},
                      {"peak_memory_bytes", report.peak_memory}}
             .dump());
}

void MetricsWriter::on_evaluate(const EvaluationReport& report) {
  append(ordered_json{{"iteration", report.iteration},
                      {"val_loss", report.loss},
                      {"val_perplexity", report.perplexity},
                      {"val_tokens", report.tokens},
                      {"val_seconds", report.seconds}}
             .dump());
}

Metrics read_metrics(const std::string& path) {
  Metrics metrics;
  for_each_line(path, [&](const ordered_json& line, std::size_t /*end*/) {
    if (line.contains("val_loss")) {
      metrics.evaluations.push_back(read_evaluation(line));
    } else {
      metrics.reports.push_back(read_report(line));
    }
  });
  return metrics;
}

}  // namespace metal_candle
