// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What metal-cpp and backend/metal need of Apple's header of this name, to be parsed and no more.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct os_log_s* os_log_t;
#define OS_LOG_CATEGORY_POINTS_OF_INTEREST "PointsOfInterest"
extern "C" os_log_t os_log_create(const char* subsystem, const char* category);
