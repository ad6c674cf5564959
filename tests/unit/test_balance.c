/* SPDX-License-Identifier: MIT */
/*
 * Which worker gets the next request, against a model that examines every worker each time.
 */
#include <string.h>

#include "broker/balance.h"
#include "unit.h"

enum { WORKERS = 40, STEPS = 8000 };

static struct side_opts opts = {.send_hwm_bytes = 1 << 20};
static struct counters counters;
static struct side side = {.opts = &opts, .counters = &counters};
static struct balance balance;
static struct conn conns[WORKERS];
static struct peer *workers[WORKERS];
static struct {
	bool joined, in;
	uint64_t since; /* when it joined its level */
} model[WORKERS];
static uint64_t turn;
static uint32_t seed;

static uint32_t
rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static void
begin(uint32_t from)
{
	seed = from + 1;
	turn = 0;
	balance_init(&balance);
	memset(model, 0, sizeof(model));
	for (int i = 0; i < WORKERS; i++) {
		conns[i] = (struct conn){.side = &side, .state = CONN_READY};
		workers[i] = peer_new(NULL, &conns[i], 0);
		ck_assert_ptr_nonnull(workers[i]);
	}
}

static void
end(void)
{
	for (int i = 0; i < WORKERS; i++) {
		balance_remove(&balance, workers[i]);
		if (model[i].joined)
			balance_quit(&balance);
		peer_free(workers[i]);
	}
	balance_fini(&balance);
}

static uint64_t
load_of(int i)
{
	return workers[i]->outstanding + workers[i]->lift;
}

/*
 * Levels ascend, none is empty, and each has the workers that count for that many requests. No lift
 * is more than the least load, so that a worker without requests is among the least loaded.
 */
static void
check_levels(void)
{
	uint64_t before = 0, count = 0, expected = 0, least = UINT64_MAX;
	bool first = true;

	list_each(node, tmp, &balance.levels.node) {
		struct level *level = list_entry(node, struct level, node);
		ck_assert(first || level->load > before);
		ck_assert(!list_empty(&level->workers));
		list_each(w, next, &level->workers) {
			struct peer *worker = list_entry(w, struct peer, ready);
			ck_assert(worker->level == level);
			ck_assert_uint_eq(worker->outstanding + worker->lift, level->load);
			if (first)
				least = level->load;
			ck_assert_uint_le(worker->lift, least);
			count++;
		}
		before = level->load;
		first = false;
	}
	for (int i = 0; i < WORKERS; i++)
		expected += model[i].in;
	ck_assert_uint_eq(count, expected);
}

static bool
may_have_one(int i)
{
	return model[i].in && conns[i].state == CONN_READY && !workers[i]->suspect &&
		workers[i]->outstanding < balance.max_outstanding;
}

/* Is `i` before `other`: with a lower load, or, at equal loads, because it waits longer? */
static bool
is_before(int i, int other)
{
	return balance.least ? load_of(i) < load_of(other) : model[i].since < model[other].since;
}

static int
index_of(const struct peer *worker)
{
	for (int i = 0; i < WORKERS; i++)
		if (workers[i] == worker)
			return i;
	return -1;
}

/* No worker with room comes before the chosen one; only workers without room leave the order. */
static void
choose(void)
{
	bool could[WORKERS];
	struct peer *got;
	int chosen;

	for (int i = 0; i < WORKERS; i++)
		could[i] = may_have_one(i);
	got = balance_next(&balance, 10);
	chosen = index_of(got);
	ck_assert(got == NULL || could[chosen]);
	for (int i = 0; i < WORKERS; i++) {
		ck_assert(!could[i] || (got != NULL && !is_before(i, chosen)));
		if (model[i].in && !list_linked(&workers[i]->ready)) {
			ck_assert(!could[i]);
			model[i].in = false;
		}
	}
	if (got == NULL)
		return;
	model[chosen].since = ++turn;
	balance_given(&balance, got);
}

static void
join(int i)
{
	if (model[i].joined)
		return;
	ck_assert(balance_join(&balance, workers[i]));
	model[i].joined = true;
}

static void
add(int i)
{
	join(i);
	if (!model[i].in)
		model[i].since = ++turn;
	model[i].in = !workers[i]->suspect;
	balance_add(&balance, workers[i]);
}

static void
settle(int i, uint64_t count)
{
	for (; count > 0 && workers[i]->outstanding > 0; count--)
		balance_settled(&balance, workers[i]);
}

static void
one_step(void)
{
	int i = (int)rnd(WORKERS);

	switch (rnd(12)) {
	case 0:
		add(i);
		break;
	case 1:
		balance_remove(&balance, workers[i]);
		model[i].in = false;
		if (rnd(4) == 0 && model[i].joined) {
			balance_quit(&balance);
			model[i].joined = false;
			workers[i]->outstanding = rnd(3) == 0 ? rnd(50) : 0;
		}
		break;
	case 2: /* many at once: expired */
		settle(i, rnd(200));
		break;
	case 3:
		workers[i]->suspect = rnd(3) == 0;
		if (workers[i]->suspect) {
			balance_remove(&balance, workers[i]);
			model[i].in = false;
		}
		break;
	case 4:
		conns[i].state = rnd(3) == 0 ? CONN_STALLED : CONN_READY;
		break;
	case 5:
	case 6:
	case 7: /* a reply */
		settle(i, 1);
		if (!workers[i]->suspect && conns[i].state == CONN_READY && rnd(2))
			add(i);
		break;
	default:
		choose();
	}
}

START_TEST(random_against_model)
{
	begin((uint32_t)_i);
	balance.least = _i % 2 == 0;
	balance.max_outstanding = _i % 4 < 2 ? UINT64_MAX : 1 + rnd(4);
	for (int i = unit_repeat(STEPS, 10); i > 0; i--) {
		one_step();
		if (balance.least)
			check_levels();
	}
	end();
}
END_TEST

static void
add_first(int count)
{
	for (int i = 0; i < count; i++)
		add(i);
}

/* Chooses the next worker, assigns it a request, and returns its index. */
static int
give(void)
{
	struct peer *worker = balance_next(&balance, 10);

	ck_assert_ptr_nonnull(worker);
	balance_given(&balance, worker);
	return index_of(worker);
}

/* Each worker in turn, whether requests are answered at once, later, or never. */
START_TEST(equal_workers_take_turns)
{
	enum { EQUAL = 7, ROUNDS = 100 };
	uint64_t given[EQUAL] = {0};

	begin(0);
	balance.least = true;
	add_first(EQUAL);
	for (int i = 0; i < EQUAL * ROUNDS; i++) {
		int chosen = give();

		ck_assert_int_eq(chosen, i % EQUAL);
		given[chosen]++;
		if (_i == 0)
			settle(chosen, 1);
		else if (_i == 1 && i >= 20)
			settle((i - 20) % EQUAL, 1);
		check_levels();
	}
	for (int i = 0; i < EQUAL; i++)
		ck_assert_uint_eq(given[i], ROUNDS);
	end();
}
END_TEST

/*
 * A worker answers nothing: the others get all requests after those that it holds, however long
 * that lasts.
 */
START_TEST(a_worker_that_hangs_gets_no_more)
{
	begin(0);
	balance.least = true;
	add_first(3);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(give(), i);
	settle(1, 1);
	settle(2, 1);
	for (int i = 0; i < 1000; i++) {
		int chosen = give();

		ck_assert_int_ne(chosen, 0);
		settle(chosen, 1);
	}
	ck_assert_uint_eq(workers[0]->outstanding, 1);
	end();
}
END_TEST

/* No request is answered: a worker that comes late, or was away, gets one extra turn at most. */
START_TEST(newcomers_do_not_get_all_one_way_traffic)
{
	begin(0);
	balance.least = true;
	add_first(3);
	for (int i = 0; i < 3000; i++)
		give();
	if (_i == 0) {
		add(3);
	} else if (_i == 1) { /* away for a while */
		balance_remove(&balance, workers[2]);
		model[2].in = false;
		for (int i = 0; i < 5000; i++)
			give();
		add(2);
	} else { /* it connects while no other has room */
		for (int i = 0; i < 3; i++) {
			balance_remove(&balance, workers[i]);
			model[i].in = false;
		}
		add(3);
		add_first(3);
	}
	check_levels();
	for (int i = 0; i < 4; i++)
		model[i].since = workers[i]->outstanding;
	for (int i = 0; i < 1200; i++)
		give();
	for (int i = 0; i < (_i == 1 ? 3 : 4); i++) {
		ck_assert_uint_ge(workers[i]->outstanding - model[i].since, _i == 1 ? 399 : 299);
		ck_assert_uint_le(workers[i]->outstanding - model[i].since, _i == 1 ? 401 : 301);
	}
	end();
}
END_TEST

/* It connected at a busy time. Later all are idle: it is equal to them. */
START_TEST(what_a_newcomer_counted_for_goes_with_the_load)
{
	begin(0);
	balance.least = true;
	add_first(2);
	for (int i = 0; i < 40; i++)
		give();
	add(2);
	ck_assert_uint_eq(load_of(2), 20);
	for (int i = 0; i < 2; i++)
		settle(i, 20);
	check_levels();
	ck_assert_uint_eq(load_of(2), 0);
	ck_assert_uint_eq(load_of(0), 0);
	end();
}
END_TEST

/* No worker ever holds more than max_outstanding, and each gets to hold as many. */
START_TEST(max_outstanding_is_reached_and_not_exceeded)
{
	begin(0);
	balance.least = _i % 2;
	balance.max_outstanding = (uint64_t)_i / 2 + 1;
	for (int i = 0; i < WORKERS; i++)
		add(i);
	for (uint64_t i = 0; i < WORKERS * balance.max_outstanding; i++) {
		struct peer *worker = balance_next(&balance, 10);
		ck_assert_ptr_nonnull(worker);
		balance_given(&balance, worker);
	}
	ck_assert_ptr_null(balance_next(&balance, 10));
	for (int i = 0; i < WORKERS; i++)
		ck_assert_uint_eq(workers[i]->outstanding, balance.max_outstanding);
	memset(model, 0, sizeof(model));
	for (int i = 0; i < WORKERS; i++)
		model[i].joined = true;
	end();
}
END_TEST

UNIT_MAIN("balance", tcase_add_loop_test(tc, random_against_model, 0, 16),
	tcase_add_loop_test(tc, equal_workers_take_turns, 0, 3),
	tcase_add_test(tc, a_worker_that_hangs_gets_no_more),
	tcase_add_loop_test(tc, newcomers_do_not_get_all_one_way_traffic, 0, 3),
	tcase_add_test(tc, what_a_newcomer_counted_for_goes_with_the_load),
	tcase_add_loop_test(tc, max_outstanding_is_reached_and_not_exceeded, 0, 6))
