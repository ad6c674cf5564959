/* SPDX-License-Identifier: MIT */
/*
 * Queue mode: the requests that workers have, by the broker's ledgers and by the messages seen.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../recount.h"
#include "base/clock.h"
#include "base/mem.h"
#include "broker/deliveries.h"
#include "check.h"
#include "net/conn.h"
#include "peers.h"
#include "queue_mode.h"
#include "sim.h"

/* All requests that the daemon knows, each once. */
struct known {
	const struct request **at;
	size_t count, cap;
	uint64_t deliveries; /* beyond the first of each */
};

static void
add_known(struct known *k, const struct request *r)
{
	if (k->count == k->cap) {
		k->cap = k->cap * 2 + 64;
		k->at = mem_resize(k->at, k->cap * sizeof(struct request *));
	}
	k->at[k->count++] = r;
}

static void
add_deliveries(struct known *k, const struct list *head)
{
	for (const struct list *n = head->next; n != head; n = n->next) {
		const struct delivery *d = list_entry(n, struct delivery, node);
		add_known(k, d->request);
		k->deliveries += d != &d->request->first;
	}
}

static int
by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (struct request *const *)a,
		  y = (uintptr_t) * (struct request *const *)b;

	return (x > y) - (x < y);
}

/* Requests that count as the worker's, and are not in its queue any more. */
static uint64_t
cut_of(const struct peer *worker)
{
	return worker->ledger != NULL ? worker->ledger->cut : 0;
}

/* Requests that a REP never answers do not count; with replies = no, none does. */
void
queue_check_outstanding(const struct proxy *p)
{
	uint64_t sum = 0, silent = 0;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *worker = conn->peer;
		const struct sock *s = conn->fd >= 0 ? net_find(conn->fd) : NULL;

		sum += worker != NULL ? worker->outstanding : 0;
		silent += worker != NULL && worker->silent;
		if (worker == NULL || s == NULL || s->peer == NULL || s->peer->temper != HONEST ||
			s->peer->muddled || s->peer->babbles || strcmp(s->peer->type, "REP") != 0 ||
			world.babble)
			continue;
		if (worker->outstanding + s->accepted >
			s->answerable_out + conn->out.messages + cut_of(worker))
			violation("worker %llu, a REP, is waited for with %llu requests, and can "
				  "answer %llu",
				check_id(conn), (unsigned long long)worker->outstanding,
				(unsigned long long)(s->answerable_out + conn->out.messages -
					s->accepted));
	}
	if (silent != p->counters[PROXY_BACKEND].silent)
		violation("%llu workers are silent, the gauge says %llu",
			(unsigned long long)silent,
			(unsigned long long)p->counters[PROXY_BACKEND].silent);
	if (p->counters[PROXY_BACKEND].outstanding > 0 &&
		p->opts[PROXY_BACKEND].queue.silent_after > 0 &&
		p->silence_timer.due == CLOCK_NEVER)
		violation("requests are outstanding, and silence of workers is not checked");
	if (!p->opts[PROXY_BACKEND].queue.replies &&
		(sum > 0 || p->counters[PROXY_BACKEND].outstanding > 0))
		violation("%llu requests are outstanding, though no replies are expected",
			(unsigned long long)sum);
}

/* Does `from` send its requests with this id in front? */
static bool
has_id(const struct peer_sim *from, const struct peer *client)
{
	size_t len = peer_id_len(client);

	return from->seen_id_len == len && memcmp(from->seen_id, peer_id(client), len) == 0;
}

/*
 * In peace the broker waits for no more replies to a client than there are unanswered requests of
 * it, or of a client with the same id; and with tracking, for none.
 */
static void
check_asking(const struct proxy *p)
{
	list_each(node, tmp, &p->side[PROXY_FRONTEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *client = conn->peer;
		uint64_t open = 0;

		if (client == NULL || !client->routed || world.memory_faults || world.babble)
			continue;
		for (int i = 0; !world.flight && i < message_count; i++) {
			const struct sim_message *m = &messages[i];
			open += m->kind == REQUEST && m->accepted && !m->thrown &&
				m->answered_times == 0 && has_id(m->from, client);
		}
		if (client->outstanding > open)
			violation("client %llu waits for %llu replies, and %llu may come",
				check_id(conn), (unsigned long long)client->outstanding,
				(unsigned long long)open);
	}
}

static void
check_worker(const struct proxy *p, const struct conn *conn)
{
	const struct proxy_opts *o = &p->opts[PROXY_BACKEND];
	const struct peer *worker = conn->peer;

	if (o->queue.max_outstanding > 0 &&
		worker->outstanding > (uint64_t)o->queue.max_outstanding)
		violation("worker %llu holds %llu requests, over max_outstanding", check_id(conn),
			(unsigned long long)worker->outstanding);
	if (o->queue.answer_timeout == 0 || !conn_is_open(conn))
		return;
	if (ledger_oldest(worker->ledger) != NULL && worker->ledger->timer.due == CLOCK_NEVER)
		violation("worker %llu holds requests without a limit", check_id(conn));
	if (worker->suspect && !worker->trial && worker->ledger->trial.due == CLOCK_NEVER &&
		worker->ledger->timer.due == CLOCK_NEVER)
		violation("worker %llu is suspect, and no timer will change that", check_id(conn));
	if (worker->suspect && worker->ledger->trial.due != CLOCK_NEVER &&
		worker->ledger->trial.due > world.now + 60000 + LATE_MS)
		violation("worker %llu waits more than a minute for a trial", check_id(conn));
	if (worker->suspect && conn->state == CONN_READY && !conn_is_blocked(conn) &&
		!conn_is_broken(conn) && ledger_oldest(worker->ledger) == NULL &&
		list_empty(&worker->ledger->expired) &&
		!list_linked(&conn->task.node)) /* its flush clears that, in the next turn */
		violation("worker %llu is suspect, and has nothing to answer", check_id(conn));
}

static struct known
know_all(const struct proxy *p)
{
	struct known k = {0};
	size_t n = 0;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *peer = conn->peer;

		if (peer == NULL || peer->ledger == NULL)
			continue;
		check_worker(p, conn);
		add_deliveries(&k, &peer->ledger->pending);
		add_deliveries(&k, &peer->ledger->expired);
	}
	for (const struct list *l = p->deliveries.requeued.next; l != &p->deliveries.requeued;
		l = l->next)
		add_known(&k, list_entry(l, struct request, node));
	if (k.count > 0)
		qsort(k.at, k.count, sizeof(struct request *), by_address);
	for (size_t i = 0; i < k.count; i++)
		if (n == 0 || k.at[n - 1] != k.at[i])
			k.at[n++] = k.at[i];
	k.count = n;
	return k;
}

/* A request that waits for another worker must be unanswered. */
static void
check_again(const struct request *r)
{
	struct message m = {r->bytes, r->size, r->size, NULL, NULL};
	uint8_t buf[600];
	size_t len;
	const uint8_t *front;
	int index;

	if (r->answered)
		violation("a request that was answered waits to be delivered again");
	if (!request_is_kept(r))
		violation("a request waits to be delivered again, and its bytes are gone");
	if (!r->whole)
		m = outq_as_message(r->kept);
	front = message_front(&m, buf, sizeof(buf), &len);
	index = message_identify(front, len);
	if (index < 0 || index >= message_count)
		violation("a message that nobody sent waits to be delivered again");
	if (messages[index].answered && !world.memory_faults)
		violation("request %d waits to be delivered again, and its reply was read", index);
}

/* Requeueing in slices continues, and newer requests wait until it is done. */
static void
check_returns(const struct proxy *p)
{
	const struct deliveries *f = &p->deliveries;
	uint32_t returns = 0;

	list_each(node, tmp, &p->side[PROXY_BACKEND].conns) {
		const struct conn *conn = list_entry(node, struct conn, node);
		const struct peer *worker = conn->peer;

		if (worker == NULL || !worker->returning)
			continue;
		returns++;
		if (conn->state != CONN_CLOSED && !list_linked(&worker->ledger->node))
			violation("worker %llu waits, and none of its requests is to be requeued",
				check_id(conn));
		if (conn->state != CONN_CLOSED && list_linked(&worker->ready))
			violation("worker %llu is assigned requests while others are requeued",
				check_id(conn));
	}
	if (returns != f->returns)
		violation("requests of %u workers are being requeued, the count is %u",
			(unsigned)returns, (unsigned)f->returns);
	if (!list_empty(&f->returning) && !list_linked(&p->return_task.node))
		violation("requests are to be requeued, and no task continues that");
	if (f->sweep != NULL && !list_linked(&p->serve_task.node))
		violation("requests of disconnected clients are swept, and no task continues that");
	if (f->returns > 0 && !p->tracking && p->rerouted == NULL)
		violation("requests are requeued, and newer ones do not wait");
}

/* Returns the bytes of everything about requests in flight, except the chunks. */
uint64_t
queue_check_inflight(const struct proxy *p, struct recount *chunks)
{
	const struct counters *c = &p->counters[PROXY_BACKEND];
	struct known k = know_all(p);
	uint64_t bytes = k.deliveries * sizeof(struct delivery), outstanding = 0, kept = 0;

	check_returns(p);
	for (size_t i = 0; i < k.count; i++) {
		const struct request *r = k.at[i];
		bytes += sizeof(*r) + r->room;
		if (r->kept != NULL) {
			kept += r->kept->bytes;
			recount_queue(chunks, r->kept);
		}
		outstanding += r->outstanding;
		if (r->outstanding && r->answered)
			violation("an answered request is outstanding");
		if (r->waiting)
			check_again(r);
	}
	free(k.at);
	if (bytes + kept != c->kept_bytes)
		violation("requests in flight take %llu bytes, kept_bytes says %llu",
			(unsigned long long)(bytes + kept), (unsigned long long)c->kept_bytes);
	if (world.flight && outstanding != c->outstanding)
		violation("%llu requests are outstanding, the gauge says %llu",
			(unsigned long long)outstanding, (unsigned long long)c->outstanding);
	world.redelivered = c->redelivered;
	world.undeliverable = c->dropped[DROP_UNDELIVERABLE];
	world.late = p->counters[PROXY_FRONTEND].dropped[DROP_LATE_REPLY];
	return bytes;
}

void
queue_check_peace(const struct proxy *p)
{
	if (world.flight && p->counters[PROXY_BACKEND].outstanding != 0)
		violation("%" PRIu64 " requests still unanswered in peace",
			p->counters[PROXY_BACKEND].outstanding);
	if (p->counters[PROXY_BACKEND].suspects != 0)
		violation("%" PRIu64 " workers still suspect in peace",
			p->counters[PROXY_BACKEND].suspects);
	check_asking(p);
	queue_check_answers();
}
