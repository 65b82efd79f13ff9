// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What metal-cpp and backend/metal need of Apple's header of this name, to be parsed and no more.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef double CFTimeInterval;
typedef const void* CFTypeRef;
typedef const struct __CFString* CFStringRef;
