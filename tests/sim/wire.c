/* SPDX-License-Identifier: MIT */
/*
 * Messages, and a second decoder of ZMTP, of whole frames, which shares no
 * line with src/zmtp/, so that the same mistake is not made twice.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "check.h"
#include "peers.h"
#include "sim.h"

enum { MORE = 1, LONG = 2, COMMAND = 4, HEAD = 8 };

struct sim_message *messages;
int message_count;
static int message_cap;

void
marks_add(struct marks *m, size_t end, int message)
{
	if (m->count == m->cap) {
		m->cap = m->cap * 2 + 16;
		m->at = mem_resize(m->at, m->cap * sizeof(*m->at));
	}
	m->at[m->count++] = (struct mark){end, message};
}

/* --- building ------------------------------------------------------------- */

static int
message_new(enum message_kind kind, struct peer_sim *from)
{
	struct sim_message *m;

	if (message_count == message_cap) {
		message_cap = message_cap * 2 + 64;
		messages = mem_resize(messages, (size_t)message_cap * sizeof(*messages));
	}
	m = &messages[message_count];
	*m = (struct sim_message){.kind = kind, .from = from, .answers = -1};
	m->number = ++from->next_number;
	return message_count++;
}

/*
 * A frame's header into out[9]; in the long form if necessary or asked for. Returns its size.
 */
static size_t
frame_header(uint8_t *out, unsigned flags, uint64_t len, bool long_form)
{
	long_form |= len > 255;
	out[0] = (uint8_t)(flags | (long_form ? LONG : 0));
	out[1] = (uint8_t)len;
	for (int i = 0; long_form && i < 8; i++)
		out[1 + i] = (uint8_t)(len >> (56 - 8 * i));
	return long_form ? 9 : 2;
}

/* Append a frame in its shortest form. */
static void
add_frame(int index, const void *data, size_t len, bool more)
{
	struct sim_message *m = &messages[index];
	uint8_t header[9];
	size_t n = frame_header(header, more ? MORE : 0, len, false);

	m->bytes = mem_resize(m->bytes, m->len + n + len);
	memcpy(m->bytes + m->len, header, n);
	if (len > 0)
		memcpy(m->bytes + m->len + n, data, len);
	m->len += n + len;
	m->body += len;
	m->parts++;
}

/* The frames of the body; the first identifies the message. */
static void
add_body(int index, size_t room, unsigned parts_max)
{
	unsigned parts = chance(700) ? 1 : (unsigned)between(1, 4);
	size_t size = chance(800) ? rnd(100) : chance(800) ? rnd(5000) : rnd(room);
	uint8_t *data;

	if (size > room - HEAD)
		size = room - HEAD;
	if (chance(30) && parts_max > 8)
		parts = (unsigned)between(1, parts_max - 4);
	if (parts > parts_max)
		parts = parts_max > 0 ? parts_max : 1;
	data = mem_new(size + HEAD);
	memcpy(data, "\xb5SIM", 4);
	for (int i = 0; i < 4; i++)
		data[4 + i] = (uint8_t)(index >> (24 - 8 * i));
	for (size_t i = HEAD; i < size + HEAD; i++)
		data[i] = (uint8_t)((size_t)index * 31 + i * 7);
	for (unsigned i = 0; i < parts; i++) {
		/* most bytes in one of them, the others small or empty */
		size_t n = i == 0 ? HEAD + (parts == 1 ? size : size / 2)
			: i == 1  ? size - size / 2
				  : rnd(2) * 3;
		size_t from = i == 0 ? 0 : i == 1 ? HEAD + size / 2 : 0;
		if (i > 1 && messages[index].body + n > room)
			n = 0;
		add_frame(index, data + from, n, i + 1 < parts);
	}
	free(data);
}

static const struct side_opts *
opts_of(const struct peer_sim *p)
{
	return &world.proxy_config.side[p->side].opts.side;
}

int
message_request(struct peer_sim *c, bool probe)
{
	int index = message_new(REQUEST, c);
	uint8_t id[4] = {
		(uint8_t)rnd(256), (uint8_t)rnd(256), (uint8_t)rnd(256), (uint8_t)rnd(256)};

	messages[index].probe = probe;
	if (c->request_id)
		add_frame(index, id, 4, true);
	if (c->delimiter || probe) /* a REP may get it, and must answer a probe */
		add_frame(index, NULL, 0, true);
	/*
	 * The reply begins with the routing id. A request without a delimiter must not contain an
	 * empty frame either: with tracking, that would be taken for one.
	 */
	add_body(index, (size_t)opts_of(c)->max_message_size - 300,
		world.flight && !c->delimiter ? 1 : (unsigned)opts_of(c)->max_message_parts - 3);
	return index;
}

bool
message_is_answerable(const struct sim_message *m)
{
	for (size_t at = 0; at + 2 <= m->len;) {
		bool more = m->bytes[at] & 1, large = m->bytes[at] & 2;
		uint64_t n = 0;

		for (size_t i = 1; i < (large ? 9u : 2u); i++)
			n = n << 8 | m->bytes[at + i];
		if (n == 0 && more)
			return true;
		at += (large ? 9u : 2u) + (size_t)n;
	}
	return false;
}

enum edge { NO_EDGE, SIZE_FITS, SIZE_OVER, PARTS_FIT, PARTS_OVER };

/* Which replies are as large as a limit, or larger: not drawn, so that all other things stay. */
static enum edge
edge_of(int reply, int request)
{
	uint64_t z = (world.seed << 20 ^ (uint64_t)reply) * 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 31) * 0xbf58476d1ce4e5b9u;
	if (messages[request].probe || z >> 58 > 1)
		return NO_EDGE;
	return SIZE_FITS + (enum edge)(z >> 50 & 3);
}

/* The routing id, of `id_len` bytes, is not counted. */
static void
add_edge(int index, const struct side_opts *o, size_t id_len, enum edge edge)
{
	struct sim_message *m = &messages[index];
	size_t size = (size_t)o->max_message_size + (edge == SIZE_OVER) - (m->body - id_len) - HEAD;
	unsigned parts = (unsigned)o->max_message_parts + 1 + (edge == PARTS_OVER) - m->parts - 1;
	uint8_t head[HEAD] = {0xb5, 'S', 'I', 'M'};
	uint8_t *data;

	m->too_big = edge == SIZE_OVER || edge == PARTS_OVER;
	for (int i = 0; i < 4; i++)
		head[4 + i] = (uint8_t)(index >> (24 - 8 * i));
	add_frame(index, head, HEAD, true);
	if (edge == PARTS_FIT || edge == PARTS_OVER) {
		while (parts > 0)
			add_frame(index, "p", 1, --parts > 0);
		return;
	}
	data = mem_new(size);
	add_frame(index, data, size, false);
	free(data);
}

int
message_reply(struct peer_sim *w, int request, const uint8_t *id, size_t id_len)
{
	int index = message_new(REPLY, w);
	const struct peer_sim *client = messages[request].from;
	const struct sim_message *q = &messages[request];
	enum edge edge = edge_of(index, request);

	messages[index].answers = request;
	add_frame(index, id, id_len, true);
	messages[index].envelope = messages[index].len;
	if (client->request_id)
		add_frame(index, q->bytes + 2, 4, true);
	if (client->delimiter || messages[request].probe)
		add_frame(index, NULL, 0, true);
	if (edge != NO_EDGE) {
		add_edge(index, opts_of(w), id_len, edge);
		return index;
	}
	add_body(index, (size_t)opts_of(w)->max_message_size - 600,
		(unsigned)opts_of(w)->max_message_parts - 4);
	return index;
}

int
message_bad_reply(struct peer_sim *w, unsigned kind)
{
	int index = message_new(REPLY, w);
	uint8_t id[300];

	memset(id, 'x', sizeof(id));
	if (kind == 1) { /* an id that no client has */
		id[0] = 0;
		for (int i = 1; i < 5; i++)
			id[i] = (uint8_t)rnd(256);
		add_frame(index, id, 5, true);
	} else if (kind == 2) { /* no routing id is that long */
		add_frame(index, id, 290, true);
	} else if (kind == 3) { /* an empty one */
		add_frame(index, id, 0, true);
	}
	messages[index].envelope = messages[index].len;
	add_body(index, (size_t)opts_of(w)->max_message_size - 600, kind == 0 ? 1 : 3);
	return index;
}

void
messages_free(void)
{
	for (int i = 0; i < message_count; i++)
		free(messages[i].bytes);
	free(messages);
	messages = NULL;
	message_count = message_cap = 0;
}

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

/* --- writing -------------------------------------------------------------- */

struct buffer {
	uint8_t *p;
	size_t len, cap;
};

static void
put(struct buffer *b, const void *data, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = (b->len + len) * 2;
		b->p = mem_resize(b->p, b->cap);
	}
	if (len > 0)
		memcpy(b->p + b->len, data, len);
	b->len += len;
}

/* A command, which is allowed anywhere, also between the frames of a message. */
static void
put_command(struct buffer *b)
{
	static const struct {
		const char *p;
		uint8_t len;
	} commands[] = {{"\4PING\0\0", 7}, {"\4PING\0\0some context...", 22}, {"\4PONG", 5},
		{"\6CANCELxy", 9}, {"\11SUBSCRIBE", 10}, {"\5OTHERwhat", 10}, {"", 0},
		{"\377broken", 7}};
	unsigned k = (unsigned)rnd(8);
	uint8_t header[2] = {COMMAND, commands[k].len};

	put(b, header, 2);
	put(b, commands[k].p, commands[k].len);
}

static size_t
canonical_header(const uint8_t *p, uint64_t *length)
{
	*length = p[1];
	if (!(p[0] & LONG))
		return 2;
	*length = 0;
	for (int i = 0; i < 8; i++)
		*length = *length << 8 | p[1 + i];
	return 9;
}

static void
put_frame(struct buffer *b, uint8_t more, const uint8_t *data, uint64_t length)
{
	uint8_t header[9];
	unsigned reserved = chance(20) ? 0x08u << rnd(5) : 0; /* such bits are ignored */

	put(b, header, frame_header(header, more | reserved, length, chance(50)));
	put(b, data, (size_t)length);
}

/*
 * In some runs clients that send requests until the end are in the middle of one now and then. Not
 * drawn.
 */
static void
halt_half_way(struct sock *s, int index, size_t len)
{
	uint64_t z = (world.seed << 20 ^ (uint64_t)index) * 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 31) * 0xbf58476d1ce4e5b9u;
	if (!world.halves || !world.farewell || messages[index].kind != REQUEST || z >> 62 != 0 ||
		world.now < s->in.halt_until)
		return;
	count_fault(FAULT_HALVES);
	net_peer_halt(s, len / 2, world.now + 1 + (int64_t)(z >> 40 & 0xff));
}

void
message_write(struct sock *s, int index, size_t cut)
{
	const struct sim_message *m = &messages[index];
	struct buffer b = {0};
	uint64_t length;

	for (size_t at = 0; at < m->len;) {
		size_t header = canonical_header(m->bytes + at, &length);
		put_frame(&b, m->bytes[at] & MORE, m->bytes + at + header, length);
		at += header + (size_t)length;
		if (at < m->len && chance(20))
			put_command(&b);
	}
	if (cut > 0) {
		b.len = cut < b.len ? cut : b.len - 1;
	} else {
		marks_add(&s->received, s->in.written + b.len, index);
		halt_half_way(s, index, b.len);
	}
	net_peer_write(s, b.p, b.len);
	free(b.p);
	b = (struct buffer){0};
	if (cut == 0 && chance(30)) {
		put_command(&b);
		net_peer_write(s, b.p, b.len);
		free(b.p);
	}
}

/* --- reading what the daemon sends ---------------------------------------- */

struct decoder {
	size_t pos; /* units up to here are complete */
	bool greeted, handshaken, over;
	struct buffer message; /* canonical frames of the message under way */
	bool in_message;
};

struct decoder *
decoder_new(void)
{
	return mem_new(sizeof(struct decoder));
}

void
decoder_free(struct decoder *d)
{
	free(d->message.p);
	free(d);
}

static bool
read_greeting(struct sock *s)
{
	static const uint8_t expected[64] = {
		0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1, 'N', 'U', 'L', 'L'};
	size_t n = s->out.written < 64 ? s->out.written : 64;

	for (size_t i = 0; i < n; i++)
		if (s->out.bytes[i] != expected[i] && (i < 1 || i > 8))
			violation("byte %zu of the greeting that peer %d gets is %02x", i,
				s->peer != NULL ? s->peer->number : 0, s->out.bytes[i]);
	if (n < 64)
		return false;
	s->decoder->pos = 64;
	s->decoder->greeted = true;
	return true;
}

static void
on_command(struct sock *s, const uint8_t *p, uint64_t len)
{
	struct decoder *d = s->decoder;

	if (d->in_message)
		violation("a command inside a message");
	if (len >= 6 && memcmp(p, "\5READY", 6) == 0 && !d->handshaken) {
		d->handshaken = true;
		marks_add(&s->sent, d->pos, MARK_READY);
	} else if (len >= 6 && memcmp(p, "\5ERROR", 6) == 0 && s->messages_out == 0) {
		d->over = true;
		marks_add(&s->sent, d->pos, MARK_ERROR);
	} else if (len == 7 && memcmp(p, "\4PING", 5) == 0 && d->handshaken) {
		if (s->peer != NULL && s->peer->minor == 0)
			violation("peer %d of ZMTP 3.0 gets a PING", s->peer->number);
		marks_add(&s->sent, d->pos, MARK_PING);
		check_ping(s);
	} else if (len >= 5 && len <= 21 && memcmp(p, "\4PONG", 5) == 0 && d->handshaken) {
		marks_add(&s->sent, d->pos, MARK_PONG);
	} else if (len == 9 && memcmp(p, "\10DRAINING", 9) == 0 && d->handshaken) {
		marks_add(&s->sent, d->pos, MARK_DRAINING);
		check_draining(s);
	} else if (len == 4 && memcmp(p, "\3BYE", 4) == 0 && d->handshaken) {
		marks_add(&s->sent, d->pos, MARK_BYE);
		check_bye(s);
	} else {
		violation("a command of %llu bytes that nobody expects here",
			(unsigned long long)len);
	}
}

static void
on_frame(struct sock *s, uint8_t flags, const uint8_t *p, uint64_t len)
{
	struct decoder *d = s->decoder;
	uint8_t header[9];

	if (!d->handshaken)
		violation("a message before READY");
	put(&d->message, header, frame_header(header, flags & MORE, len, false));
	put(&d->message, p, (size_t)len);
	d->in_message = (flags & MORE) != 0;
	if (d->in_message)
		return;
	peer_check_delivery(s, d->message.p, d->message.len, d->pos);
	s->messages_out++;
	d->message.len = 0;
}

void
decoder_run(struct sock *s)
{
	struct decoder *d = s->decoder;
	uint64_t length;

	if (!d->greeted && !read_greeting(s))
		return;
	for (;;) {
		const uint8_t *p = s->out.bytes + d->pos;
		size_t left = s->out.written - d->pos, header;

		if (d->over && left > 0)
			violation("bytes after ERROR");
		if (left < 2 || ((p[0] & LONG) && left < 9))
			return;
		if (p[0] & ~(MORE | LONG | COMMAND) ||
			(p[0] & (COMMAND | MORE)) == (COMMAND | MORE))
			violation("flags %02x at offset %zu of what a peer gets", p[0], d->pos);
		header = canonical_header(p, &length);
		if (length > (64 << 20))
			violation("a frame of %llu bytes at offset %zu", (unsigned long long)length,
				d->pos);
		if (left - header < length)
			return;
		d->pos += header + (size_t)length;
		if (p[0] & COMMAND)
			on_command(s, p + header, length);
		else
			on_frame(s, p[0], p + header, length);
	}
}

bool
decoder_is_midway(const struct decoder *d)
{
	return d->in_message;
}
