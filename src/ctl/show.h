/* SPDX-License-Identifier: MIT */
/*
 * What the broker answered, for people.
 */
#ifndef BULKHEAD_CTL_SHOW_H
#define BULKHEAD_CTL_SHOW_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/table.h"

enum { SHOW_MAX = 16 };

/* Print the answer to `command` (enum command), fit for the screen. */
void show_answer(int command, const json_t *answer, const struct screen *screen);

/* A member as a number or a text; 0 or "-" when it is missing or null. */
int64_t show_number(const json_t *object, const char *key);
const char *show_text(const json_t *object, const char *key);

/* The length of a text without the newline at its end, where it has one. */
int show_len(const char *text);

/* A peer's address, without the tcp:// that most have. */
const char *show_address(const json_t *peer);

/* A peer's routing id, cut where it is so long that no table could be read. JSON has it whole. */
enum { SHOW_ID_MAX = 40 };
const char *show_routing_id(char out[SHOW_ID_MAX + 1], const json_t *peer);

/* A peer's state; poisoned when it is that, whatever else it is. */
const char *show_state(const json_t *peer);

/* The style of a peer's row; NULL: nothing is wrong with it. */
const char *show_style(const json_t *peer);

/* Messages of a peer: a client sends requests and gets replies, a worker the other way round. */
int64_t show_requests(const json_t *peer);
int64_t show_replies(const json_t *peer);

/* A bound of times, in seconds, as "<= 80us" or "<= 5.12ms"; "-" for 0: none was measured; below 0:
 * more than that, "> 10486ms". */
const char *show_bound(char out[SHOW_MAX], double seconds);

/* Short forms: 1.2M, 3m12s. Return out. */
const char *show_bytes(char out[SHOW_MAX], double bytes);
const char *show_count(char out[SHOW_MAX], double count);
const char *show_ms(char out[SHOW_MAX], int64_t ms);

#endif
