/* SPDX-License-Identifier: MIT */
#include "base/reasons.h"

#include <assert.h>
#include <stddef.h>

#define NAME(upper, lower) #lower,
static const char *const close_names[] = {CLOSE_REASONS(NAME)};
static const char *const drop_names[] = {DROP_REASONS(NAME)};

const char *
close_reason_name(enum close_reason reason)
{
	assert((unsigned)reason < CLOSE_REASON_COUNT);
	return close_names[reason];
}

const char *
drop_reason_name(enum drop_reason reason)
{
	assert((unsigned)reason < DROP_REASON_COUNT);
	return drop_names[reason];
}

bool
close_reason_is_limit(enum close_reason reason, const char **option)
{
	static const struct {
		bool is_limit;
		const char *option;
	} limits[CLOSE_REASON_COUNT] = {
		[CLOSE_SEND_TIMEOUT] = {true, "send_timeout"},
		[CLOSE_RECEIVE_TIMEOUT] = {true, "receive_timeout"},
		[CLOSE_MESSAGE_TOO_BIG] = {true, "max_message_size"},
		[CLOSE_TOO_MANY_PARTS] = {true, "max_message_parts"},
		[CLOSE_OVER_LIMIT] = {true, NULL},
	};

	assert((unsigned)reason < CLOSE_REASON_COUNT);
	*option = limits[reason].option;
	return limits[reason].is_limit;
}
