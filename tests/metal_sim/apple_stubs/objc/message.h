// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What metal-cpp and backend/metal need of Apple's header of this name, to be parsed and no more.
#pragma once

#include <objc/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif
void objc_msgSend(void);
void objc_msgSend_stret(void);
void objc_msgSend_fpret(void);
#ifdef __cplusplus
}
#endif
