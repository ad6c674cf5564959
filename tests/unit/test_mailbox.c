/*
 * Letters between the loops of two threads: each comes once, in order, both ways at a time.
 */
#include <pthread.h>
#include <stdlib.h>

#include "net/mailbox.h"
#include "unit.h"

enum { LETTERS = 20000 };

struct letter {
	struct list node;
	unsigned number;
};

/* One thread's end: it sends letters back as they come, and stops after the last. */
struct end {
	struct loop *loop;
	struct mailbox *inbox, *to;
	unsigned seen;
};

static void
on_letter(void *arg, struct list *node)
{
	struct end *end = arg;
	struct letter *letter = list_entry(node, struct letter, node);

	ck_assert_uint_eq(letter->number, end->seen++);
	if (end->to != NULL)
		mailbox_post(end->to, node);
	if (end->seen == LETTERS)
		loop_stop(end->loop);
}

static void *
run(void *arg)
{
	loop_run(((struct end *)arg)->loop);
	return NULL;
}

START_TEST(letters_come_once_and_in_order)
{
	struct letter *letters = calloc(LETTERS, sizeof(*letters));
	struct end here = {.loop = loop_new()}, there = {.loop = loop_new()};
	pthread_t thread;

	here.inbox = mailbox_new(here.loop, on_letter, &here);
	there.inbox = mailbox_new(there.loop, on_letter, &there);
	there.to = here.inbox;
	ck_assert_int_eq(pthread_create(&thread, NULL, run, &there), 0);
	for (unsigned i = 0; i < LETTERS; i++) {
		letters[i].number = i;
		list_init(&letters[i].node);
		mailbox_post(there.inbox, &letters[i].node);
	}
	loop_run(here.loop);
	ck_assert_uint_eq(here.seen, LETTERS);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(there.seen, LETTERS);

	mailbox_post(here.inbox, &letters[0].node);
	ck_assert_ptr_eq(mailbox_take(here.inbox), &letters[0].node);
	ck_assert_ptr_null(mailbox_take(here.inbox));
	mailbox_free(here.inbox);
	mailbox_free(there.inbox);
	loop_free(here.loop);
	loop_free(there.loop);
	free(letters);
}
END_TEST

UNIT_MAIN("mailbox", tcase_add_test(tc, letters_come_once_and_in_order))
