// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The methods of strings.
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "metal_candle/io/chat_template/access.h"
#include "metal_candle/io/chat_template/failure.h"
#include "metal_candle/io/chat_template/parameters.h"
#include "metal_candle/io/chat_template/text.h"
#include "metal_candle/io/chat_template/text_functions.h"

namespace metal_candle::jinja {
namespace {

using Method = Value (*)(Runtime&, const Text&, std::string_view name, CallArguments&&);

Value list_of(Runtime& runtime, const std::vector<std::string_view>& parts,
              Sequence::Kind kind = Sequence::Kind::kList) {
  std::vector<Value> elements;
  elements.reserve(parts.size());
  for (const auto part : parts) {
    runtime.budget.spend(sizeof(Value) + sizeof(Text) + part.size());
    elements.emplace_back(part);
  }
  return Value::sequence(kind, std::move(elements));
}

Value strip_method(Runtime& runtime, const Text& self, std::string_view name,
                   CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"chars"});
  const Side side = name == "strip" ? Side::kBoth : name == "lstrip" ? Side::kLeft : Side::kRight;
  const Value* characters = given.find(0);
  if (characters == nullptr || characters->is_none()) {
    return runtime.text(std::string(strip(self.bytes, side)));
  }
  const std::string set = given.text(0);
  runtime.budget.spend(self.bytes.size() + set.size());
  return runtime.text(std::string(strip(self.bytes, set, side)));
}

Value split_method(Runtime& runtime, const Text& self, std::string_view name,
                   CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"sep", "maxsplit"});
  const bool from_right = name == "rsplit";
  const std::int64_t limit = given.integer(1, -1);
  runtime.budget.spend(self.bytes.size());
  const Value* separator = given.find(0);
  if (separator == nullptr || separator->is_none()) {
    return list_of(runtime, split_words(self.bytes, limit, from_right));
  }
  const std::string text = given.text(0);
  if (text.empty()) throw Failure(fmt::format("'{}' got an empty separator", name));
  return list_of(runtime, split(self.bytes, text, limit, from_right));
}

Value split_lines_method(Runtime& runtime, const Text& self, std::string_view name,
                         CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"keepends"});
  runtime.budget.spend(self.bytes.size());
  return list_of(runtime, split_lines(self.bytes, given.flag(0, false)));
}

Value partition_method(Runtime& runtime, const Text& self, std::string_view name,
                       CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"sep"}, 1);
  const std::string separator = given.text(0);
  if (separator.empty()) throw Failure(fmt::format("'{}' got an empty separator", name));
  runtime.budget.spend(self.bytes.size());
  const std::string_view text = self.bytes;
  const bool from_right = name == "rpartition";
  const std::size_t at = from_right ? find_last_text(text, separator) : find_text(text, separator);
  if (at == std::string_view::npos) {
    return from_right ? list_of(runtime, {"", "", text}, Sequence::Kind::kTuple)
                      : list_of(runtime, {text, "", ""}, Sequence::Kind::kTuple);
  }
  return list_of(runtime, {text.substr(0, at), separator, text.substr(at + separator.size())},
                 Sequence::Kind::kTuple);
}

// startswith and endswith take a string or a tuple of strings.
Value affix_method(Runtime& runtime, const Text& self, std::string_view name,
                   CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"prefix"}, 1);
  std::vector<Value> affixes = {given[0]};
  if (const Sequence* several = given[0].if_sequence();
      several != nullptr && several->kind == Sequence::Kind::kTuple) {
    affixes = several->elements;
  }
  const std::string_view text = self.bytes;
  for (const Value& affix : affixes) {
    if (affix.if_text() == nullptr) {
      throw Failure(fmt::format("'{}' takes strings, not {}", name, affix.described()));
    }
    runtime.budget.spend(affix.bytes().size());
    if (name == "startswith" ? text.starts_with(affix.bytes()) : text.ends_with(affix.bytes())) {
      return Value(true);
    }
  }
  return Value(false);
}

Value remove_affix_method(Runtime& runtime, const Text& self, std::string_view name,
                          CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"affix"}, 1);
  const std::string affix = given.text(0);
  std::string_view text = self.bytes;
  if (name == "removeprefix") {
    if (text.starts_with(affix)) text.remove_prefix(affix.size());
  } else if (text.ends_with(affix)) {
    text.remove_suffix(affix.size());
  }
  return runtime.text(std::string(text));
}

Value case_method(Runtime& runtime, const Text& self, std::string_view name,
                  CallArguments&& arguments) {
  const Parameters none(name, std::move(arguments), {});
  if (name == "capitalize") return runtime.text(capitalize(self.bytes));
  return runtime.text(change_case(self.bytes, name == "upper" ? Letters::kUpper : Letters::kLower));
}

Value replace_method(Runtime& runtime, const Text& self, std::string_view name,
                     CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"old", "new", "count"}, 2);
  return replace_text(runtime, self, given.text(0), given.text(1), given.integer(2, -1));
}

// The code point at which the text is found, from -1.
Value find_method(Runtime& runtime, const Text& self, std::string_view name,
                  CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"sub"}, 1);
  runtime.budget.spend(self.bytes.size());
  const std::string_view text = self.bytes;
  const bool from_right = name.front() == 'r';
  const std::size_t at =
      from_right ? find_last_text(text, given.text(0)) : find_text(text, given.text(0));
  if (at != std::string_view::npos) {
    return Value(static_cast<std::int64_t>(count_code_points(text.substr(0, at))));
  }
  if (name.ends_with("index")) throw Failure(fmt::format("'{}': not found", name));
  return Value(std::int64_t{-1});
}

Value count_method(Runtime& runtime, const Text& self, std::string_view name,
                   CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"sub"}, 1);
  runtime.budget.spend(self.bytes.size());
  const std::string wanted = given.text(0);
  if (wanted.empty()) return Value(static_cast<std::int64_t>(self.length + 1));
  std::int64_t count = 0;
  for (std::size_t at = 0; (at = find_text(self.bytes, wanted, at)) != std::string_view::npos;) {
    at += wanted.size();
    ++count;
  }
  return Value(count);
}

Value join_method(Runtime& runtime, const Text& self, std::string_view name,
                  CallArguments&& arguments) {
  const Parameters given(name, std::move(arguments), {"iterable"}, 1);
  std::string out;
  bool is_first = true;
  for (const Value& element : elements_of(given[0], runtime.budget)) {
    if (element.if_text() == nullptr) {
      throw Failure(fmt::format("'join' takes strings, not {}", element.described()));
    }
    runtime.budget.spend(self.bytes.size() + element.bytes().size());
    if (!is_first) out += self.bytes;
    out += element.bytes();
    is_first = false;
  }
  return runtime.text(std::move(out));
}

// Whether there are characters, all of the kind.
Value kind_method(Runtime& runtime, const Text& self, std::string_view name,
                  CallArguments&& arguments) {
  const Parameters none(name, std::move(arguments), {});
  runtime.budget.spend(self.bytes.size());
  if (name == "isspace") return Value(is_space(self.bytes));
  if (name == "isupper") return Value(has_case(self.bytes, Letters::kUpper));
  if (name == "islower") return Value(has_case(self.bytes, Letters::kLower));
  bool all = !self.bytes.empty();
  for (std::size_t i = 0; i < self.bytes.size() && all;) {
    const char32_t c = next_code_point(self.bytes, i);
    const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
    if (category == UTF8PROC_CATEGORY_NO || category == UTF8PROC_CATEGORY_NL) {
      throw Failure(
          fmt::format("'{}' of U+{:04X} is not supported", name, static_cast<std::uint32_t>(c)));
    }
    const bool letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
    const bool digit = category == UTF8PROC_CATEGORY_ND;
    all = (letter && name != "isdigit") || (digit && name != "isalpha");
  }
  return Value(all);
}

struct Entry {
  std::string_view name;
  Method method;  // Null for those that are not supported.
};

constexpr std::array<Entry, 47> kMethods = {{
    {"capitalize", case_method},
    {"casefold", nullptr},
    {"center", nullptr},
    {"count", count_method},
    {"encode", nullptr},
    {"endswith", affix_method},
    {"expandtabs", nullptr},
    {"find", find_method},
    {"format", nullptr},
    {"format_map", nullptr},
    {"index", find_method},
    {"isalnum", kind_method},
    {"isalpha", kind_method},
    {"isascii", nullptr},
    {"isdecimal", nullptr},
    {"isdigit", kind_method},
    {"isidentifier", nullptr},
    {"islower", kind_method},
    {"isnumeric", nullptr},
    {"isprintable", nullptr},
    {"isspace", kind_method},
    {"istitle", nullptr},
    {"isupper", kind_method},
    {"join", join_method},
    {"ljust", nullptr},
    {"lower", case_method},
    {"lstrip", strip_method},
    {"maketrans", nullptr},
    {"partition", partition_method},
    {"removeprefix", remove_affix_method},
    {"removesuffix", remove_affix_method},
    {"replace", replace_method},
    {"rfind", find_method},
    {"rindex", find_method},
    {"rjust", nullptr},
    {"rpartition", partition_method},
    {"rsplit", split_method},
    {"rstrip", strip_method},
    {"split", split_method},
    {"splitlines", split_lines_method},
    {"startswith", affix_method},
    {"strip", strip_method},
    {"swapcase", nullptr},
    {"title", nullptr},
    {"translate", nullptr},
    {"upper", case_method},
    {"zfill", nullptr},
}};

}  // namespace

std::optional<Value> bind_text_method(Runtime& runtime, const Value& text, std::string_view name) {
  const auto* entry = std::find_if(kMethods.begin(), kMethods.end(),
                                   [&](const Entry& each) { return each.name == name; });
  if (entry == kMethods.end()) return std::nullopt;
  return Value(std::shared_ptr<Object>(std::make_shared<Callable>(
      std::string(name), [&runtime, text, entry](CallArguments&& arguments) {
        if (entry->method == nullptr || text.if_text()->safe) {
          throw Failure(
              fmt::format("the method '{}' of {} is not supported", entry->name, text.described()));
        }
        return entry->method(runtime, *text.if_text(), entry->name, std::move(arguments));
      })));
}

Value replace_text(Runtime& runtime, const Text& text, std::string_view from, std::string_view to,
                   std::int64_t limit) {
  runtime.budget.spend(text.bytes.size());
  std::string out;
  const std::string_view source = text.bytes;
  std::size_t done = 0;
  std::size_t search = 0;
  for (; limit != 0; limit -= limit > 0 ? 1 : 0) {
    const std::size_t at = find_text(source, from, search);
    if (at == std::string_view::npos) break;
    runtime.budget.spend(at - done + to.size());
    out += source.substr(done, at - done);
    out += to;
    done = at + from.size();
    search = done;
    if (from.empty()) {
      // An empty text is found before each character and at the end.
      if (at == source.size()) break;
      (void)next_code_point(source, search);
    }
  }
  out += source.substr(done);
  return runtime.text(std::move(out));
}

}  // namespace metal_candle::jinja
