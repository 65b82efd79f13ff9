// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What backend/metal uses of metal-cpp's Foundation, with the same names and signatures, for a
// Metal in software (metal_sim.h). Objects are counted as Apple's are; one that was released to
// nothing is kept for a while, and its use is an error.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace NS {

using Integer = std::intptr_t;
using UInteger = std::uintptr_t;

/// Base of all objects. What a subclass holds goes in dispose(), when nobody owns the object; the
/// object itself stays, so that its use is noticed.
class Object {
 public:
  Object();
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  /// Throws std::logic_error if the object is gone. Every method begins with it.
  void check() const;
  /// "an MTL::Buffer".
  [[nodiscard]] virtual const char* kind() const { return "an NS::Object"; }

  void sim_retain() const;
  void sim_release() const;
  void sim_autorelease() const;
  [[nodiscard]] UInteger sim_count() const { return count_.load(); }

 protected:
  virtual void dispose() {}

 private:
  mutable std::atomic<UInteger> count_{1};
};

template <class Class, class Base = Object>
class Referencing : public Base {
 public:
  using Base::Base;
  Class* retain() {
    this->sim_retain();
    return static_cast<Class*>(this);
  }
  void release() { this->sim_release(); }
  Class* autorelease() {
    this->sim_autorelease();
    return static_cast<Class*>(this);
  }
  [[nodiscard]] UInteger retainCount() const { return this->sim_count(); }
};
template <class Class, class Base = Object>
class Copying : public Referencing<Class, Base> {};

template <class Class>
class SharedPtr {
 public:
  SharedPtr() = default;
  SharedPtr(std::nullptr_t) noexcept {}
  ~SharedPtr() { reset(); }
  SharedPtr(const SharedPtr& other) noexcept : object_(other.object_) {
    if (object_ != nullptr) object_->sim_retain();
  }
  SharedPtr(SharedPtr&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  SharedPtr& operator=(SharedPtr other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  [[nodiscard]] Class* get() const { return object_; }
  Class* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  void reset() {
    if (object_ != nullptr) std::exchange(object_, nullptr)->sim_release();
  }

 private:
  template <class Other>
  friend SharedPtr<Other> TransferPtr(Other* object);
  Class* object_ = nullptr;
};
template <class Class>
SharedPtr<Class> TransferPtr(Class* object) {
  SharedPtr<Class> pointer;
  pointer.object_ = object;
  return pointer;
}
template <class Class>
SharedPtr<Class> RetainPtr(Class* object) {
  if (object != nullptr) object->sim_retain();
  return TransferPtr(object);
}

/// Of the thread that makes it.
class AutoreleasePool : public Object {
 public:
  static AutoreleasePool* alloc() { return new AutoreleasePool; }
  AutoreleasePool* init();
  void release();
  [[nodiscard]] const char* kind() const override { return "an NS::AutoreleasePool"; }
  std::vector<const Object*> objects;
  AutoreleasePool* outer = nullptr;
};

enum StringEncoding : UInteger { UTF8StringEncoding = 4 };

class String : public Copying<String> {
 public:
  static String* string(const char* text, StringEncoding encoding);
  [[nodiscard]] const char* utf8String() const;
  [[nodiscard]] UInteger length() const;
  [[nodiscard]] const char* kind() const override { return "an NS::String"; }
  std::string text;

 protected:
  void dispose() override { text.clear(); }
};

class Error : public Copying<Error> {
 public:
  [[nodiscard]] Integer code() const;
  [[nodiscard]] String* localizedDescription() const;
  [[nodiscard]] const char* kind() const override { return "an NS::Error"; }
  /// Autoreleased.
  static Error* make(Integer code, const std::string& text);

 private:
  Integer code_ = 0;
  SharedPtr<String> text_;
};

class Array : public Copying<Array> {
 public:
  template <class T = Object>
  T* object(UInteger index) const {
    check();
    return static_cast<T*>(objects.at(index).get());
  }
  [[nodiscard]] UInteger count() const {
    check();
    return objects.size();
  }
  [[nodiscard]] const char* kind() const override { return "an NS::Array"; }
  std::vector<SharedPtr<Object>> objects;

 protected:
  void dispose() override { objects.clear(); }
};

class URL : public Copying<URL> {
 public:
  static URL* fileURLWithPath(const String* path);
  [[nodiscard]] const char* fileSystemRepresentation() const;
  [[nodiscard]] const char* kind() const override { return "an NS::URL"; }

 private:
  std::string path_;
};

struct OperatingSystemVersion {
  Integer majorVersion, minorVersion, patchVersion;
};
class ProcessInfo : public Referencing<ProcessInfo> {
 public:
  static ProcessInfo* processInfo();
  [[nodiscard]] OperatingSystemVersion operatingSystemVersion() const;
  [[nodiscard]] bool isOperatingSystemAtLeastVersion(OperatingSystemVersion version) const;
  [[nodiscard]] const char* kind() const override { return "an NS::ProcessInfo"; }
};

struct Range {
  Range(UInteger from, UInteger count) : location(from), length(count) {}
  UInteger location, length;
};

}  // namespace NS
