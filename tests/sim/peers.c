/* SPDX-License-Identifier: MIT */
/*
 * The peers: clients and workers of every type that is allowed, honest or not.
 * They know what they sent, and what may reach them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "broker/deliveries.h"
#include "broker/peer.h"
#include "broker/proxy.h"
#include "net/conn.h"
#include "sim.h"

enum { BYE_MS = 1000 }; /* a client that was told, and does not say BYE, is given up then */

struct peer_sim *peers;
static int peer_count;

static const char *
temper_name(enum temper t)
{
	static const char *const names[TEMPERS] = {
		"honest", "slow", "stopping", "dying", "cutting", "lying", "mute"};

	return names[t];
}

static const char *
describe(const struct peer_sim *p, char *out, size_t size)
{
	snprintf(out, size, "%s %d (%s, %s)", p->side == PROXY_FRONTEND ? "client" : "worker",
		p->number, p->type, temper_name(p->temper));
	return out;
}

static bool
is_live(const struct peer_sim *p)
{
	return p->sock != NULL && !p->sock->peer_closed;
}

unsigned
peers_live(int side)
{
	unsigned n = 0;

	for (struct peer_sim *p = peers; p != NULL; p = p->next)
		n += p->side == side && is_live(p);
	return n;
}

static void
wake_at(struct peer_sim *p, int64_t when)
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
		/* what somebody else has, or had a moment ago */
		p->id_len =
			(size_t)snprintf((char *)p->id, sizeof(p->id), "shared-%d", (int)rnd(2));
		for (other = peers; other != NULL; other = other->next)
			if (other != p && is_live(other) && other->id_len == p->id_len &&
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

/* Not drawn, so that runs without are what they were. */
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
		wake_at(p, p->leaves_at);
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
		p->hates_pings = true; /* it would answer that */
		p->wants = 0;
	}
	if (side == PROXY_FRONTEND)
		choose_id(p);
	if (world.flight && !world.healing) {
		p->kills = chance(200);
		p->forgets = temper != HONEST && chance(300) &&
			world.proxy_config.side[PROXY_BACKEND].opts.answer_timeout > 0;
	}
	choose_broker(p);
	p->next = peers;
	peers = p;
	trace("%s %s", describe(p, text, sizeof(text)), p->dialled ? "is dialled" : "connects");
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

static size_t
make_handshake(const struct peer_sim *p, uint8_t *out)
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
	size_t len = make_handshake(p, bytes);

	p->greeted = 1;
	if (p->temper == CUTS && p->ends_at <= world.now) {
		count_fault(FAULT_CUT);
		len = rnd(len);
		p->finished_writing = true;
		p->ends_at = world.now + between(1, 20000);
	}
	net_peer_write(p->sock, bytes, len);
}

/* --- lies ----------------------------------------------------------------- */

#define BYTES(text) net_peer_write(s, text, sizeof(text) - 1)

static void
lie_early(struct peer_sim *p)
{
	struct sock *s = p->sock;
	uint8_t bytes[1024];

	switch (rnd(8)) {
	case 0:
		BYTES("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
		return;
	case 1: /* ZMTP 2.0 */
		BYTES("\xff\0\0\0\0\0\0\0\1\x7f\1\5\0\0");
		return;
	case 2:
		make_handshake(p, bytes);
		memcpy(bytes + 12, "PLAIN", 5);
		net_peer_write(s, bytes, 64);
		return;
	case 3:
		make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\4\31\5READY\13Socket-Type\0\0\0\3PUB");
		return;
	case 4:
		make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\4\7\5READY\1"); /* a property without its name */
		return;
	case 5: /* an id that looks like one of ours */
		make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\4\50\5READY\13Socket-Type\0\0\0\3REQ\10Identity\0\0\0\2\0x");
		return;
	case 6: /* refused before it is one of us */
		make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\4\7\5ERROR\0");
		return;
	default: /* a message before READY */
		make_handshake(p, bytes);
		net_peer_write(s, bytes, 64);
		BYTES("\0\5hello");
	}
}

/* Each of these ends the connection before anything after it counts. */
static void
lie_late(struct peer_sim *p)
{
	struct sock *s = p->sock;
	const struct side_opts *o = &world.proxy_config.side[p->side].opts;
	uint64_t size = (uint64_t)o->max_message_size + 1;
	uint8_t header[9] = {2};

	switch (rnd(world.flight ? 6 : 7)) {
	case 0:
		BYTES("\2\xff\xff\xff\xff\xff\xff\xff\xff");
		break;
	case 1:
		for (int i = 0; i < 8; i++)
			header[1 + i] = (uint8_t)(size >> (56 - 8 * i));
		net_peer_write(s, header, 9);
		break;
	case 2:
		for (int64_t i = 0; i <= o->max_message_parts; i++)
			BYTES("\1\0");
		break;
	case 3:
		BYTES("\4\31\5READY\13Socket-Type\0\0\0\3REQ");
		break;
	case 4:
		BYTES("\4\5\4PING");
		break;
	case 5:
		BYTES("\4\7\5ERROR\0");
		break;
	default:
		s->fuzzy = world.babble = true;
		for (int i = 0; i < 50; i++) {
			uint8_t b = (uint8_t)rnd(256);
			net_peer_write(s, &b, 1);
		}
	}
}

static void
lie(struct peer_sim *p)
{
	char text[64];

	trace("%s breaks the protocol", describe(p, text, sizeof(text)));
	count_fault(FAULT_LIE);
	if (p->greeted == 0)
		lie_early(p);
	else
		lie_late(p);
	p->greeted = 1;
	p->finished_writing = true;
	p->ends_at = world.now + between(1, 60000); /* then it closes, if nobody else did */
}

/* --- ends ----------------------------------------------------------------- */

static void
leave(struct peer_sim *p)
{
	char text[64];

	describe(p, text, sizeof(text));
	switch (p->finished_writing ? rnd(2) : rnd(4)) {
	case 0:
		trace("%s closes", text);
		count_fault(FAULT_CLOSE);
		net_peer_close(p->sock);
		break;
	case 1:
		trace("%s resets", text);
		count_fault(FAULT_RESET);
		net_peer_reset(p->sock);
		break;
	case 2:
		trace("%s shuts its half", text);
		count_fault(FAULT_HALF_CLOSE);
		net_peer_shutdown(p->sock);
		p->finished_writing = true;
		p->ends_at = world.now + between(100, 60000);
		break;
	default:
		trace("%s vanishes", text);
		count_fault(FAULT_VANISH);
		net_peer_vanish(p->sock);
	}
}

static void
cut_message(struct peer_sim *p)
{
	char text[64];

	trace("%s stops inside a message", describe(p, text, sizeof(text)));
	count_fault(FAULT_CUT);
	p->finished_writing = true;
	p->ends_at = world.now + between(0, 120000);
	if (!p->ready && !p->eager)
		return;
	if (p->side == PROXY_FRONTEND)
		message_write(p->sock, message_request(p, false), 1 + rnd(300));
	else
		message_write(p->sock, message_bad_reply(p, 1), 1 + rnd(300));
}

static void
reach_end(struct peer_sim *p)
{
	char text[64];

	p->ends_at = CLOCK_NEVER;
	switch (p->temper) {
	case STOPS:
		trace("%s stops reading", describe(p, text, sizeof(text)));
		count_fault(FAULT_STOP_READING);
		p->stops_until = world.now + between(10, chance(500) ? 2000 : 120000);
		p->ends_at = p->stops_until + between(10, 20000);
		if (world.flight && chance(500)) {
			count_fault(FAULT_FROZEN);
			p->frozen_until = p->stops_until;
		}
		break;
	case MUTE:
		if (p->side == PROXY_FRONTEND) {
			trace("%s stops reading for good", describe(p, text, sizeof(text)));
			count_fault(FAULT_STOP_READING);
			p->stops_until = CLOCK_NEVER;
		}
		break;
	case CUTS:
		if (p->finished_writing)
			leave(p);
		else
			cut_message(p);
		break;
	case LIES:
		if (p->finished_writing)
			leave(p);
		else
			lie(p);
		break;
	default:
		leave(p);
	}
}

void
peer_heal(struct peer_sim *p, bool leaves)
{
	if (!is_live(p))
		return;
	p->leaves_at = CLOCK_NEVER;
	if (leaves || p->leave_end > 0 || p->finished_writing || p->forgot || p->temper == MUTE ||
		p->temper == CUTS || p->temper == LIES || p->temper == DIES) {
		leave(p);
		if (is_live(p))
			net_peer_close(p->sock);
		return;
	}
	p->temper = HONEST;
	p->hates_pings = false;
	p->ends_at = CLOCK_NEVER;
	p->stops_until = p->frozen_until = 0;
	p->pauses = chance(500) ? 0 : 600;
	p->wants = 0; /* from now on, probes alone */
	peer_wake(p);
}

/* --- traffic -------------------------------------------------------------- */

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
	wake_at(p, t->due);
}

/* The worker's program got a request. */
static void
handle_request(struct peer_sim *w, int index)
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
peer_probe(struct peer_sim *c)
{
	c->probed_at = world.now;
	c->probe_due = CLOCK_NEVER;
	message_write(c->sock, message_request(c, true), 0);
}

/* At once; beside hogs a while later, so that there is always somebody who may have to wait. */
static void
probe_again(struct peer_sim *c)
{
	if (!hogs_are_there()) {
		peer_probe(c);
		return;
	}
	c->probe_due = world.now + between(1, 1000);
	wake_at(c, c->probe_due);
}

static void
handle_reply(struct peer_sim *c, int index)
{
	struct sim_message *m = &messages[index];

	if (c->in_flight > 0)
		c->in_flight--;
	if (m->answers >= 0 && messages[m->answers].probe && messages[m->answers].from == c &&
		m->handled == 1 && c->probes > 0 && --c->probes > 0)
		probe_again(c);
}

/* A client, told that the daemon leaves: it asks no more, and says so. */
static void
say_bye(struct peer_sim *c)
{
	if (c->finished_writing)
		return;
	c->wants = 0;
	net_peer_write(c->sock, "\4\4\3BYE", 6);
	c->bye_end = c->sock->in.written;
}

/* A worker that is a broker says that it leaves, and goes when it has answered all before BYE. */
static void
go(struct peer_sim *w)
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
		say_bye(p);
		break;
	case MARK_BYE:
	case MARK_PONG:
	case MARK_ERROR:
		break;
	default:
		messages[what].handled++;
		detail("peer %d gets message %d", p->number, what);
		if (p->side == PROXY_BACKEND)
			handle_request(p, what);
		else
			handle_reply(p, what);
	}
}

static void
receive(struct peer_sim *p)
{
	struct sock *s = p->sock;
	size_t n = SIZE_MAX;

	if (world.now < p->stops_until) {
		if (p->stops_until != CLOCK_NEVER)
			wake_at(p, p->stops_until);
		return;
	}
	if (p->temper == SLOW && !world.healing) {
		n = 1 + rnd(3000);
		if (s->out.arrived > s->out.read)
			wake_at(p, world.now + between(1, 400));
	}
	net_peer_read(s, n);
	while (s->handled < s->sent.count && s->sent.at[s->handled].end <= s->out.read &&
		!s->peer_closed)
		handle_unit(p, s->sent.at[s->handled++].message);
}

static bool
same_id(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/*
 * Replies overtake each other: where two requests look alike, the wrong one is taken as answered.
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

static void
send_replies(struct peer_sim *w)
{
	bool in_order = strcmp(w->type, "REP") == 0;

	for (unsigned i = 0; i < w->todo_count;) {
		struct todo t = w->todo[i];
		if (t.due > world.now) {
			wake_at(w, t.due);
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

static void
send_requests(struct peer_sim *c)
{
	int request;

	while (c->wants > 0 && c->in_flight < c->window) {
		c->wants--;
		c->in_flight++;
		request = message_request(c, false);
		messages[request].kills = c->kills && chance(50);
		message_write(c->sock, request, 0);
		if (chance(c->pauses)) {
			wake_at(c, world.now + between(1, chance(100) ? 2000 : 40));
			return;
		}
	}
}

void
peer_step(struct peer_sim *p)
{
	struct sock *s = p->sock;

	p->wake = CLOCK_NEVER;
	if (s->peer_closed)
		return;
	if (world.now < p->frozen_until) {
		wake_at(p, p->frozen_until);
		return;
	}
	if (s->daemon_closed &&
		(s->reset || (s->out.fin_arrived && s->out.arrived == s->out.read))) {
		s->peer_closed = true;
		return;
	}
	if (p->greeted == 0 && p->temper == LIES && p->ends_at <= world.now)
		lie(p);
	else if (p->greeted == 0)
		greet(p);
	if (s->reset)
		return;
	receive(p);
	if (s->peer_closed)
		return;
	if (s->out.fin_arrived && s->out.arrived == s->out.read && p->temper == HONEST &&
		(!world.stopping || (world.farewell && p->side == PROXY_FRONTEND))) {
		net_peer_close(s); /* the daemon shut its half: nothing more will come */
		return;
	}
	if (s->out.fin_arrived && s->out.arrived == s->out.read && chance(700)) {
		net_peer_close(s);
		return;
	}
	if (!p->finished_writing && (p->ready || p->eager)) {
		if (p->side == PROXY_BACKEND)
			send_replies(p);
		else
			send_requests(p);
	}
	if (p->side == PROXY_BACKEND && p->leaves_at != CLOCK_NEVER) {
		if (p->leaves_at > world.now)
			wake_at(p, p->leaves_at);
		go(p);
		if (s->peer_closed)
			return;
	}
	if (p->probes > 0 && p->probe_due <= world.now)
		peer_probe(p);
	else if (p->probes > 0)
		wake_at(p, p->probe_due);
	if (p->ends_at <= world.now)
		reach_end(p);
	if (is_live(p) && p->ends_at != CLOCK_NEVER)
		wake_at(p, p->ends_at);
}

/* --- what may reach whom -------------------------------------------------- */

/* The first frame that has a body tells. */
int
message_identify(const uint8_t *p, size_t len)
{
	for (size_t at = 0; at + 2 <= len;) {
		uint64_t n = p[at + 1];
		size_t header = 2;

		if (p[at] & 2) {
			if (at + 9 > len)
				break;
			header = 9;
			n = 0;
			for (int i = 1; i < 9; i++)
				n = n << 8 | p[at + (size_t)i];
		}
		const uint8_t *b = p + at + header;
		if (n >= 8 && at + header + 8 <= len && memcmp(b, "\xb5SIM", 4) == 0)
			return (int)((uint32_t)b[4] << 24 | (uint32_t)b[5] << 16 |
				(uint32_t)b[6] << 8 | b[7]);
		at += header + (size_t)n;
	}
	return -1;
}

static void
check_order(struct peer_sim *to, const struct sim_message *m, bool may_differ)
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

/* A made-up id is learnt from the first request that carries it, and is nobody else's. */
static void
learn_id(struct peer_sim *client, const uint8_t *id, size_t len)
{
	if (client->seen_id_len == 0) {
		memcpy(client->seen_id, id, len);
		client->seen_id_len = len;
		if (client->id_len == 0 && (len != 5 || id[0] != 0))
			violation("peer %d got a routing id of %zu bytes", client->number, len);
		if (client->id_len == 0)
			for (struct peer_sim *p = peers; p != NULL; p = p->next)
				if (p != client && same_id(p->seen_id, p->seen_id_len, id, len) &&
					is_live(p))
					violation("peers %d and %d have one routing id", p->number,
						client->number);
	}
	if (!same_id(client->seen_id, client->seen_id_len, id, len) ||
		(client->id_len > 0 && !same_id(client->id, client->id_len, id, len)))
		violation("a request of peer %d carries another routing id", client->number);
}

/* How often one request may be delivered, and how many requests one worker may hold. */
static void
check_deliveries(const struct peer_sim *w, int index)
{
	const struct side_opts *o = &world.proxy_config.side[PROXY_BACKEND].opts;
	const struct sim_message *m = &messages[index];
	const struct sock *s = w->sock;

	if (m->delivered > 1 && !o->redeliver)
		violation("request %d is delivered a second time, to worker %d", index, w->number);
	/* where a worker holds one at a time, that one is always to blame */
	if (m->delivered > (unsigned)o->redeliver_limit * (o->max_outstanding == 1 ? 1 : 10))
		violation("request %d is delivered %u times", index, m->delivered);
	if (o->max_outstanding > 0 && o->answer_timeout == 0 && strcmp(w->type, "REP") != 0 &&
		s->messages_out + 1 > s->accepted + (uint64_t)o->max_outstanding)
		violation("worker %d holds more than max_outstanding requests", w->number);
}

static void
check_request(struct peer_sim *w, const uint8_t *p, size_t len, int index)
{
	struct sim_message *m = &messages[index];
	size_t id_frame = 2 + (size_t)p[1];
	struct proxy *proxy = world_proxy();

	if (m->kind != REQUEST)
		violation("worker %d gets a reply", w->number);
	if (w->dismissed)
		violation("worker %d leaves, has its BYE, and gets request %d", w->number, index);
	if ((p[0] & 3) != 1)
		violation("worker %d gets a request without a routing id in front", w->number);
	learn_id(m->from, p + 2, p[1]);
	if (len - id_frame != m->len || memcmp(p + id_frame, m->bytes, m->len) != 0)
		violation("worker %d gets request %d with other bytes than were sent", w->number,
			index);
	if (!m->accepted)
		violation("worker %d gets request %d before its last byte was read", w->number,
			index);
	if (message_is_answerable(m))
		w->sock->answerable_out++;
	else if (strcmp(w->type, "REP") == 0)
		m->thrown = true;
	check_deliveries(w, index);
	check_order(w, m,
		m->delivered > 1 ||
			proxy->counters[PROXY_BACKEND].rerouted +
					proxy->counters[PROXY_BACKEND].redelivered >
				m->moved_before);
}

static bool
shares_id(const struct peer_sim *p)
{
	return p->id_len > 0 && memcmp(p->id, "shared", 6) == 0;
}

/* With redeliver: one reply for each request. Without a request id, they all look alike. */
static void
check_answer(struct peer_sim *c, const struct sim_message *m)
{
	struct sim_message *q;

	if (m->answers < 0 || !world.proxy_config.side[PROXY_BACKEND].opts.redeliver)
		return;
	q = &messages[m->answers];
	q->replies++;
	c->replies++;
	if (shares_id(c))
		return; /* a reply may count as one to its predecessor */
	if (q->replies > 1 && q->from->request_id)
		violation("client %d gets a second reply to request %d", c->number, m->answers);
	if (c->replies > c->asked)
		violation("client %d gets a reply more than it sent requests", c->number);
}

uint64_t
peers_lost(void)
{
	const struct counters *c = world_proxy()->counters;

	return counters_dropped(&c[PROXY_FRONTEND]) + counters_dropped(&c[PROXY_BACKEND]) -
		c[PROXY_BACKEND].dropped[DROP_SHUTDOWN];
}

/*
 * Without redeliver a suspect's oldest request is given up for a trial: its reply passes if it
 * comes, and nobody waits for it.
 */
static uint64_t
given_up(const struct proxy *proxy, const struct peer_sim *c)
{
	uint64_t count = 0;

	if (proxy->opts[PROXY_BACKEND].redeliver)
		return 0;
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		const struct peer *worker = list_entry(node, struct conn, node)->peer;
		const struct list *lapsed =
			worker != NULL && worker->ledger != NULL ? &worker->ledger->expired : NULL;

		for (const struct list *n = lapsed; n != NULL && n->next != lapsed; n = n->next) {
			const struct request *r =
				list_entry(n->next, struct delivery, node)->request;
			size_t len;
			const uint8_t *id = request_client(r, &len);

			count += !r->answered && !r->outstanding &&
				same_id(id, len, c->seen_id, c->seen_id_len);
		}
	}
	return count;
}

/*
 * A client that drains without a fault is closed after the last of its replies: every request that
 * had reached our kernel by then has one, except those that were dropped and counted because they
 * came too late.
 */
void
peer_check_farewell(const struct sock *s)
{
	const struct proxy *proxy = world_proxy();
	const struct conn *conn = check_conn(s->fd);
	uint64_t asked = 0, answered = given_up(proxy, s->peer), late = conn->dropped;
	size_t until = s->in.arrived;

	if (s->peer->told_at != 0 && proxy->draining && !proxy->stopping) {
		if (s->in.read < s->peer->bye_end || s->peer->bye_end == 0) {
			if (world.now - s->peer->told_at < BYE_MS - 100)
				violation("client %d is sent away before its BYE", s->peer->number);
		} else {
			late = 0; /* nothing of it is, wherever it may be */
			until = SIZE_MAX;
		}
	}
	if (!proxy->opts[PROXY_BACKEND].replies)
		return; /* nobody is expected to answer */
	if (!world.farewell || !proxy->draining || proxy->stopping || s->reset || s->in.fin ||
		peers_lost() != world.farewell_drops)
		return;
	if (conn->part_since < ((const struct peer *)conn->peer)->accept_until)
		violation("client %d is sent away in the middle of a request", s->peer->number);
	for (size_t i = 0; i < s->received.count && s->received.at[i].end <= until; i++) {
		int index = s->received.at[i].message;
		if (index < world.farewell_from || messages[index].kind != REQUEST)
			continue;
		asked++;
		/* where requests look alike, a second reply to one may pass for that to another */
		answered += messages[index].answered_times;
		/*
		 * what a REP throws away is waited for by nobody, and neither is what is on its way
		 * to one
		 */
		answered += messages[index].answered_times == 0 &&
			(messages[index].thrown ||
				(messages[index].delivered == 0 &&
					!message_is_answerable(&messages[index])));
	}
	if (asked > answered + late)
		violation("client %d is sent away, and %llu of its requests have no reply",
			s->peer->number, (unsigned long long)(asked - answered - late));
}

static void
check_reply(struct peer_sim *c, const uint8_t *p, size_t len, int index)
{
	struct sim_message *m = &messages[index];
	const uint8_t *id = c->id_len > 0 ? c->id : c->seen_id;
	size_t id_len = c->id_len > 0 ? c->id_len : c->seen_id_len;
	bool known = id_len > 0;

	if (m->kind != REPLY)
		violation("client %d gets a request", c->number);
	if (m->too_big)
		violation("client %d gets reply %d, which is over a limit", c->number, index);
	if (m->envelope == 0 || m->len - m->envelope != len ||
		memcmp(p, m->bytes + m->envelope, len) != 0)
		violation("client %d gets reply %d with other bytes than were sent", c->number,
			index);
	if (known && !same_id(id, id_len, m->bytes + 2, m->bytes[1]))
		violation(
			"client %d gets reply %d, which is addressed to another", c->number, index);
	if (!known && m->answers >= 0)
		violation("client %d gets reply %d, though it asked nothing", c->number, index);
	if (!m->accepted)
		violation(
			"client %d gets reply %d before its last byte was read", c->number, index);
	if (m->delivered > 1)
		violation("reply %d is delivered a second time, to client %d", index, c->number);
	check_order(c, m, false);
	if (m->answers >= 0)
		messages[m->answers].answered_times++;
	check_answer(c, m);
}

/* Is there a drop that was counted and may have been this request, or the reply to it? */
static bool
may_be_dropped(const struct sim_message *m)
{
	const struct counters *c = world_proxy()->counters, *backend = &c[PROXY_BACKEND];
	uint64_t limit = (uint64_t)world.proxy_config.side[PROXY_BACKEND].opts.redeliver_limit;

	return backend->dropped[DROP_QUEUE_FULL] > 0 ||
		(backend->dropped[DROP_UNDELIVERABLE] > 0 &&
			m->delivered + backend->poisoned >= limit) ||
		(c[PROXY_FRONTEND].dropped[DROP_QUEUE_FULL] +
					c[PROXY_FRONTEND].dropped[DROP_TOO_BIG] >
				0 &&
			m->replied) ||
		m->thrown || (backend->dropped[DROP_MALFORMED] > 0 && !message_is_answerable(m));
}

static void
check_client(const struct peer_sim *c)
{
	const struct counters *front = &world_proxy()->counters[PROXY_FRONTEND];
	uint64_t dropped = 0;

	/* whose reply was dropped, when nobody knows which request one answers? */
	if (world.muddled && !c->request_id)
		dropped = front->dropped[DROP_QUEUE_FULL] + front->dropped[DROP_TOO_BIG];
	for (int i = 0; i < message_count; i++) {
		const struct sim_message *m = &messages[i];

		if (m->kind != REQUEST || m->from != c || !m->accepted)
			continue;
		if (may_be_dropped(m))
			dropped++;
		else if (c->request_id && m->replies == 0)
			violation("request %d of client %d, which stayed, has no reply", i,
				c->number);
	}
	if (c->asked > c->replies + dropped)
		violation(
			"client %d stayed, sent %u requests and got %u replies; %llu may have been "
			"dropped",
			c->number, c->asked, c->replies, (unsigned long long)dropped);
}

void
peers_check_answers(void)
{
	const struct side_opts *o = &world.proxy_config.side[PROXY_BACKEND].opts;
	const struct counters *c = world_proxy()->counters;
	uint64_t deserved = 0;

	if (!o->redeliver)
		return;
	for (const struct peer_sim *p = peers; p != NULL; p = p->next)
		if (p->side == PROXY_FRONTEND && is_live(p) && !p->sock->daemon_closed &&
			!shares_id(p))
			check_client(p);
	for (int i = 0; i < message_count; i++)
		deserved += messages[i].delivered >= o->redeliver_limit;
	if (c[PROXY_BACKEND].dropped[DROP_UNDELIVERABLE] > deserved + c[PROXY_BACKEND].poisoned)
		violation("%llu requests were dropped as undeliverable, and %llu of them were "
			  "delivered "
			  "often enough",
			(unsigned long long)c[PROXY_BACKEND].dropped[DROP_UNDELIVERABLE],
			(unsigned long long)deserved);
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
		check_request(s->peer, frames, len, index);
	else
		check_reply(s->peer, frames, len, index);
	marks_add(&s->sent, end, index);
}
