/* SPDX-License-Identifier: MIT */
/*
 * Mode queue: a ROUTER for clients, a DEALER for workers.
 */
#ifndef BULKHEAD_BROKER_QUEUE_H
#define BULKHEAD_BROKER_QUEUE_H

#include <stdbool.h>

struct proxy;

/* Turn rations on or off (see ration.h). */
void queue_set_rationed(struct proxy *proxy, bool rationed);

#endif
