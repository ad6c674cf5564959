/* SPDX-License-Identifier: MIT */
/*
 * player - the clients, or one worker, of a proxy, in raw ZMTP 3.1: fast enough for tens of
 * thousands of requests each second, and exact. Each request has a number, each reply is compared
 * byte for byte with what it must be, and replies to one request are counted.
 *
 *   player clients HOST:PORT [key=value...]   reads commands on stdin, one on a line:
 *       go     requests are sent from now on, at `rate`, whether or not earlier ones have replies
 *       stop   no more requests; prints "answered" when each has its reply
 *       die    one request that a worker of the kind `die` does not survive
 *       count  prints the counts, as one line of JSON
 *              at the end of stdin: reads what is still on its way, prints the counts, ends
 *   player worker HOST:PORT [key=value...]    prints "up" for each connection; ends with stdin
 *
 * It has its own decoder on purpose, so that it does not share the daemon's errors.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	CLIENTS_MAX = 64,
	READ_BYTES = 128 << 10,
	GREETING = 64,
	BATCHES = 4096, /* reads that a worker has not answered yet */
	MORE = 1,
	LONG = 2,
	COMMAND = 4,
	HEAD_MAX = 32 /* of a request, before its body */
};

enum kind { ORDINARY, DEADLY };

/* Identifies a request in its body, in this machine's byte order. */
struct ident {
	uint32_t kind, client;
	uint64_t number;
};

struct options {
	struct sockaddr_in address;
	unsigned clients;
	double rate;
	size_t size;    /* of a body */
	uint64_t limit; /* at most that many without a reply: a slow machine makes fewer */
	const char *mode, *type;
	int form;       /* of all requests; -1: every other client has another */
	uint64_t delay; /* ms until a worker answers */
	uint64_t every; /* requests between two cuts */
	int rcvbuf;
};

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "player: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(1);
}

static uint64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* --- bytes ---------------------------------------------------------------- */

/* The bytes from `at` to `len` are in use. */
struct buffer {
	uint8_t *p;
	size_t at, len, size;
};

/* Room for n more bytes at the end. */
static uint8_t *
buffer_room(struct buffer *b, size_t n)
{
	if (b->at > 0 && b->len + n > b->size) {
		memmove(b->p, b->p + b->at, b->len - b->at);
		b->len -= b->at;
		b->at = 0;
	}
	if (b->len + n > b->size) {
		b->size = 2 * (b->len + n);
		b->p = realloc(b->p, b->size);
		if (b->p == NULL)
			die("out of memory");
	}
	return b->p + b->len;
}

static void
buffer_add(struct buffer *b, const void *data, size_t n)
{
	memcpy(buffer_room(b, n), data, n);
	b->len += n;
}

static void
buffer_skip(struct buffer *b, size_t n)
{
	b->at += n;
	if (b->at == b->len)
		b->at = b->len = 0;
}

/* --- ZMTP ----------------------------------------------------------------- */

static size_t
put_frame_header(uint8_t *out, uint64_t len, unsigned flags)
{
	if (len <= 255) {
		out[0] = (uint8_t)flags;
		out[1] = (uint8_t)len;
		return 2;
	}
	out[0] = (uint8_t)(flags | LONG);
	for (int i = 0; i < 8; i++)
		out[1 + i] = (uint8_t)(len >> (56 - 8 * i));
	return 9;
}

/* Returns the size of a frame's header; 0 if it is incomplete. *body: the size of its body. */
static size_t
get_frame_header(const uint8_t *p, size_t len, uint64_t *body)
{
	if (len < 2 || (p[0] & LONG && len < 9))
		return 0;
	if (!(p[0] & LONG)) {
		*body = p[1];
		return 2;
	}
	*body = 0;
	for (int i = 0; i < 8; i++)
		*body = *body << 8 | p[1 + i];
	return 9;
}

/* Returns the size of the command or message at p; 0 if it is incomplete. *last: its last body. */
static size_t
get_unit(const uint8_t *p, size_t len, size_t *last)
{
	size_t at = 0, header;
	uint64_t body;

	while ((header = get_frame_header(p + at, len - at, &body)) > 0 &&
		body <= len - at - header) {
		*last = at + header;
		at += header + (size_t)body;
		if (!(p[*last - header] & MORE))
			return at;
	}
	return 0;
}

struct conn {
	int fd;
	bool ponged;
	struct buffer in, out;
};

static void
read_exactly(int fd, void *data, size_t n)
{
	ssize_t got = recv(fd, data, n, MSG_WAITALL);

	if (got != (ssize_t)n)
		die("the other side ended the handshake");
}

static void
handshake(int fd, const char *type)
{
	uint8_t out[GREETING + 64] = {
		0xff, [9] = 0x7f, [10] = 3, [11] = 1, [12] = 'N', 'U', 'L', 'L'};
	uint8_t in[UINT8_MAX], *p = out + GREETING; /* READY is a short command */
	size_t len = strlen(type);

	*p++ = COMMAND;
	*p++ = (uint8_t)(22 + len);
	memcpy(p, "\x05READY\x0bSocket-Type\0\0\0", 21);
	p += 21;
	*p++ = (uint8_t)len;
	memcpy(p, type, len);
	p += len;
	if (send(fd, out, (size_t)(p - out), MSG_NOSIGNAL) != p - out)
		die("handshake");
	read_exactly(fd, in, GREETING);
	read_exactly(fd, in, 2);
	if (in[0] != COMMAND)
		die("not a READY");
	read_exactly(fd, in, in[1]);
}

/* False: the connection was refused. */
static bool
dial(struct conn *c, const struct options *o)
{
	int one = 1;

	c->in.at = c->in.len = c->out.at = c->out.len = 0;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	if (o->rcvbuf > 0)
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &o->rcvbuf, sizeof(o->rcvbuf));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (const struct sockaddr *)&o->address, sizeof(o->address)) < 0) {
		close(c->fd);
		return false;
	}
	handshake(c->fd, o->type);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	return true;
}

/* False: the connection is over. */
static bool
flush(struct conn *c)
{
	while (c->out.len > c->out.at) {
		ssize_t n = send(c->fd, c->out.p + c->out.at, c->out.len - c->out.at, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN;
		buffer_skip(&c->out, (size_t)n);
	}
	return true;
}

/* False: the connection is over. */
static bool
take(struct conn *c)
{
	ssize_t n = recv(c->fd, buffer_room(&c->in, READ_BYTES), READ_BYTES, 0);

	if (n > 0)
		c->in.len += (size_t)n;
	return n > 0 || (n < 0 && errno == EAGAIN);
}

/* body: a command's */
static void
on_command(struct conn *c, const uint8_t *body, size_t len)
{
	uint8_t head[2];

	if (len >= 5 && memcmp(body, "\4PONG", 5) == 0)
		c->ponged = true;
	if (len < 7 || memcmp(body, "\4PING", 5) != 0)
		return;
	put_frame_header(head, len - 2, COMMAND);
	buffer_add(&c->out, head, sizeof(head));
	buffer_add(&c->out, "\4PONG", 5);
	buffer_add(&c->out, body + 7, len - 7);
}

/* --- clients -------------------------------------------------------------- */

struct client {
	struct conn conn;
	uint32_t index;
	uint64_t made;
	uint8_t *seen; /* replies to each request, up to 255 */
	size_t room;
};

struct clients {
	const struct options *o;
	struct client *all;
	uint8_t *scratch;
	bool making, stopping;
	uint64_t start, base; /* `base` requests were made when the clock showed `start` */
	uint64_t made, answered, twice, deadly, deadly_answered, held_back;
};

static bool
is_deadly(const struct client *c, uint64_t number)
{
	return c->seen[number] & 0x80;
}

/* The frames before the body; any worker can answer the mixed ones. */
enum form { DELIMITER, REQUEST_ID, MIXED, NOTHING = MIXED };

static size_t
build(const struct options *o, uint8_t *out, const struct ident *id)
{
	int form = o->form < 0 ? (int)(id->client % MIXED) : o->form;
	uint8_t *p = out;

	if (form == REQUEST_ID) {
		p += put_frame_header(p, sizeof(id->number), MORE);
		memcpy(p, &id->number, sizeof(id->number));
		p += sizeof(id->number);
	}
	if (form != NOTHING)
		p += put_frame_header(p, 0, MORE);
	p += put_frame_header(p, o->size, 0);
	memcpy(p, id, sizeof(*id));
	memset(p + sizeof(*id), (int)(id->number * 7 + id->client), o->size - sizeof(*id));
	return (size_t)(p - out) + o->size;
}

static void
make(struct clients *cs, struct client *c, enum kind kind)
{
	struct ident id = {kind, c->index, c->made};

	if (c->made == c->room) {
		c->room = c->room > 0 ? 2 * c->room : 4096;
		c->seen = realloc(c->seen, c->room);
		if (c->seen == NULL)
			die("out of memory");
	}
	c->seen[c->made++] = kind == DEADLY ? 0x80 : 0;
	c->conn.out.len += build(cs->o, buffer_room(&c->conn.out, cs->o->size + HEAD_MAX), &id);
	if (kind == DEADLY)
		cs->deadly++;
	else
		cs->made++;
}

/* Ends the program if it is not a reply that this client may get. */
static void
on_reply(struct clients *cs, struct client *c, const uint8_t *p, size_t len, size_t body)
{
	struct ident id;

	errno = 0;
	if (len - body != cs->o->size)
		die("a reply of another size");
	memcpy(&id, p + body, sizeof(id));
	if (id.client != c->index || id.number >= c->made)
		die("a reply to what this client never asked");
	if (build(cs->o, cs->scratch, &id) != len || memcmp(cs->scratch, p, len) != 0)
		die("a reply with wrong bytes");
	if (is_deadly(c, id.number)) {
		cs->deadly_answered++;
		return;
	}
	if (c->seen[id.number] == 0)
		cs->answered++;
	else
		cs->twice++;
	c->seen[id.number] = 1;
}

static void
read_replies(struct clients *cs, struct client *c)
{
	struct buffer *in = &c->conn.in;
	size_t n, last;

	if (!take(&c->conn))
		die("a client's connection ended");
	while ((n = get_unit(in->p + in->at, in->len - in->at, &last)) > 0) {
		const uint8_t *p = in->p + in->at;

		if (p[0] & COMMAND)
			on_command(&c->conn, p + last, n - last);
		else
			on_reply(cs, c, p, n, last);
		buffer_skip(in, n);
	}
}

/* On a machine that cannot keep up the schedule is set back, so that no requests pile up here. */
static void
make_due(struct clients *cs)
{
	const struct options *o = cs->o;
	uint64_t now = now_us();
	uint64_t due = cs->base + (uint64_t)((double)(now - cs->start) * o->rate / 1e6);

	while (cs->made < due && cs->made - cs->answered < o->limit)
		make(cs, &cs->all[cs->made % o->clients], ORDINARY);
	if (cs->made < due) {
		cs->held_back += due - cs->made;
		cs->base = cs->made;
		cs->start = now;
	}
}

static void
say_counts(const struct clients *cs)
{
	printf("{\"made\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"twice\":%" PRIu64
	       ",\"deadly\":%" PRIu64 ",\"deadly_answered\":%" PRIu64 ",\"held_back\":%" PRIu64
	       "}\n",
		cs->made, cs->answered, cs->twice, cs->deadly, cs->deadly_answered, cs->held_back);
	fflush(stdout);
}

static void
obey(struct clients *cs, const char *line)
{
	if (strcmp(line, "go") == 0) {
		cs->making = true;
		cs->start = now_us();
		cs->base = cs->made;
	} else if (strcmp(line, "stop") == 0) {
		cs->making = false;
		cs->stopping = true;
	} else if (strcmp(line, "die") == 0) {
		make(cs, &cs->all[0], DEADLY);
	} else if (strcmp(line, "count") == 0) {
		say_counts(cs);
	} else {
		die("no such command");
	}
}

/* False at the end of stdin. */
static bool
read_commands(struct clients *cs)
{
	char text[256], *line, *end;
	ssize_t n = read(STDIN_FILENO, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0'; /* lines are written whole */
	for (line = text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		*end = '\0';
		obey(cs, line);
	}
	return true;
}

/* Waits for an event, `wait_ms` at most. False at the end of stdin. */
static bool
clients_turn(struct clients *cs, int wait_ms, bool commands)
{
	struct pollfd fds[CLIENTS_MAX + 1];
	unsigned n = cs->o->clients;

	for (unsigned i = 0; i < n; i++) {
		struct conn *c = &cs->all[i].conn;

		if (!flush(c))
			die("a client's connection ended");
		fds[i] = (struct pollfd){c->fd, POLLIN, 0};
		fds[i].events |= c->out.len > c->out.at ? POLLOUT : 0;
	}
	fds[n] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
	if (poll(fds, commands ? n + 1 : n, wait_ms) < 0)
		die("poll");
	for (unsigned i = 0; i < n; i++)
		if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
			read_replies(cs, &cs->all[i]);
	return !commands || fds[n].revents == 0 || read_commands(cs);
}

/* A PONG comes after all that was sent to this client before it. */
static void
take_the_rest(struct clients *cs)
{
	for (unsigned i = 0; i < cs->o->clients; i++)
		buffer_add(&cs->all[i].conn.out, "\x04\x07\x04PING\0\0", 9);
	for (unsigned i = 0; i < cs->o->clients; i++)
		while (!cs->all[i].conn.ponged)
			clients_turn(cs, 1000, false);
}

static void
hang_up(struct clients *cs)
{
	for (unsigned i = 0; i < cs->o->clients; i++) {
		struct client *c = &cs->all[i];

		close(c->conn.fd);
		free(c->conn.in.p);
		free(c->conn.out.p);
		free(c->seen);
	}
	free(cs->all);
	free(cs->scratch);
}

static void
play_clients(const struct options *o)
{
	struct clients cs = {.o = o};

	cs.all = calloc(o->clients, sizeof(struct client));
	cs.scratch = malloc(o->size + HEAD_MAX);
	if (cs.all == NULL || cs.scratch == NULL)
		die("out of memory");
	for (unsigned i = 0; i < o->clients; i++) {
		cs.all[i].index = i;
		if (!dial(&cs.all[i].conn, o))
			die("connect");
	}
	puts("up");
	fflush(stdout);
	while (clients_turn(&cs, cs.making ? 1 : 100, true)) {
		if (cs.making)
			make_due(&cs);
		if (cs.stopping && cs.answered == cs.made) {
			cs.stopping = false;
			puts("answered");
			fflush(stdout);
		}
	}
	take_the_rest(&cs);
	say_counts(&cs);
	hang_up(&cs);
}

/* --- a worker ------------------------------------------------------------- */

/* The replies to the requests of one read. */
struct batch {
	uint64_t due;
	size_t len;
};

struct worker {
	const struct options *o;
	struct conn conn;
	struct buffer replies; /* that are not due */
	struct batch batches[BATCHES];
	unsigned first, n;
	size_t *starts, n_starts, room; /* of the messages of this read */
	uint64_t requests;
	bool leaving; /* as soon as everything is sent */
};

static bool
is(const struct worker *w, const char *mode)
{
	return strcmp(w->o->mode, mode) == 0;
}

/* At the request that it does not survive, all earlier ones are answered. */
static void __attribute__((noreturn)) perish(struct worker *w)
{
	struct conn *c = &w->conn;

	buffer_add(&c->out, w->replies.p + w->replies.at, w->replies.len - w->replies.at);
	fcntl(c->fd, F_SETFL, 0);
	flush(c);
	_exit(1);
}

static void
on_request(struct worker *w, const uint8_t *p, size_t len, size_t body)
{
	struct ident id = {0};

	if (len - body >= sizeof(id))
		memcpy(&id, p + body, sizeof(id));
	if (is(w, "die") && id.kind == DEADLY)
		perish(w);
	w->requests++;
	if (w->leaving || is(w, "mute"))
		return;
	if (is(w, "cut") && w->requests % w->o->every == 0) {
		buffer_add(&w->replies, p, len / 2);
		w->leaving = true;
		return;
	}
	buffer_add(&w->replies, p, len);
	if (is(w, "twice"))
		buffer_add(&w->replies, p, len);
}

/* The last request first. */
static void
answer_backwards(struct worker *w, const uint8_t *p, size_t end)
{
	while (w->n_starts > 0) {
		size_t start = w->starts[--w->n_starts];

		buffer_add(&w->replies, p + start, end - start);
		end = start;
	}
}

static void
note_start(struct worker *w, size_t at)
{
	if (w->n_starts == w->room) {
		w->room = w->room > 0 ? 2 * w->room : 1024;
		w->starts = realloc(w->starts, w->room * sizeof(size_t));
		if (w->starts == NULL)
			die("out of memory");
	}
	w->starts[w->n_starts++] = at;
}

static void
answer(struct worker *w)
{
	struct buffer *in = &w->conn.in;
	const uint8_t *p = in->p + in->at;
	size_t left = in->len - in->at, used = 0, n, last, before = w->replies.len - w->replies.at;

	while ((n = get_unit(p + used, left - used, &last)) > 0) {
		const uint8_t *unit = p + used;

		if (unit[0] & COMMAND) {
			if (is(w, "backwards"))
				answer_backwards(w, p, used);
			on_command(&w->conn, unit + last, n - last);
		} else if (is(w, "backwards")) {
			note_start(w, used);
		} else {
			on_request(w, unit, n, last);
		}
		used += n;
	}
	if (is(w, "backwards"))
		answer_backwards(w, p, used);
	buffer_skip(in, used);
	n = w->replies.len - w->replies.at - before;
	if (n > 0)
		w->batches[(w->first + w->n++) % BATCHES] =
			(struct batch){now_us() + w->o->delay * 1000, n};
}

/* Sends the replies that are due. Returns the ms until the next ones. */
static int
send_due(struct worker *w)
{
	uint64_t now = now_us();

	while (w->n > 0 && w->batches[w->first].due <= now) {
		size_t len = w->batches[w->first].len;

		buffer_add(&w->conn.out, w->replies.p + w->replies.at, len);
		buffer_skip(&w->replies, len);
		w->first = (w->first + 1) % BATCHES;
		w->n--;
	}
	return w->n > 0 ? (int)((w->batches[w->first].due - now) / 1000 + 1) : 1000;
}

/* One connection, until it ends. */
static void
serve(struct worker *w)
{
	struct conn *c = &w->conn;

	for (;;) {
		int wait = send_due(w);
		struct pollfd fds[2] = {{c->fd, 0, 0}, {STDIN_FILENO, POLLIN, 0}};

		if (!flush(c) || (w->leaving && w->n == 0 && c->out.len == c->out.at))
			return;
		fds[0].events = (short)((w->leaving || w->n == BATCHES ? 0 : POLLIN) |
			(c->out.len > c->out.at ? POLLOUT : 0));
		if (poll(fds, 2, wait) < 0)
			die("poll");
		if (fds[1].revents)
			exit(0);
		if (fds[0].revents & (POLLHUP | POLLERR) && !(fds[0].revents & POLLIN))
			return;
		if (fds[0].revents & POLLIN) {
			if (!take(c))
				return;
			answer(w);
		}
	}
}

static void
play_worker(const struct options *o)
{
	static struct worker w;

	w.o = o;
	while (dial(&w.conn, o)) {
		puts("up");
		fflush(stdout);
		serve(&w);
		close(w.conn.fd);
		w.replies.at = w.replies.len = 0;
		w.n = 0;
		w.leaving = false;
	}
}

/* --- start ---------------------------------------------------------------- */

static bool
parse(struct options *o, const char *key, const char *value)
{
	if (strcmp(key, "mode") == 0)
		o->mode = value;
	else if (strcmp(key, "type") == 0)
		o->type = value;
	else if (strcmp(key, "form") == 0)
		o->form = atoi(value);
	else if (strcmp(key, "clients") == 0)
		o->clients = (unsigned)atoi(value);
	else if (strcmp(key, "rate") == 0)
		o->rate = atof(value);
	else if (strcmp(key, "size") == 0)
		o->size = (size_t)atoi(value);
	else if (strcmp(key, "limit") == 0)
		o->limit = (uint64_t)atoll(value);
	else if (strcmp(key, "delay") == 0)
		o->delay = (uint64_t)atoi(value);
	else if (strcmp(key, "every") == 0)
		o->every = (uint64_t)atoi(value);
	else if (strcmp(key, "rcvbuf") == 0)
		o->rcvbuf = atoi(value);
	else
		return false;
	return true;
}

int
main(int argc, char **argv)
{
	struct options o = {.address = {.sin_family = AF_INET},
		.clients = 12,
		.rate = 20000,
		.size = 64,
		.limit = 200000,
		.form = -1,
		.mode = "echo",
		.type = "DEALER",
		.every = 1000};
	char host[64];
	unsigned port;

	if (argc < 3 || sscanf(argv[2], "%63[^:]:%u", host, &port) != 2 ||
		inet_pton(AF_INET, host, &o.address.sin_addr) != 1)
		die("player clients|worker HOST:PORT [key=value...]");
	o.address.sin_port = htons((uint16_t)port);
	for (int i = 3; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (value != NULL)
			*value++ = '\0';
		if (value == NULL || !parse(&o, argv[i], value))
			die("no such option");
	}
	if (o.clients < 1 || o.clients > CLIENTS_MAX || o.size < sizeof(struct ident) ||
		o.every < 1)
		die("an option is out of range");
	if (strcmp(argv[1], "clients") == 0)
		play_clients(&o);
	else
		play_worker(&o);
	return 0;
}
