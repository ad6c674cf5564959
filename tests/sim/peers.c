/* SPDX-License-Identifier: MIT */
/*
 * The peers: clients and workers of every type that is allowed, honest or not; how they connect,
 * shake hands, read, and what is checked of every message that reaches them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "broker/deliveries.h"
#include "broker/peer.h"
#include "broker/proxy.h"
#include "check.h"
#include "net/conn.h"
#include "peers.h"
#include "queue_mode.h"
#include "sim.h"

struct peer_sim *peers;
static int peer_count;

static const char *
temper_name(enum temper t)
{
	static const char *const names[TEMPERS] = {
		"honest", "slow", "stopping", "dying", "cutting", "lying", "mute"};

	return names[t];
}

const char *
peer_describe(const struct peer_sim *p, char *out, size_t size)
{
	snprintf(out, size, "%s %d (%s, %s)", p->side == PROXY_FRONTEND ? "client" : "worker",
		p->number, p->type, temper_name(p->temper));
	return out;
}

bool
peer_is_live(const struct peer_sim *p)
{
	return p->sock != NULL && !p->sock->peer_closed;
}

unsigned
peers_live(int side)
{
	unsigned n = 0;

	for (struct peer_sim *p = peers; p != NULL; p = p->next)
		n += p->side == side && peer_is_live(p);
	return n;
}

void
peer_wake_at(struct peer_sim *p, int64_t when)
{
	if (when <= world.now)
		when = world.now + 1;
	if (when < p->wake)
		p->wake = when;
}

/* --- birth ---------------------------------------------------------------- */

static void
choose_id(struct peer_sim *p)
{
	const struct peer_sim *other;

	if (p->temper != HONEST && !world.healing && chance(600)) {
		/* an id that another peer has, or had a moment ago */
		p->id_len =
			(size_t)snprintf((char *)p->id, sizeof(p->id), "shared-%d", (int)rnd(2));
		for (other = peers; other != NULL; other = other->next)
			if (other != p && peer_is_live(other) && other->id_len == p->id_len &&
				memcmp(other->id, p->id, p->id_len) == 0) {
				count_fault(FAULT_TAKEOVER);
				break;
			}
	} else if (chance(500)) {
		p->id_len = (size_t)snprintf((char *)p->id, sizeof(p->id), "peer-%d", p->number);
		if (chance(100)) {
			memset(p->id + p->id_len, '.', 255 - p->id_len);
			p->id_len = 255;
		}
	}
}

static void
choose_end(struct peer_sim *p)
{
	p->ends_at = CLOCK_NEVER;
	if (p->temper == HONEST || p->temper == SLOW)
		return;
	p->ends_at = world.now + (chance(200) ? 0 : between(0, chance(500) ? 500 : 60000));
}

/* Not drawn, so that other runs stay the same. */
static void
choose_broker(struct peer_sim *p)
{
	uint64_t z = (world.seed * 64 + (uint64_t)p->number) * 0x9e3779b97f4a7c15u;

	p->leaves_at = CLOCK_NEVER;
	if (!world.brokers || z >> 63 == 0 || p->temper == LIES || p->temper == CUTS)
		return;
	p->broker = true;
	if (p->side == PROXY_BACKEND && !world.healing && z >> 62 & 1) {
		p->leaves_at = world.now + (int64_t)(z >> 40 & 0xfff);
		peer_wake_at(p, p->leaves_at);
	}
}

static struct peer_sim *
newcomer(int side, enum temper temper, struct sock *s)
{
	static const char *const types[PROXY_SIDES][3] = {
		{"REQ", "DEALER", "ROUTER"}, {"REP", "DEALER", "ROUTER"}};
	struct peer_sim *p = mem_new(sizeof(*p));
	char text[64];

	p->number = ++peer_count;
	p->side = side;
	p->temper = temper;
	p->type = types[side][rnd(3)];
	p->sock = s;
	s->peer = p;
	p->minor = (unsigned)rnd(2);
	p->eager = chance(300);
	p->pongs = temper == HONEST || temper == SLOW || temper == STOPS || chance(800);
	p->delimiter = strcmp(p->type, "REQ") == 0 || chance(600);
	p->request_id = p->delimiter && chance(300);
	p->window = chance(300) ? 1 : (unsigned)between(1, 30);
	p->pauses = chance(500) ? 0 : 600;
	p->wants = world.healing ? 0 : (unsigned)between(0, chance(200) ? 200 : 40);
	p->wake = world.now;
	p->probe_due = CLOCK_NEVER;
	choose_end(p);
	if (s->host == 3 && p->minor > 0 && side == PROXY_FRONTEND && !world.healing) {
		p->hates_pings = true; /* a request would be sent before the PING */
		p->wants = 0;
	}
	if (side == PROXY_FRONTEND)
		choose_id(p);
	if (world.flight && !world.healing) {
		p->kills = chance(200);
		p->forgets = temper != HONEST && chance(300) &&
			world.proxy_config.side[PROXY_BACKEND].opts.queue.answer_timeout > 0;
	}
	choose_broker(p);
	p->next = peers;
	peers = p;
	trace("%s %s", peer_describe(p, text, sizeof(text)),
		p->dialled ? "is dialled" : "connects");
	return p;
}

struct peer_sim *
peer_connect(int side, enum temper temper)
{
	struct sock *s = net_connect(side);

	return s != NULL ? newcomer(side, temper, s) : NULL;
}

void
peer_accept(struct sock *s)
{
	enum temper temper = world.healing || chance(500) ? HONEST : (enum temper)rnd(TEMPERS);
	struct peer_sim *p = newcomer(s->side, temper, s);

	p->dialled = true;
}

void
peers_free(void)
{
	while (peers != NULL) {
		struct peer_sim *p = peers;
		peers = p->next;
		free(p->todo);
		free(p->order);
		free(p);
	}
	peer_count = 0;
}

void
peer_wake(struct peer_sim *p)
{
	if (p != NULL && p->wake > world.now)
		p->wake = world.now;
}

/* --- handshake ------------------------------------------------------------ */

static void
put_property(uint8_t *out, size_t *len, const char *name, const void *value, size_t n)
{
	out[(*len)++] = (uint8_t)strlen(name);
	memcpy(out + *len, name, strlen(name));
	*len += strlen(name);
	memset(out + *len, 0, 3);
	out[*len + 3] = (uint8_t)n;
	if (n > 0)
		memcpy(out + *len + 4, value, n);
	*len += 4 + n;
}

size_t
peer_make_handshake(const struct peer_sim *p, uint8_t *out)
{
	size_t len = 0;
	uint8_t body[600];

	memset(out, 0, 64);
	out[0] = 0xff;
	out[8] = (uint8_t)rnd(256);
	out[9] = 0x7f;
	out[10] = 3;
	out[11] = (uint8_t)p->minor;
	memcpy(out + 12, "NULL", 4);
	memcpy(body, "\5READY", 6);
	len = 6;
	put_property(
		body, &len, chance(900) ? "Socket-Type" : "socket-TYPE", p->type, strlen(p->type));
	if (p->id_len > 0 || chance(500))
		put_property(body, &len, "Identity", p->id, p->id_len);
	if (chance(100))
		put_property(body, &len, "X-Something", "value", 5);
	if (p->broker && p->side == PROXY_FRONTEND)
		put_property(body, &len, "X-Bulkhead-Draining", "1", 1);
	if (len > 255) {
		out[64] = 6;
		memset(out + 65, 0, 6);
		out[71] = (uint8_t)(len >> 8);
		out[72] = (uint8_t)len;
		memcpy(out + 73, body, len);
		return 73 + len;
	}
	out[64] = 4;
	out[65] = (uint8_t)len;
	memcpy(out + 66, body, len);
	return 66 + len;
}

static void
greet(struct peer_sim *p)
{
	uint8_t bytes[1024];
	size_t len = peer_make_handshake(p, bytes);

	p->greeted = 1;
	if (p->temper == CUTS && p->ends_at <= world.now) {
		count_fault(FAULT_CUT);
		len = rnd(len);
		p->finished_writing = true;
		p->ends_at = world.now + between(1, 20000);
	}
	net_peer_write(p->sock, bytes, len);
}

/* --- life ----------------------------------------------------------------- */

void
peer_heal(struct peer_sim *p, bool leaves)
{
	if (!peer_is_live(p))
		return;
	p->leaves_at = CLOCK_NEVER;
	if (leaves || p->leave_end > 0 || p->finished_writing || p->forgot || p->temper == MUTE ||
		p->temper == CUTS || p->temper == LIES || p->temper == DIES) {
		peer_leave(p);
		if (peer_is_live(p))
			net_peer_close(p->sock);
		return;
	}
	p->temper = HONEST;
	p->hates_pings = false;
	p->ends_at = CLOCK_NEVER;
	p->stops_until = p->frozen_until = 0;
	p->pauses = chance(500) ? 0 : 600;
	p->wants = 0; /* from now on, only probes */
	peer_wake(p);
}

static void
handle_unit(struct peer_sim *p, int what)
{
	switch (what) {
	case MARK_READY:
		p->ready = true;
		break;
	case MARK_PING:
		if (p->hates_pings && !p->finished_writing) {
			count_fault(FAULT_HATED);
			p->hated = true;
			net_peer_close(p->sock);
			return;
		}
		if (p->pongs && !p->finished_writing)
			net_peer_write(p->sock, "\4\5\4PONG", 7);
		break;
	case MARK_DRAINING:
		queue_say_bye(p);
		break;
	case MARK_BYE:
	case MARK_PONG:
	case MARK_ERROR:
		break;
	default:
		messages[what].handled++;
		detail("peer %d gets message %d", p->number, what);
		if (p->side == PROXY_BACKEND)
			queue_on_request(p, what);
		else
			queue_on_reply(p, what);
	}
}

static void
receive(struct peer_sim *p)
{
	struct sock *s = p->sock;
	size_t n = SIZE_MAX;

	if (world.now < p->stops_until) {
		if (p->stops_until != CLOCK_NEVER)
			peer_wake_at(p, p->stops_until);
		return;
	}
	if (p->temper == SLOW && !world.healing) {
		n = 1 + rnd(3000);
		if (s->out.arrived > s->out.read)
			peer_wake_at(p, world.now + between(1, 400));
	}
	net_peer_read(s, n);
	while (s->handled < s->sent.count && s->sent.at[s->handled].end <= s->out.read &&
		!s->peer_closed)
		handle_unit(p, s->sent.at[s->handled++].message);
}

void
peer_step(struct peer_sim *p)
{
	struct sock *s = p->sock;

	p->wake = CLOCK_NEVER;
	if (s->peer_closed)
		return;
	if (world.now < p->frozen_until) {
		peer_wake_at(p, p->frozen_until);
		return;
	}
	if (s->daemon_closed &&
		(s->reset || (s->out.fin_arrived && s->out.arrived == s->out.read))) {
		s->peer_closed = true;
		return;
	}
	if (p->greeted == 0 && p->temper == LIES && p->ends_at <= world.now)
		peer_lie(p);
	else if (p->greeted == 0)
		greet(p);
	if (s->reset)
		return;
	receive(p);
	if (s->peer_closed)
		return;
	if (s->out.fin_arrived && s->out.arrived == s->out.read && p->temper == HONEST &&
		(!world.stopping || (world.farewell && p->side == PROXY_FRONTEND))) {
		net_peer_close(s); /* the daemon shut its half: no more will come */
		return;
	}
	if (s->out.fin_arrived && s->out.arrived == s->out.read && chance(700)) {
		net_peer_close(s);
		return;
	}
	if (!p->finished_writing && (p->ready || p->eager)) {
		if (p->side == PROXY_BACKEND)
			queue_send_replies(p);
		else
			queue_send_requests(p);
	}
	if (p->side == PROXY_BACKEND && p->leaves_at != CLOCK_NEVER) {
		if (p->leaves_at > world.now)
			peer_wake_at(p, p->leaves_at);
		queue_drain_worker(p);
		if (s->peer_closed)
			return;
	}
	if (p->probes > 0 && p->probe_due <= world.now)
		queue_probe(p);
	else if (p->probes > 0)
		peer_wake_at(p, p->probe_due);
	if (p->ends_at <= world.now)
		peer_reach_end(p);
	if (peer_is_live(p) && p->ends_at != CLOCK_NEVER)
		peer_wake_at(p, p->ends_at);
}

/* --- what reaches them ---------------------------------------------------- */

void
peer_check_order(struct peer_sim *to, const struct sim_message *m, bool may_differ)
{
	unsigned i = 0;

	while (i < to->order_count && to->order[i].from != m->from->number)
		i++;
	if (i == to->order_count) {
		to->order = mem_resize(to->order, (i + 1) * sizeof(*to->order));
		to->order[i].from = m->from->number;
		to->order[i].last = 0;
		to->order_count++;
	}
	if (m->number <= to->order[i].last && !may_differ)
		violation("order: message %u of peer %d reaches peer %d after its message %lld",
			m->number, m->from->number, to->number, (long long)to->order[i].last);
	if (m->number > to->order[i].last)
		to->order[i].last = m->number;
}

void
peer_check_delivery(struct sock *s, const uint8_t *frames, size_t len, size_t end)
{
	int index = message_identify(frames, len);

	if (index < 0 && s->side == PROXY_BACKEND && world.babble) {
		/* random bytes of a liar can be a message of their own */
		world.anonymous++;
		return;
	}
	if (index < 0 || index >= message_count)
		violation("a message that nobody sent");
	messages[index].delivered++;
	detail("%s %d is sent to peer %d", messages[index].kind == REQUEST ? "request" : "reply",
		index, s->peer->number);
	if (s->peer->side == PROXY_BACKEND)
		queue_check_request(s->peer, frames, len, index);
	else
		queue_check_reply(s->peer, frames, len, index);
	marks_add(&s->sent, end, index);
}
