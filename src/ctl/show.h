/* SPDX-License-Identifier: MIT */
/*
 * Prints the broker's answers for people.
 */
#ifndef BULKHEAD_CTL_SHOW_H
#define BULKHEAD_CTL_SHOW_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/table.h"

enum { SHOW_MAX = 16 };

/* Print the answer to `command` (enum command) so that it fits the screen. */
void show_answer(int command, const json_t *answer, const struct screen *screen);

/* A member as a number or a text; 0 or "-" when it is missing or null. */
int64_t show_number(const json_t *object, const char *key);
const char *show_text(const json_t *object, const char *key);

/* The length of a text without its final newline, if it has one. */
int show_len(const char *text);

/* A peer's address, without tcp:// in front. */
const char *show_address(const json_t *peer);

/* A peer's routing id, cut to SHOW_ID_MAX so that the table stays readable; JSON has it whole. */
enum { SHOW_ID_MAX = 40 };
const char *show_routing_id(char out[SHOW_ID_MAX + 1], const json_t *peer);

/* A peer's state; "poisoned" takes precedence. */
const char *show_state(const json_t *peer);

/* The style of a peer's row; NULL: the peer is in no trouble. */
const char *show_style(const json_t *peer);

/* Messages of a peer: a client sends requests and gets replies, a worker vice versa. */
int64_t show_requests(const json_t *peer);
int64_t show_replies(const json_t *peer);

/*
 * Format the upper bound of measured times, in seconds: "<= 80us" or "<= 5.12ms"; "-" for 0, when
 * none was measured; below 0 it is the last bound, and times were longer: "> 10486ms".
 */
const char *show_bound(char out[SHOW_MAX], double seconds);

/* Short forms: 1.2M, 3m12s. Return out. */
const char *show_bytes(char out[SHOW_MAX], double bytes);
const char *show_count(char out[SHOW_MAX], double count);
const char *show_ms(char out[SHOW_MAX], int64_t ms);

#endif
