// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What metal-cpp and backend/metal need of Apple's header of this name, to be parsed and no more.
#pragma once

#include <locale.h>

#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
struct lconv* localeconv_l(locale_t locale);
int sscanf_l(const char* text, locale_t locale, const char* format, ...);
int snprintf_l(char* text, size_t size, locale_t locale, const char* format, ...);
int asprintf_l(char** text, locale_t locale, const char* format, ...);
#ifdef __cplusplus
}
#endif

// Macros in glibc that look into its locales.
#include <ctype.h>
#undef isdigit_l
#undef isxdigit_l
