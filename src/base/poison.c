/* SPDX-License-Identifier: MIT */
#include "base/poison.h"

#include <assert.h>

void
poison_init(struct poison_guard *g)
{
	g->state = POISON_CLEAN;
	g->midway = false;
}

int
poison_arm(struct poison_guard *g)
{
	if (g->state == POISON_POISONED)
		return POISON_REFUSED;
	g->state = POISON_ARMED;
	return 0;
}

void
poison_wrote(struct poison_guard *g, size_t written, size_t left)
{
	assert(g->state == POISON_ARMED);
	if (written > 0)
		g->midway = left > 0;
	if (!g->midway)
		g->state = POISON_CLEAN;
}

bool
poison_cancel(struct poison_guard *g)
{
	if (g->state == POISON_ARMED)
		g->state = g->midway ? POISON_POISONED : POISON_CLEAN;
	return g->state == POISON_POISONED;
}

bool
poison_midway(const struct poison_guard *g)
{
	return g->midway;
}

bool
poison_is_poisoned(const struct poison_guard *g)
{
	return g->state == POISON_POISONED;
}
