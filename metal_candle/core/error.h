// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The exceptions this library throws. Each message names the operation, file or key it is about.
#pragma once

#include <stdexcept>

namespace metal_candle {

/// Base of every exception thrown by this library.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shapes, axes, ranks or indices that do not fit an operation.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// An element type that an operation does not take.
class DTypeError : public Error {
 public:
  using Error::Error;
};

/// A device that is missing, or operands on different devices, or a failure on a device.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// The memory limit of a device, or its memory, would be exceeded.
class OutOfMemoryError : public Error {
 public:
  using Error::Error;
};

/// A file, string or option whose contents are malformed.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// A file that cannot be opened, read or written.
class IoError : public Error {
 public:
  using Error::Error;
};

}  // namespace metal_candle
