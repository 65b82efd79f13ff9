// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Terminal output.
#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace metal_candle::cli {
namespace {

constexpr const char* kClearLine = "\r\x1b[K";
constexpr int kBarCells = 24;

int terminal_width() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

// The longest prefix of UTF-8 text that is at most `columns` characters wide.
std::string_view fit(std::string_view text, int columns) {
  std::size_t bytes = 0;
  while (bytes < text.size()) {
    std::size_t next = bytes + 1;
    while (next < text.size() && (static_cast<unsigned char>(text[next]) & 0xC0) == 0x80) ++next;
    if (columns-- == 0) break;
    bytes = next;
  }
  return text.substr(0, bytes);
}

bool is_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && (term == nullptr || std::string_view(term) != "dumb");
}

}  // namespace

std::string with_commas(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3;) {
    i -= 3;
    digits.insert(i, ",");
  }
  return digits;
}

std::string readable_bytes(std::size_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value < 1e6) return fmt::format("{:.0f} kB", std::ceil(value / 1e3));
  if (value < 1e9) return fmt::format("{:.0f} MB", value / 1e6);
  return fmt::format("{:.2f} GB", value / 1e9);
}

std::string readable_duration(double seconds) {
  const auto total = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
  if (total < 3600) return fmt::format("{}:{:02}", total / 60, total % 60);
  return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
}

StatusLine::StatusLine() : interactive_(is_terminal()) {}

StatusLine::~StatusLine() { clear(); }

void StatusLine::show(const std::string& label, double done, const std::string& text) {
  if (!interactive_) return;
  const int filled = static_cast<int>(std::lround(std::clamp(done, 0.0, 1.0) * kBarCells));
  std::string line = label + " ";
  for (int i = 0; i < kBarCells; ++i) line += i < filled ? "━" : "─";
  line += " " + text;
  shown_ = fit(line, terminal_width() - 1);
  fmt::print("{}{}", kClearLine, shown_);
  std::fflush(stdout);
}

void StatusLine::print(const std::string& line) {
  if (interactive_ && !shown_.empty()) {
    fmt::print("{}{}\n{}", kClearLine, line, shown_);
  } else {
    fmt::print("{}\n", line);
  }
  std::fflush(stdout);
}

void StatusLine::clear() {
  if (!interactive_ || shown_.empty()) return;
  shown_.clear();
  fmt::print("{}", kClearLine);
  std::fflush(stdout);
}

}  // namespace metal_candle::cli
