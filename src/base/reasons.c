#include "base/reasons.h"

#include <assert.h>

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
