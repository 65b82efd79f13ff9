// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "metal_candle/io/chat_template/budget.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/text.h"

namespace metal_candle::jinja {
namespace {

// Builds values from the events of the JSON parser; `failure` says why it stopped.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Value result;

  bool null() override { return add(Value()); }
  bool boolean(bool value) override { return add(Value(value)); }
  bool number_integer(std::int64_t value) override { return add(Value(value)); }
  bool number_unsigned(std::uint64_t value) override {
    if (value > INT64_MAX) throw Failure(fmt::format("the integer {} is beyond 64 bits", value));
    return add(Value(static_cast<std::int64_t>(value)));
  }
  bool number_float(double value, const std::string& text) override {
    if (text.find_first_of(".eE") == std::string::npos) {
      throw Failure(fmt::format("the integer {} is beyond 64 bits", text));
    }
    return add(Value(value));
  }
  bool string(std::string& value) override { return add(Value(std::move(value))); }
  bool binary(nlohmann::json::binary_t& /*value*/) override { return false; }
  bool start_object(std::size_t /*size*/) override { return open(true); }
  bool key(std::string& value) override {
    levels_.back().key = std::move(value);
    return true;
  }
  bool end_object() override {
    auto items = std::move(levels_.back().items);
    levels_.pop_back();
    return add(Value(std::make_shared<const Dict>(std::move(items))));
  }
  bool start_array(std::size_t /*size*/) override { return open(false); }
  bool end_array() override {
    auto elements = std::move(levels_.back().elements);
    levels_.pop_back();
    return add(Value::list(std::move(elements)));
  }
  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::json::exception& error) override {
    // What follows the last colon is the reason; before it are positions in the library's terms.
    std::string reason = error.what();
    if (const auto start = reason.find("syntax error"); start != std::string::npos) {
      reason.erase(0, start);
    } else if (const auto bracket = reason.find("] "); bracket != std::string::npos) {
      reason.erase(0, bracket + 2);
    }
    throw Failure(fmt::format("not JSON at byte {}: {}", position, reason));
  }

 private:
  struct Level {
    std::string key;
    std::vector<std::pair<Value, Value>> items;  // Of an object.
    std::vector<Value> elements;                 // Of an array.
    bool is_object = false;
  };

  bool open(bool is_object) {
    if (levels_.size() >= kMaxValueDepth) {
      throw Failure(fmt::format("JSON that nests deeper than {}", kMaxValueDepth));
    }
    levels_.emplace_back();
    levels_.back().is_object = is_object;
    return true;
  }
  bool add(Value value);

  std::vector<Level> levels_;
};

bool Builder::add(Value value) {
  if (levels_.empty()) {
    result = std::move(value);
    return true;
  }
  Level& level = levels_.back();
  if (level.is_object) {
    level.items.emplace_back(Value(std::move(level.key)), std::move(value));
  } else {
    level.elements.push_back(std::move(value));
  }
  return true;
}

class Writer {
 public:
  Writer(const JsonStyle& style, Budget& budget) : style_(style), budget_(budget) {}

  std::string take() { return std::move(out_); }

  void write(const Value& value) {
    if (const Text* text = value.if_text()) {
      write_text(text->bytes);
    } else if (const Sequence* sequence = value.if_sequence()) {
      if (sequence->kind > Sequence::Kind::kTuple) refuse(value);
      write_list(*sequence);
    } else if (const Dict* dict = value.if_dict()) {
      write_dict(*dict);
    } else {
      out_ += scalar(value);
    }
  }

 private:
  [[noreturn]] static void refuse(const Value& value) {
    if (value.is_undefined()) throw Failure(value.reason());
    throw Failure(fmt::format("{} cannot be written as JSON", value.described()));
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (const bool* truth = value.if_bool()) return *truth ? "true" : "false";
    if (value.is_integer()) return fmt::format("{}", value.integer());
    if (const double* number = value.if_float()) {
      if (std::isnan(*number)) return "NaN";
      if (std::isinf(*number)) return *number < 0 ? "-Infinity" : "Infinity";
      return float_text(*number);
    }
    refuse(value);
  }

  void new_line() {
    if (!style_.indent) return;
    budget_.spend(level_ * style_.indent->size());
    out_ += '\n';
    for (std::size_t i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  void separate(bool& is_first) {
    if (!is_first) {
      budget_.spend(style_.item_separator.size());
      out_ += style_.item_separator;
    }
    is_first = false;
    new_line();
  }

  void write_list(const Sequence& sequence) {
    if (sequence.elements.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    bool is_first = true;
    for (const Value& element : sequence.elements) {
      separate(is_first);
      write(element);
    }
    --level_;
    new_line();
    out_ += ']';
  }

  void write_dict(const Dict& dict) {
    if (dict.items().empty()) {
      out_ += "{}";
      return;
    }
    auto items = dict.items();
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(), [this](const auto& a, const auto& b) {
        return compare(a.first, b.first, budget_) < 0;
      });
    }
    out_ += '{';
    ++level_;
    bool is_first = true;
    for (const auto& [key, value] : items) {
      separate(is_first);
      write_text(key.if_text() != nullptr ? key.bytes() : scalar(key));
      budget_.spend(style_.key_separator.size());
      out_ += style_.key_separator;
      write(value);
    }
    --level_;
    new_line();
    out_ += '}';
  }

  void write_text(const std::string& text) {
    out_ += '"';
    for (std::size_t i = 0; i < text.size();) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const bool is_plain = byte >= 0x20 && byte != '"' && byte != '\\';
      if (is_plain && (byte < 0x7F || !style_.ensure_ascii)) {
        out_ += text[i++];
      } else {
        write_escape(static_cast<std::uint32_t>(next_code_point(text, i)));
      }
    }
    out_ += '"';
  }

  void write_escape(std::uint32_t c) {
    static constexpr std::string_view kNamed = "\"\\\n\r\t\f\b";
    static constexpr std::string_view kNames = "\"\\nrtfb";
    const auto named = c < 0x80 ? kNamed.find(static_cast<char>(c)) : std::string_view::npos;
    if (named != std::string_view::npos) {
      out_ += '\\';
      out_ += kNames[named];
    } else if (c < 0x10000) {
      out_ += fmt::format("\\u{:04x}", c);
    } else {
      const std::uint32_t offset = c - 0x10000;
      out_ +=
          fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (offset >> 10U), 0xDC00 + (offset & 0x3FFU));
    }
  }

  const JsonStyle& style_;
  Budget& budget_;
  std::string out_;
  std::size_t level_ = 0;
};

}  // namespace

Value from_json(std::string_view text) {
  Builder builder;
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.result);
}

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  budget.spend(value.weight());
  Writer writer(style, budget);
  writer.write(value);
  return writer.take();
}

}  // namespace metal_candle::jinja
