/* SPDX-License-Identifier: MIT */
/*
 * Workers that hold requests and say nothing: silent_after.
 */
#ifndef BULKHEAD_BROKER_SILENCE_H
#define BULKHEAD_BROKER_SILENCE_H

#include "broker/proxy.h"

/* Watch the workers that hold requests, from now on; and the callback of the timer for that. */
void silence_watch(struct proxy *proxy);
void silence_timer_cb(struct timer *timer);

#endif
