/* SPDX-License-Identifier: MIT */
/*
 * Rations begin when memory is short, and end some time after.
 */
#include "broker/backlog.h"
#include "broker/proxy_impl.h"
#include "broker/queue.h"
#include "broker/ration.h"
#include "broker/replies.h"

enum {
	RATION_MS = 10000,
	LONGEST_MS = 16 * RATION_MS,
	SPARE_MS = 1000, /* until a waiting client gets more: its workers may never answer */
	MOST_GRANTS = 6
};

void
ration_begin(struct proxy *proxy, uint64_t too_much)
{
	struct ration *ration = &proxy->ration;
	int64_t now = loop_now(proxy->loop);

	if (!ration->few) {
		bool soon = ration->until > 0 && now - ration->until < ration->lasts;

		ration->lasts = !soon                ? RATION_MS
			: ration->lasts < LONGEST_MS ? 2 * ration->lasts
						     : LONGEST_MS;
		ration->spared = now;
		ration->few = true;
	}
	ration->until = now + ration->lasts;
	ration->too_much = too_much;
	if (!ration->on)
		queue_set_rationed(proxy, true);
}

/*
 * A client that wants no replies is soon at its rate again; one that does not take them starts
 * over.
 */
static void
spare(struct peer *client)
{
	if (ration_takes_too_little(client)) {
		client->grants = 0;
		return;
	}
	client->spare = (uint16_t)(1U << 2 * client->grants);
	if (client->grants < MOST_GRANTS)
		client->grants++;
}

void
ration_check(struct proxy *proxy, uint64_t too_much)
{
	struct ration *ration = &proxy->ration;
	int64_t now = loop_now(proxy->loop);
	bool due = now - ration->spared >= SPARE_MS, waits = false;

	if (!ration->on)
		return;
	ration->too_much = too_much;
	ration->few = ration->few && now < ration->until;
	if (due)
		ration->spared = now;
	list_each(node, tmp, &proxy->parked) {
		struct peer *client = list_entry(node, struct backlog, node)->peer;

		if (client == NULL || !client->waits)
			continue;
		if (due)
			spare(client);
		if (!ration_is_used_up(client))
			replies_end_wait(proxy, client);
		waits |= client->waits;
	}
	if (!ration->few && !waits)
		queue_set_rationed(proxy, false);
}
