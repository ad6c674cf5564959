/* SPDX-License-Identifier: MIT */
/*
 * For programs whose instructions are counted: a KEEP function is not inlined, and callgrind finds
 * it by its name (--toggle-collect=measured).
 */
#ifndef BULKHEAD_TESTS_MEASURED_H
#define BULKHEAD_TESTS_MEASURED_H

#if defined(__has_attribute)
#if __has_attribute(noipa)
#define KEEP __attribute__((noipa))
#endif
#endif
#ifndef KEEP
#define KEEP __attribute__((noinline))
#endif

#endif
