// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// Objects, their counts and their pools, and the machine.
#include <os/signpost.h>
#include <Foundation/Foundation.hpp>
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "tests/metal_sim/internal.h"

namespace metal_sim {

void violation(const std::string& text) { throw std::logic_error("metal_sim: " + text); }

Machine& machine() {
  static Machine instance;
  return instance;
}

Statistics& counters() {
  static Statistics instance;
  return instance;
}
Statistics statistics() {
  Statistics now = counters();
  now.live_buffers = count_mappings();
  return now;
}

namespace {

// Objects that nobody owns: kept, so that their use is found, and gone when many came after.
class Graveyard {
 public:
  void bury(const NS::Object* object) {
    constexpr std::size_t kMost = 8192;
    const NS::Object* oldest = nullptr;
    {
      const std::lock_guard lock(mutex_);
      objects_.push_back(object);
      if (objects_.size() > kMost) {
        oldest = objects_.front();
        objects_.pop_front();
      }
    }
    delete oldest;
  }

 private:
  std::mutex mutex_;
  std::deque<const NS::Object*> objects_;
};
Graveyard& graveyard() {
  static auto* instance = new Graveyard;
  return *instance;
}

// Without a destructor: a process that exits makes pools when those of the thread have run.
thread_local constinit NS::AutoreleasePool* innermost_pool = nullptr;

struct SignpostRecord {
  std::mutex mutex;
  bool recording = false;
  std::vector<Signpost> all;
};
SignpostRecord& signpost_record() {
  static SignpostRecord record;
  return record;
}

}  // namespace

void record_signposts(bool record) {
  const std::lock_guard lock(signpost_record().mutex);
  signpost_record().recording = record;
  signpost_record().all.clear();
}
std::vector<Signpost> signposts() {
  const std::lock_guard lock(signpost_record().mutex);
  return signpost_record().all;
}

}  // namespace metal_sim

struct os_log_s {};
os_log_t os_log_create(const char*, const char*) {
  static os_log_s log;
  return &log;
}
bool os_signpost_enabled(os_log_t) {
  const std::lock_guard lock(metal_sim::signpost_record().mutex);
  return metal_sim::signpost_record().recording;
}
os_signpost_id_t os_signpost_id_generate(os_log_t) {
  const std::lock_guard lock(metal_sim::signpost_record().mutex);
  return metal_sim::signpost_record().all.size() + 1;
}
void metal_sim_signpost_begin(os_log_t, os_signpost_id_t, const char* name, const char* format,
                              ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  const std::lock_guard lock(metal_sim::signpost_record().mutex);
  metal_sim::signpost_record().all.push_back({name, text, false});
}
void metal_sim_signpost_end(os_log_t, os_signpost_id_t id, const char* name) {
  const std::lock_guard lock(metal_sim::signpost_record().mutex);
  auto& all = metal_sim::signpost_record().all;
  if (id > all.size()) return;  // Of an earlier recording.
  if (all[id - 1].name != name) metal_sim::violation("a signpost ends that another began");
  all[id - 1].ended = true;
}

namespace NS {

Object::Object() = default;
Object::~Object() = default;

void Object::check() const {
  if (count_.load() == 0) {
    metal_sim::violation(std::string("use of a released object, ") + kind());
  }
}

void Object::sim_retain() const {
  check();
  ++count_;
}

void Object::sim_release() const {
  check();
  if (--count_ > 0) return;
  const_cast<Object*>(this)->dispose();
  metal_sim::graveyard().bury(this);
}

void Object::sim_autorelease() const {
  check();
  if (metal_sim::innermost_pool == nullptr) {
    metal_sim::violation(std::string(kind()) + " is autoreleased on a thread without a pool");
  }
  metal_sim::innermost_pool->objects.push_back(this);
}

AutoreleasePool* AutoreleasePool::init() {
  outer = std::exchange(metal_sim::innermost_pool, this);
  return this;
}

void AutoreleasePool::release() {
  check();
  if (metal_sim::innermost_pool != this) {
    metal_sim::violation("a pool is released that is not the innermost of its thread");
  }
  metal_sim::innermost_pool = outer;
  std::vector<const Object*> released = std::move(objects);
  for (const Object* object : released) object->sim_release();
  sim_release();
}

String* String::string(const char* text, StringEncoding) {
  auto* made = new String;
  made->text = text;
  return made->autorelease();
}
const char* String::utf8String() const {
  check();
  return text.c_str();
}
UInteger String::length() const {
  check();
  return text.size();
}

Error* Error::make(Integer code, const std::string& text) {
  auto* made = new Error;
  made->code_ = code;
  auto* string = new String;
  string->text = text;
  made->text_ = TransferPtr(string);
  return made->autorelease();
}
Integer Error::code() const {
  check();
  return code_;
}
String* Error::localizedDescription() const {
  check();
  return text_.get();
}

URL* URL::fileURLWithPath(const String* path) {
  auto* made = new URL;
  made->path_ = path->utf8String();
  return made->autorelease();
}
const char* URL::fileSystemRepresentation() const {
  check();
  return path_.c_str();
}

ProcessInfo* ProcessInfo::processInfo() {
  static auto* instance = new ProcessInfo;
  return instance;
}
OperatingSystemVersion ProcessInfo::operatingSystemVersion() const {
  return {metal_sim::machine().macos, 0, 0};
}
bool ProcessInfo::isOperatingSystemAtLeastVersion(OperatingSystemVersion version) const {
  return metal_sim::machine().macos >= version.majorVersion;
}

}  // namespace NS
