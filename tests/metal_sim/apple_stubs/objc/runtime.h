// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// What metal-cpp and backend/metal need of Apple's header of this name, to be parsed and no more.
#pragma once

#include <stdint.h>

typedef struct objc_class* Class;
struct objc_object {
  Class isa;
};
typedef struct objc_object* id;
typedef struct objc_selector* SEL;
typedef id (*IMP)(id, SEL, ...);
typedef signed char BOOL;
typedef struct objc_method* Method;
typedef struct objc_property* objc_property_t;
struct objc_object_protocol;
typedef struct objc_object Protocol;
#ifdef __cplusplus
extern "C" {
#endif
Class objc_lookUpClass(const char* name);
Class objc_getClass(const char* name);
Protocol* objc_getProtocol(const char* name);
SEL sel_registerName(const char* name);
Class object_getClass(id object);
const char* class_getName(Class type);
Method class_getInstanceMethod(Class type, SEL name);
IMP class_getMethodImplementation(Class type, SEL name);
BOOL class_respondsToSelector(Class type, SEL name);
const char* method_getTypeEncoding(Method method);
#ifdef __cplusplus
}
#endif
