/*
 * Mail from one thread's loop to another's: what two threads share goes through here, and
 * nothing else does. Whoever posts gives the letter away.
 */
#ifndef BULKHEAD_NET_MAILBOX_H
#define BULKHEAD_NET_MAILBOX_H

#include <stdbool.h>

#include "net/loop.h"

struct mailbox;

/*
 * A mailbox whose letters are read on `loop`: `on_letter` gets each, in the order posted, as the
 * node that was posted. NULL when the system refuses a descriptor.
 */
struct mailbox *mailbox_new(
	struct loop *loop, void (*on_letter)(void *arg, struct list *letter), void *arg);

/*
 * Hand over a letter, whose node is unlinked. From any thread; never waits for the other loop,
 * and makes one system call at most.
 */
void mailbox_post(struct mailbox *mailbox, struct list *letter);

/*
 * Take a letter out that was not read yet, or NULL: to free what is left when nobody posts any
 * more. From the loop's own thread.
 */
struct list *mailbox_take(struct mailbox *mailbox);

/* Free it; it must be empty. NULL is fine. */
void mailbox_free(struct mailbox *mailbox);

#endif
