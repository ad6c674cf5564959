/* SPDX-License-Identifier: MIT */
/*
 * What turns the loop: libevent here, a simulated network and clock in
 * tests/sim. The other half of this door, watches, timers and signals, is
 * declared in loop.h, because everybody uses it.
 */
#ifndef BULKHEAD_NET_POLL_H
#define BULKHEAD_NET_POLL_H

#include "net/loop.h"

/* Set loop->base. False when the system refuses an epoll descriptor. */
bool poll_open(struct loop *loop);
void poll_close(struct loop *loop);

/*
 * Call back what is ready and due, once each; with `wait`, first wait until
 * there is something.
 */
void poll_once(struct loop *loop, bool wait);

/* In the middle of a turn: call back what became ready since poll_once. Never waits. */
void poll_again(struct loop *loop);

#endif
