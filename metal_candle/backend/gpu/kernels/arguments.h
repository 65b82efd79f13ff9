// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// The arguments of every kernel, for the host and for the dialect (dialect.h) alike.
#pragma once

#ifndef MC_GLOBAL
#define MC_GLOBAL
#include <cstdint>
#endif
