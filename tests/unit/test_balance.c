/*
 * Who has the next request, against a model that looks at every worker each time.
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
	uint64_t since; /* when it took its place among those with as many requests */
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

/* Levels go up, none is empty, and each has as its workers those with as many requests. */
static void
check_levels(void)
{
	uint64_t before = 0, count = 0, expected = 0;
	bool first = true;

	list_each(node, tmp, &balance.levels)
	{
		struct level *level = list_entry(node, struct level, node);
		ck_assert(first || level->count > before);
		ck_assert(!list_empty(&level->workers));
		list_each(w, next, &level->workers)
		{
			struct peer *worker = list_entry(w, struct peer, ready);
			ck_assert(worker->level == level && worker->outstanding == level->count);
			count++;
		}
		before = level->count;
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

/* The one before all others: by requests, if they count, then by who waits longest. */
static int
best_of_model(void)
{
	int best = -1;

	for (int i = 0; i < WORKERS; i++) {
		if (!may_have_one(i))
			continue;
		if (best < 0 ||
			(balance.least && workers[i]->outstanding != workers[best]->outstanding
					? workers[i]->outstanding < workers[best]->outstanding
					: model[i].since < model[best].since))
			best = i;
	}
	return best;
}

/* Those that were passed over left: they have to be added again. */
static void
those_passed_over(int chosen)
{
	for (int i = 0; i < WORKERS; i++) {
		bool before = chosen < 0 ||
			(balance.least && workers[i]->outstanding != workers[chosen]->outstanding
					? workers[i]->outstanding < workers[chosen]->outstanding
					: model[i].since < model[chosen].since);
		if (model[i].in && before && !may_have_one(i))
			model[i].in = false;
	}
}

static void
choose(void)
{
	int expected = best_of_model();
	struct peer *got = balance_next_tracked(&balance, 10);

	those_passed_over(expected);
	if (expected < 0) {
		ck_assert_ptr_null(got);
		return;
	}
	ck_assert(got == workers[expected]);
	model[expected].since = ++turn;
	got->outstanding++;
	balance_changed(&balance, got);
}

static void
add(int i)
{
	if (!model[i].joined) {
		ck_assert(balance_join(&balance));
		model[i].joined = true;
	}
	if (!model[i].in)
		model[i].since = ++turn;
	model[i].in = true;
	balance_add(&balance, workers[i]);
}

static void
set_outstanding(int i, uint64_t count)
{
	if (workers[i]->outstanding == count)
		return;
	workers[i]->outstanding = count;
	balance_changed(&balance, workers[i]);
	if (balance.least)
		model[i].since = ++turn;
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
	case 2: /* many at once: closed, or given up on */
		set_outstanding(i, rnd(8) == 0 ? rnd(200) : 0);
		break;
	case 3:
		workers[i]->suspect = rnd(3) == 0;
		break;
	case 4:
		conns[i].state = rnd(3) == 0 ? CONN_STALLED : CONN_READY;
		break;
	case 5: case 6: case 7: /* an answer */
		if (workers[i]->outstanding > 0)
			set_outstanding(i, workers[i]->outstanding - 1);
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
	for (int i = 0; i < STEPS; i++) {
		one_step();
		if (balance.least)
			check_levels();
	}
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
		struct peer *worker = balance_next_tracked(&balance, 10);
		ck_assert_ptr_nonnull(worker);
		worker->outstanding++;
		balance_changed(&balance, worker);
	}
	ck_assert_ptr_null(balance_next_tracked(&balance, 10));
	for (int i = 0; i < WORKERS; i++)
		ck_assert_uint_eq(workers[i]->outstanding, balance.max_outstanding);
	memset(model, 0, sizeof(model));
	for (int i = 0; i < WORKERS; i++)
		model[i].joined = true;
	end();
}
END_TEST

UNIT_MAIN("balance", tcase_add_loop_test(tc, random_against_model, 0, 16),
	tcase_add_loop_test(tc, max_outstanding_is_reached_and_not_exceeded, 0, 6))
