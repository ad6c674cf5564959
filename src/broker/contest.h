/* SPDX-License-Identifier: MIT */
/*
 * Two living clients that claim one routing id.
 */
#ifndef BULKHEAD_BROKER_CONTEST_H
#define BULKHEAD_BROKER_CONTEST_H

#include "broker/proxy_impl.h"

/* `client` takes the routing id from `old`, and the replies that were not sent yet, in order. */
void contest_take_over(struct proxy *proxy, struct peer *old, struct peer *client);

/* Record that two live clients have one id: people see it in status. */
void contest_note(struct proxy *proxy, const struct peer *client);

/* A client that lost its id to another client is gone: count it if that was a contest. */
void contest_count(struct proxy *proxy, const struct peer *loser);

/*
 * Another client claims the id of `holder`: count that. True: the holder keeps its id, as it does
 * for a while after the id was claimed too often.
 */
bool contest_decide(struct proxy *proxy, struct peer *holder);

#endif
