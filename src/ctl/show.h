/*
 * What the broker answered, for people.
 */
#ifndef BULKHEAD_CTL_SHOW_H
#define BULKHEAD_CTL_SHOW_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "ctl/table.h"

enum { SHOW_MAX = 16 };

/* Print the answer to `command` (enum command), fit for `width` columns; 0: no limit. */
void show_answer(int command, const json_t *answer, FILE *out, size_t width);

/* A member as a number or a text; 0 or "-" when it is missing or null. */
int64_t show_number(const json_t *object, const char *key);
const char *show_text(const json_t *object, const char *key);

/* Short forms: 1.2M, 3m12s. Return out. */
const char *show_bytes(char out[SHOW_MAX], double bytes);
const char *show_count(char out[SHOW_MAX], double count);
const char *show_ms(char out[SHOW_MAX], int64_t ms);

#endif
