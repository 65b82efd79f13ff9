// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The one place where metal-cpp defines what it declares.
#define NS_PRIVATE_IMPLEMENTATION
#define MTL_PRIVATE_IMPLEMENTATION
#include "metal_candle/backend/metal/metal_api.h"
