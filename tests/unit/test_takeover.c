/* SPDX-License-Identifier: MIT */
/*
 * A client whose routing id another takes over: which is served, and which gets pending replies.
 */
#include <string.h>
#include <unistd.h>

#include "world.h"

/* It is alive: it is not read any more, and its id is contested. */
START_TEST(loser_that_stays)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	int newer = join(PROXY_FRONTEND, "DEALER", "id");

	PUT(old, "\0\1x");
	expect_nothing(worker);
	await_end(old);
	expect_nothing(worker);
	ck_assert_uint_eq(proxy->counters[PROXY_BACKEND].received, 0);
	ck_assert_uint_eq(((struct peer *)list_entry(
				   proxy->side[PROXY_FRONTEND].conns.next, struct conn, node)
					  ->peer)
				  ->contests,
		1);
	close(old);
	close(newer);
	close(worker);
}
END_TEST

/*
 * It had closed already: its requests are read, the id's holder gets the reply, and the id is not
 * contested.
 */
START_TEST(loser_that_leaves)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	int newer = join(PROXY_FRONTEND, "DEALER", "id");
	struct peer *holder;

	ck_assert_int_eq(write(old, "\0\1x", 3), 3);
	close(old);
	settle();
	EXPECT(worker, "\1\2id\0\1x");
	ck_assert_uint_eq(proxy->side[PROXY_FRONTEND].connections, 1);
	holder = list_entry(proxy->side[PROXY_FRONTEND].conns.next, struct conn, node)->peer;
	ck_assert_uint_eq(holder->outstanding, 1);
	ck_assert_uint_eq(holder->contests, 0);
	PUT(worker, "\1\2id\0\1y");
	EXPECT(newer, "\0\1y");
	ck_assert_uint_eq(holder->outstanding, 0);
	close(newer);
	close(worker);
}
END_TEST

START_TEST(takeover_and_reject)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);
	int newer = join(PROXY_FRONTEND, "DEALER", "id"), third;
	char sink[16];

	PUT(worker, "\1\2id\0\1x");
	EXPECT(newer, "\0\1x");
	await_end(old);
	proxy->opts[PROXY_FRONTEND].queue.duplicate_routing_id = DUPLICATE_REJECT;
	third = join(PROXY_FRONTEND, "DEALER", "id");
	settle();
	ck_assert_int_eq(read(third, sink, sizeof(sink)), 0);
	PUT(worker, "\1\2id\0\1y");
	EXPECT(newer, "\0\1y");
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].closed_by[CLOSE_DUPLICATE_ROUTING_ID], 2);
	close(old);
	close(newer);
	close(third);
	close(worker);
}
END_TEST

/*
 * Requests of a client whose id was taken over twice, which are never answered, are not waited for.
 */
START_TEST(what_the_replaced_asked_is_settled)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"), newer, newest, worker;

	PUT(old, "\0\1x"); /* a REP discards that */
	PUT(old, "\1\0\0\1y");
	newer = join(PROXY_FRONTEND, "DEALER", "id");
	newest = join(PROXY_FRONTEND, "DEALER", "id");
	ck_assert_uint_eq(client_called("id")->outstanding, 2);
	worker = join(PROXY_BACKEND, "REP", NULL); /* while the others are still connected */
	ck_assert_uint_eq(client_called("id")->outstanding, 1);
	PUT(worker, "\1\2id\1\0\0\1Y");
	EXPECT(newest, "\1\0\0\1Y");
	ck_assert_uint_eq(client_called("id")->outstanding, 0);
	close(old);
	close(newer);
	close(newest);
	close(worker);
}
END_TEST

START_TEST(what_the_gone_asked_is_settled)
{
	int old = join(PROXY_FRONTEND, "DEALER", "id"), newer, worker;

	PUT(old, "\0\1x");
	newer = join(PROXY_FRONTEND, "DEALER", "id");
	close(old);
	settle();
	ck_assert_uint_eq(proxy->side[PROXY_FRONTEND].connections, 1);
	ck_assert_uint_eq(client_called("id")->outstanding, 1);
	worker = join(PROXY_BACKEND, "REP", NULL);
	ck_assert_uint_eq(client_called("id")->outstanding, 0);
	close(newer);
	close(worker);
}
END_TEST

/* A reply that its client cannot take settles the request nevertheless. */
START_TEST(a_dropped_reply_is_settled)
{
	int client = join(PROXY_FRONTEND, "REQ", "id"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL);

	PUT(client, "\1\0\0\1x");
	ck_assert_uint_eq(client_called("id")->outstanding, 1);
	PUT(worker, "\1\2id\0\1y");
	expect_nothing(client);
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].dropped[DROP_MALFORMED], 1);
	ck_assert_uint_eq(client_called("id")->outstanding, 0);
	close(client);
	close(worker);
}
END_TEST

enum { REPLIES = 7000, REPLY = 100, CHUNKS = 200 };

static struct {
	struct chunk *of[CHUNKS];
	size_t count, again;
} chunks;

static void
see_chunk(void *arg, struct chunk *chunk)
{
	(void)arg;
	ck_assert_uint_lt(chunks.count, CHUNKS);
	chunk->refs++; /* it is not reused meanwhile */
	chunks.of[chunks.count++] = chunk;
}

static void
let_chunks_go(void)
{
	for (size_t i = 0; i < chunks.count; i++) {
		if (chunks.of[i]->refs == 1 && chunks.of[i]->counted)
			outq_uncount(&loop->env, chunks.of[i]);
		chunk_unref(&loop->env.pool, chunks.of[i]);
	}
}

static void
see_again(void *arg, struct chunk *chunk)
{
	(void)arg;
	for (size_t i = 0; i < chunks.count; i++)
		chunks.again += chunks.of[i] == chunk;
}

/* A client of an older version takes over a queue in one step, unchanged except for PINGs. */
START_TEST(an_older_client_takes_over_without_the_pings)
{
	int client = join(PROXY_FRONTEND, "DEALER", "me"),
	    worker = join(PROXY_BACKEND, "DEALER", NULL), next;
	struct conn *old = list_entry(proxy->side[PROXY_FRONTEND].conns.prev, struct conn, node);
	static char got[REPLIES * REPLY];
	char reply[4 + 3 + REPLY] = "\1\2me\1\0";
	uint32_t queued;
	ssize_t n;

	reply[6] = '\0';
	reply[7] = REPLY - 4;
	memset(reply + 8, 'x', sizeof(reply) - 8);
	for (int i = 0; i < REPLIES; i++) {
		ck_assert_int_eq(
			write(worker, reply, 4 + 2 + 2 + REPLY - 4), 4 + 2 + 2 + REPLY - 4);
		if (i % 100 == 0)
			settle();
	}
	settle();
	queued = old->out.messages;
	ck_assert_uint_gt(queued, REPLIES / 2);
	ck_assert(outq_push_command(&old->out, &loop->env, (const uint8_t *)"\4\7\4PING\0\0", 9));
	chunks.count = chunks.again = 0;
	outq_each_chunk(&old->out, see_chunk, NULL);
	next = join(PROXY_FRONTEND, "DEALER", "me");
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].rerouted, queued);
	outq_each_chunk(&list_entry(proxy->side[PROXY_FRONTEND].conns.prev, struct conn, node)->out,
		see_again, NULL);
	ck_assert_uint_gt(chunks.again, chunks.count / 3); /* the others were written */
	let_chunks_go();
	while ((n = read(next, got, sizeof(got))) > 0) {
		ck_assert_ptr_null(memmem(got, (size_t)n, "PING", 4));
		settle();
	}
	ck_assert_uint_eq(proxy->counters[PROXY_FRONTEND].queued, 0);
	close(client);
	close(next);
	close(worker);
}
END_TEST

UNIT_MAIN("takeover", tcase_add_checked_fixture(tc, world_begin, world_end),
	tcase_add_test(tc, loser_that_stays), tcase_add_test(tc, loser_that_leaves),
	tcase_add_test(tc, takeover_and_reject),
	tcase_add_test(tc, what_the_replaced_asked_is_settled),
	tcase_add_test(tc, what_the_gone_asked_is_settled),
	tcase_add_test(tc, a_dropped_reply_is_settled),
	tcase_add_test(tc, an_older_client_takes_over_without_the_pings))
