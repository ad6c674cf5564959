/* SPDX-License-Identifier: MIT */
/*
 * Queue mode: what clients and workers send, and what they do with what they get.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "peers.h"
#include "queue_mode.h"
#include "sim.h"

static void
add_todo(struct peer_sim *p, int request, const uint8_t *id, size_t id_len)
{
	struct todo *t;

	if (p->todo_count == p->todo_cap) {
		p->todo_cap = p->todo_cap * 2 + 8;
		p->todo = mem_resize(p->todo, p->todo_cap * sizeof(*p->todo));
	}
	t = &p->todo[p->todo_count++];
	t->due = world.now + (chance(700) ? 0 : between(1, 200));
	t->request = request;
	t->id_len = id_len;
	memcpy(t->id, id, id_len);
	peer_wake_at(p, t->due);
}

/* The worker's program got a request. */
void
queue_on_request(struct peer_sim *w, int index)
{
	struct sim_message *m = &messages[index];
	const struct peer_sim *client = m->from;

	if (w->temper == MUTE && !m->probe)
		return;
	if (m->kills && !world.healing) {
		trace("worker %d dies of request %d", w->number, index);
		count_fault(FAULT_KILLER);
		if (chance(500))
			net_peer_close(w->sock);
		else
			net_peer_reset(w->sock);
		return;
	}
	if (w->forgets && !world.healing && chance(100)) {
		count_fault(FAULT_FORGOTTEN);
		w->forgot = w->muddled = world.muddled = true;
		return;
	}
	if (m->thrown && strcmp(w->type, "REP") == 0) {
		count_fault(FAULT_THROWN);
		return;
	}
	add_todo(w, index, client->seen_id, client->seen_id_len);
}

void
queue_probe(struct peer_sim *c)
{
	c->probed_at = world.now;
	c->probe_due = CLOCK_NEVER;
	message_write(c->sock, message_request(c, true), 0);
}

/* At once; beside hogs a while later, so that there is always a client that may have to wait. */
static void
probe_again(struct peer_sim *c)
{
	if (!hogs_are_there()) {
		queue_probe(c);
		return;
	}
	c->probe_due = world.now + between(1, 1000);
	peer_wake_at(c, c->probe_due);
}

void
queue_on_reply(struct peer_sim *c, int index)
{
	struct sim_message *m = &messages[index];

	if (c->in_flight > 0)
		c->in_flight--;
	if (m->answers >= 0 && messages[m->answers].probe && messages[m->answers].from == c &&
		m->handled == 1 && c->probes > 0 && --c->probes > 0)
		probe_again(c);
}

/* A client got DRAINING: it sends no more requests, and answers BYE. */
void
queue_say_bye(struct peer_sim *c)
{
	if (c->finished_writing)
		return;
	c->wants = 0;
	net_peer_write(c->sock, "\4\4\3BYE", 6);
	c->bye_end = c->sock->in.written;
}

/* A worker that is a broker says that it leaves, and goes when it has answered all before BYE. */
void
queue_drain_worker(struct peer_sim *w)
{
	struct sock *s = w->sock;

	if (w->finished_writing || !w->ready)
		return;
	if (w->leave_end == 0 && world.now >= w->leaves_at) {
		count_fault(FAULT_LEAVES);
		trace("worker %d says that it leaves", w->number);
		net_peer_write(s, "\4\11\10DRAINING", 11);
		w->leave_end = s->in.written;
	}
	if (w->leave_end > 0 && w->dismissed && w->todo_count == 0 && s->handled == s->sent.count &&
		s->out.read == s->out.written) {
		trace("worker %d is done", w->number);
		net_peer_close(s);
	}
}

/*
 * Does a reply overtake another? If two requests look alike, the wrong one is taken as answered.
 */
static bool
overtakes(const struct peer_sim *w, unsigned i)
{
	const struct todo *t = &w->todo[i];

	while (i-- > 0)
		if (same_id(w->todo[i].id, w->todo[i].id_len, t->id, t->id_len))
			return true;
	return false;
}

void
queue_send_replies(struct peer_sim *w)
{
	bool in_order = strcmp(w->type, "REP") == 0;

	for (unsigned i = 0; i < w->todo_count;) {
		struct todo t = w->todo[i];
		if (t.due > world.now) {
			peer_wake_at(w, t.due);
			if (in_order)
				return;
			i++;
			continue;
		}
		w->muddled |= overtakes(w, i);
		world.muddled |= w->muddled;
		memmove(&w->todo[i], &w->todo[i + 1], (--w->todo_count - i) * sizeof(t));
		message_write(w->sock, message_reply(w, t.request, t.id, t.id_len), 0);
		if (w->temper != HONEST && !world.healing && chance(30)) {
			count_fault(FAULT_BAD_REPLY);
			w->babbles = true;
			message_write(w->sock, message_bad_reply(w, (unsigned)rnd(4)), 0);
		}
		if (w->temper != HONEST && !world.healing && chance(world.flight ? 100 : 20)) {
			count_fault(FAULT_TWICE);
			w->muddled = world.muddled = true;
			message_write(w->sock, message_reply(w, t.request, t.id, t.id_len), 0);
		}
	}
}

void
queue_send_requests(struct peer_sim *c)
{
	int request;

	while (c->wants > 0 && c->in_flight < c->window) {
		c->wants--;
		c->in_flight++;
		request = message_request(c, false);
		messages[request].kills = c->kills && chance(50);
		message_write(c->sock, request, 0);
		if (chance(c->pauses)) {
			peer_wake_at(c, world.now + between(1, chance(100) ? 2000 : 40));
			return;
		}
	}
}
