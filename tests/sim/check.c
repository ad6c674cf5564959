/* SPDX-License-Identifier: MIT */
/*
 * The invariants after every turn of the loop, seen from inside and from
 * outside: the two views are counted apart and compared.
 */
#include <stdio.h>

#include "../recount.h"
#include "base/mem.h"
#include "broker/backlog.h"
#include "broker/peer.h"
#include "check.h"
#include "net/conn.h"
#include "queue_mode.h"
#include "sim.h"

/* Counts of connections that were freed. */
static struct totals {
	uint64_t in, out;           /* messages, as the daemon counted them */
	uint64_t seen_in, seen_out; /* ... and as they were seen to pass */
	uint64_t bytes_in, bytes_out;
	bool fuzzy;
} gone[PROXY_SIDES];

static void
add_totals(struct totals *t, const struct sock *s, const struct conn *conn)
{
	t->in += conn->messages_in;
	t->out += conn->messages_out;
	t->seen_in += s->accepted;
	t->seen_out += s->messages_out;
	t->bytes_in += conn->bytes_in;
	t->bytes_out += conn->bytes_out;
	t->fuzzy |= s->fuzzy;
}

void
check_count_gone(const struct sock *s, const struct conn *conn)
{
	add_totals(&gone[s->side], s, conn);
}

void
check_reset(void)
{
	for (int i = 0; i < PROXY_SIDES; i++)
		gone[i] = (struct totals){0};
	check_closing_reset();
	check_conn_reset();
	queue_balance_reset();
}

void
check_print(void)
{
	static const char *const states[CONN_STATES] = {
		"connecting", "handshake", "ready", "stalled", "linger", "closed"};
	struct proxy *p = world_proxy();

	for (int i = 0; p != NULL && i < PROXY_SIDES; i++) {
		printf("%s: received=%llu sent=%llu queued=%llu rerouted=%llu%s%s\n",
			p->side[i].name, (unsigned long long)p->counters[i].received,
			(unsigned long long)p->counters[i].sent,
			(unsigned long long)p->counters[i].queued,
			(unsigned long long)p->counters[i].rerouted,
			p->side[i].read_paused ? ", not read" : "",
			i == PROXY_BACKEND && p->rerouted != NULL ? ", some wait to be rerouted"
								  : "");
		list_each(node, tmp, &p->side[i].conns) {
			const struct conn *c = list_entry(node, struct conn, node);
			const struct peer *peer = c->peer;
			const struct backlog *s = peer != NULL ? peer->backlog : NULL;
			printf("  peer %llu %s: queue %u messages %llu bytes, unsent %llu, "
			       "part %llu, "
			       "waiting %u%s%s%s%s%s%s\n",
				(unsigned long long)c->id, states[c->state], c->out.messages,
				(unsigned long long)c->out.bytes, (unsigned long long)c->out.unsent,
				(unsigned long long)c->part.bytes,
				s != NULL ? s->queue.messages : 0,
				conn_is_blocked(c) ? ", blocked" : "", c->was_full ? ", full" : "",
				c->paused ? ", paused" : "", c->hung_up ? ", hung up" : "",
				conn_is_broken(c) ? ", write broken" : "",
				poison_midway(&c->guard) ? ", midway" : "");
		}
	}
}

/* Only connections in their handshake make room for others at a limit. */
static void
check_slots(const struct side *side)
{
	for (int i = 0; i < SLOTS_BUCKETS && side->slots.count > 0; i++) {
		const struct list *conns = &side->slots.buckets[i].conns;

		for (const struct list *n = conns->next; n != conns; n = n->next) {
			const struct conn *conn = list_entry(n, struct conn, shaking);
			if (conn->was_ready || conn->state == CONN_CLOSED)
				violation(
					"peer %llu has ended its handshake, and counts as one in it",
					check_id(conn));
		}
	}
}

static void
check_totals(const struct proxy *p, const struct totals *t)
{
	for (int i = 0; i < PROXY_SIDES; i++) {
		const struct counters *here = &p->counters[i], *there = &p->counters[!i];

		if (here->sent != t[i].out || t[i].out != t[i].seen_out)
			violation("%s: sent=%llu, connections %llu, seen %llu", p->side[i].name,
				(unsigned long long)here->sent, (unsigned long long)t[i].out,
				(unsigned long long)t[i].seen_out);
		if (there->received != t[i].in)
			violation("%s: received=%llu, connections %llu", p->side[!i].name,
				(unsigned long long)there->received, (unsigned long long)t[i].in);
		if (here->bytes_sent != t[i].bytes_out || here->bytes_received != t[i].bytes_in)
			violation("%s: bytes do not add up", p->side[i].name);
		if (here->accepted + here->connect_attempts < here->closed)
			violation("%s: more connections closed than opened", p->side[i].name);
	}
}

void
check_step(bool idle)
{
	struct proxy *p = world_proxy();
	struct totals totals[PROXY_SIDES] = {gone[0], gone[1]};
	struct recount chunks = {0};
	uint64_t memory, ready;
	const char *wrong;

	if (p == NULL)
		return;
	wrong = proxy_check(p);
	if (wrong != NULL)
		violation("%s", wrong);
	if (idle)
		strangers_check(p);
	rivals_check(p);
	hogs_check();
	check_room(p);
	for (int i = 0; i < PROXY_SIDES; i++) {
		check_slots(&p->side[i]);
		ready = 0;
		list_each(node, tmp, &p->side[i].conns) {
			const struct conn *conn = list_entry(node, struct conn, node);
			struct sock *s;

			if (conn->state == CONN_CLOSED && (idle || !list_linked(&conn->task.node)))
				violation("peer %llu is closed and not freed", check_id(conn));
			/* a connector without a descriptor, before the first turn */
			if (conn->fd < 0)
				continue;
			s = net_find(conn->fd);
			check_streams(conn, s);
			if (conn->state != CONN_CLOSED) {
				check_timers(conn);
				check_queue(conn);
			}
			if (idle)
				check_idle(conn, s);
			add_totals(&totals[i], s, conn);
			ready += conn->was_ready;
			recount_queue(&chunks, &conn->out);
			recount_queue(&chunks, &conn->part);
		}
		if (ready != p->counters[i].peers)
			violation("%s: peers=%llu, and there are %llu", p->side[i].name,
				(unsigned long long)p->counters[i].peers,
				(unsigned long long)ready);
	}
	queue_recount(p, &chunks);
	memory = queue_check_inflight(p, &chunks);
	memory += recount_end(&chunks);
	if (memory != p->loop->env.memory.used)
		violation("queues hold %llu bytes, the account says %llu",
			(unsigned long long)memory, (unsigned long long)p->loop->env.memory.used);
	check_totals(p, totals);
	check_memory(p);
	queue_check(p, idle);
}
