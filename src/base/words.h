/* SPDX-License-Identifier: MIT */
/*
 * Words that somebody typed, and those that may have been meant.
 */
#ifndef BULKHEAD_BASE_WORDS_H
#define BULKHEAD_BASE_WORDS_H

/*
 * How many letters must change, or neighbours change places, to make b of a, in lower case: small
 * when b is what was meant. 40 when one of them is longer than that.
 */
unsigned word_distance(const char *a, const char *b);

#endif
