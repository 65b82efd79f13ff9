// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/loop.h"

#include <memory>
#include <utility>

#include "metal_candle/io/chat_template/failure.h"

namespace metal_candle::jinja {

Loop::Loop(Runtime& runtime, const Value& iterable, Condition condition)
    : Object(iterable.depth()),
      iterator_(iterable, runtime.budget),
      condition_(std::move(condition)) {
  if (!condition_ && iterator_.length() != Iterator::kUnknown) {
    length_ = static_cast<std::int64_t>(iterator_.length());
  }
}

std::optional<Value> Loop::pull() {
  while (const auto element = iterator_.next()) {
    if (!condition_ || condition_(*element)) return *element;
  }
  return std::nullopt;
}

bool Loop::has_next() {
  if (ahead_.empty()) {
    if (auto element = pull()) ahead_.push_back(*std::move(element));
  }
  return !ahead_.empty();
}

bool Loop::advance() {
  if (!has_next()) return false;
  previous_ = std::exchange(current_, std::move(ahead_.front()));
  ahead_.pop_front();
  ++index_;
  return true;
}

std::int64_t Loop::length() {
  if (!length_) {
    while (auto element = pull()) ahead_.push_back(*std::move(element));
    length_ = index_ + static_cast<std::int64_t>(ahead_.size());
  }
  return *length_;
}

std::optional<Value> Loop::attribute(Runtime& runtime, const Value& self, std::string_view name) {
  if (name == "index") return Value(index_);
  if (name == "index0") return Value(index_ - 1);
  if (name == "first") return Value(index_ == 1);
  if (name == "last") return Value(!has_next());
  if (name == "length") return Value(length());
  if (name == "revindex") return Value(length() - index_ + 1);
  if (name == "revindex0") return Value(length() - index_);
  // Only recursive loops, which there are none of, go deeper.
  if (name == "depth") return Value(std::int64_t{1});
  if (name == "depth0") return Value(std::int64_t{0});
  if (name == "previtem") {
    return index_ > 1 ? previous_ : Value::undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return has_next() ? ahead_.front() : Value::undefined("there is no next item");
  }
  if (name == "cycle") {
    return Value(std::shared_ptr<Object>(std::make_shared<Callable>(
        "cycle",
        [self](CallArguments&& arguments) {
          if (arguments.positional.empty()) throw Failure("'loop.cycle' needs arguments");
          const auto index = static_cast<std::size_t>(self.if_object<Loop>()->index_ - 1);
          return arguments.positional[index % arguments.positional.size()];
        },
        depth())));
  }
  if (name == "changed") {
    return Value(std::shared_ptr<Object>(std::make_shared<Callable>(
        "changed",
        [self, &runtime](CallArguments&& arguments) {
          Value now = Value::tuple(std::move(arguments.positional));
          auto& last = self.if_object<Loop>()->last_changed_;
          const bool changed = !last || !is_equal(*last, now, runtime.budget);
          last = std::move(now);
          return Value(changed);
        },
        depth())));
  }
  return std::nullopt;
}

}  // namespace metal_candle::jinja
