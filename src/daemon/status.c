/* SPDX-License-Identifier: MIT */
#include "daemon/status.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t
sent_by(const struct broker *b)
{
	uint64_t n = 0;

	for (size_t i = 0; i < b->count; i++)
		for (int side = 0; side < PROXY_SIDES; side++)
			n += b->proxies[i]->counters[side].sent;
	return n;
}

static uint64_t
peers_of(const struct broker *b, int side)
{
	uint64_t n = 0;

	for (size_t i = 0; i < b->count; i++)
		n += b->proxies[i]->counters[side].peers;
	return n;
}

void
status_init(struct status *s, const struct broker *broker)
{
	*s = (struct status){
		.broker = broker, .sent = sent_by(broker), .looked = loop_now(broker->loop)};
}

static const char *
rate_text(double rate, char *out, size_t size)
{
	if (rate >= 1e6)
		snprintf(out, size, "%.1fM", rate / 1e6);
	else if (rate >= 1e3)
		snprintf(out, size, "%.1fk", rate / 1e3);
	else
		snprintf(out, size, "%.0f", rate);
	return out;
}

void
status_text(struct status *s, char *out, size_t size)
{
	const struct broker *b = s->broker;
	uint64_t sent = sent_by(b), frontend = peers_of(b, PROXY_FRONTEND);
	uint64_t backend = peers_of(b, PROXY_BACKEND);
	int64_t now = loop_now(b->loop);
	double rate = 0;
	char text[32];

	/* fewer than before: a proxy is gone, and its count with it */
	if (now > s->looked && sent > s->sent)
		rate = (double)(sent - s->sent) * 1000 / (double)(now - s->looked);
	s->sent = sent;
	s->looked = now;
	snprintf(out, size, "%" PRIu64 " frontend peer%s, %" PRIu64 " backend peer%s, %s msg/s",
		frontend, frontend == 1 ? "" : "s", backend, backend == 1 ? "" : "s",
		rate_text(rate, text, sizeof(text)));
}
