/* SPDX-License-Identifier: MIT */
/*
 * What drives the loop: libevent here, a simulated network and clock in
 * tests/sim. The other half of this interface, watches, timers and signals, is
 * declared in loop.h, because all of net/ uses it.
 */
#ifndef BULKHEAD_NET_POLL_H
#define BULKHEAD_NET_POLL_H

#include "net/loop.h"

/* Set loop->base. False when the system refuses an epoll descriptor. */
bool poll_open(struct loop *loop);
void poll_close(struct loop *loop);

/*
 * Run the callbacks of all ready descriptors and due timers, once each; with `wait`, wait first
 * until there is one.
 */
void poll_once(struct loop *loop, bool wait);

/*
 * In the middle of a turn: run the callbacks of descriptors that became ready since poll_once.
 * Never waits.
 */
void poll_again(struct loop *loop);

#endif
