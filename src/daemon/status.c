/* SPDX-License-Identifier: MIT */
#include "daemon/status.h"

#include <inttypes.h>
#include <stdio.h>

void
status_init(struct status *s, const struct broker *broker)
{
	*s = (struct status){
		.broker = broker,
		.sent = broker_totals(broker).sent,
		.taken_ms = loop_now(broker_loop(broker)),
	};
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
	const struct proxy_totals now = broker_totals(s->broker);
	int64_t now_ms = loop_now(broker_loop(s->broker));
	double rate = 0;
	char text[32];

	/* if it is lower than before, a proxy has been removed, and its count with it */
	if (now_ms > s->taken_ms && now.sent > s->sent)
		rate = (double)(now.sent - s->sent) * 1000 / (double)(now_ms - s->taken_ms);
	s->sent = now.sent;
	s->taken_ms = now_ms;
	snprintf(out, size, "%" PRIu64 " frontend peer%s, %" PRIu64 " backend peer%s, %s msg/s",
		now.peers[PROXY_FRONTEND], now.peers[PROXY_FRONTEND] == 1 ? "" : "s",
		now.peers[PROXY_BACKEND], now.peers[PROXY_BACKEND] == 1 ? "" : "s",
		rate_text(rate, text, sizeof(text)));
}
