/* SPDX-License-Identifier: MIT */
/*
 * memory_limit: which peers wait for memory, and for how long.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "check.h"
#include "net/conn.h"
#include "sim.h"

enum {
	PAUSE_MS = 200,  /* longer than between two checks of the memory limit */
	GIVING_MS = 500, /* a closed connection has freed its memory by then */
	CHECK_MS = 20    /* between two checks when memory is short, as in memory.c */
};

/* Below the limit no peer waits for memory that does not get free by itself. */
static void
check_pause(const struct proxy *p, bool paused)
{
	static uint64_t used;
	static int64_t since;
	const struct mem_account *m = &p->loop->env.memory;

	if (world.steps <= 2 || !paused || m->used != used || proxy_is_draining(p) || p->paused ||
		mem_account_over(m)) {
		used = m->used;
		since = world.now;
	}
	if (net_timers_ran_at() - since > PAUSE_MS && !world.freezes)
		violation("reading is paused for %lld ms, below memory_limit, and nothing moves",
			(long long)(net_timers_ran_at() - since));
}

/*
 * Large messages under way are held back on a side, and nothing else. Returns their bytes, with
 * those of peers that drain. Chunks may be larger by half of that. *giving: a closed connection
 * frees its memory in slices; whether that is enough is known afterwards.
 */
static uint64_t
check_held(const struct side *side, bool *giving)
{
	uint64_t held = 0;

	for (const struct list *n = side->conns.next; n != &side->conns; n = n->next) {
		const struct conn *conn = list_entry(n, struct conn, node);
		bool large = side->holds && conn_is_open(conn) &&
			outq_cost(&conn->part) > side->hold_above;

		if (((conn->paused & CONN_LARGE) != 0) != large && conn->state < CONN_LINGER)
			violation("peer %llu is %sheld back, with %llu bytes under way",
				check_id(conn), conn->paused & CONN_LARGE ? "" : "not ",
				(unsigned long long)outq_cost(&conn->part));
		held += large || conn->state >= CONN_LINGER ? outq_cost(&conn->part) : 0;
		*giving |= conn->state == CONN_CLOSED;
	}
	return held;
}

static uint64_t
closed_so_far(const struct proxy *p)
{
	uint64_t closed = 0;

	for (int i = 0; i < PROXY_SIDES; i++)
		for (int reason = 0; reason < CLOSE_REASON_COUNT; reason++)
			closed += p->counters[i].closed_by[reason];
	return closed;
}

/*
 * Over the limit the broker checks memory repeatedly; far over it, the side that feeds the fullest
 * queues is not read, unless they hold little beside what is held back. Small replies pass for
 * longer, while requests are rationed.
 */
void
check_memory(const struct proxy *p)
{
	const struct broker *b = p->loop->on_turn_arg;
	const struct mem_account *m = &p->loop->env.memory;
	bool paused = p->side[PROXY_FRONTEND].read_paused || p->side[PROXY_BACKEND].read_paused;
	bool holds = p->side[PROXY_FRONTEND].holds || p->side[PROXY_BACKEND].holds;
	bool rationed = p->ration.few && m->used <= m->limit + m->limit / 4, giving = false;
	static uint64_t closed;
	static int64_t not_giving; /* when no closed connection had memory left */
	/* ... when one was freed; the next check sees how much that gained */
	static int64_t closed_at;
	uint64_t held = check_held(&p->side[PROXY_FRONTEND], &giving) +
		check_held(&p->side[PROXY_BACKEND], &giving);

	if (!giving || world.steps <= 2 || not_giving > world.now)
		not_giving = world.now;
	if (closed != closed_so_far(p) || world.steps <= 2)
		closed_at = world.now;
	closed = closed_so_far(p);
	giving = (giving && net_timers_ran_at() - not_giving <= GIVING_MS) ||
		net_timers_ran_at() - closed_at <= CHECK_MS;
	if (world.steps == 1)
		return; /* before the first turn's end */
	if (mem_account_over(m) && !b->memory.watched)
		violation("%llu bytes are queued, over memory_limit, and nothing is done",
			(unsigned long long)m->used);
	if (mem_account_far_over(m) && m->used > held + held / 2 + m->limit / 8 && !paused &&
		!rationed && !giving)
		violation("%llu bytes are queued, far over memory_limit, and reading continues",
			(unsigned long long)m->used);
	if (b->memory.watched && net_timer_due(&b->memory.timer) == CLOCK_NEVER)
		violation("memory_limit was reached, and memory is not checked again");
	if ((holds || p->ration.on || (paused && !proxy_is_draining(p))) && !b->memory.watched)
		violation("reading is paused for no reason");
	check_pause(p, paused || holds);
}
