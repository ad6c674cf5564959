/* SPDX-License-Identifier: MIT */
/* Finds the word that was meant when another one was typed. */
#ifndef BULKHEAD_BASE_WORDS_H
#define BULKHEAD_BASE_WORDS_H

/*
 * How many letters must be changed, or swapped with their neighbours, to turn a into b, in lower
 * case: small when b was meant. 40 when one of them is longer than that.
 */
unsigned word_distance(const char *a, const char *b);

#endif
