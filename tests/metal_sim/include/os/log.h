// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What backend/metal uses of Apple's <os/log.h>, in software.
#pragma once

struct os_log_s;
typedef os_log_s* os_log_t;
#define OS_LOG_CATEGORY_POINTS_OF_INTEREST "PointsOfInterest"
os_log_t os_log_create(const char* subsystem, const char* category);
