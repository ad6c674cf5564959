/* SPDX-License-Identifier: MIT */
#include "admin/trouble.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

struct kind;

/* The search of a snapshot for troubles of one kind. */
struct search {
	const struct snapshot *s;
	const struct kind *kind;
	void (*tell)(void *arg, const struct trouble *t);
	void *arg;
};

struct kind {
	const char *name;
	bool bad, unready;
	void (*find)(const struct search *); /* at all, or ... */
	void (*find_at)(
		const struct search *, const struct proxy_view *, int side); /* ... a side */
	const char *advice;
};

static void tell(const struct search *in, const char *proxy, int side, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static struct trouble
trouble_of(const struct search *in, const char *proxy, int side)
{
	return (struct trouble){.kind = in->kind->name,
		.proxy = proxy,
		.side = side,
		.bad = in->kind->bad,
		.unready = in->kind->unready,
		.advice = in->kind->advice};
}

static void say(struct trouble *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Appends to its text. */
static void
say(struct trouble *t, const char *fmt, ...)
{
	size_t len = strlen(t->text);
	va_list args;

	va_start(args, fmt);
	vsnprintf(t->text + len, sizeof(t->text) - len, fmt, args);
	va_end(args);
}

static void
tell(const struct search *in, const char *proxy, int side, const char *fmt, ...)
{
	struct trouble t = trouble_of(in, proxy, side);
	va_list args;

	va_start(args, fmt);
	vsnprintf(t.text, sizeof(t.text), fmt, args);
	va_end(args);
	in->tell(in->arg, &t);
}

/* --- what may be wrong ---------------------------------------------------- */

static void
find_state(const struct search *in)
{
	if (strcmp(in->s->state, "running") != 0)
		tell(in, NULL, -1, "the broker is %s", in->s->state);
}

static void
find_endpoints(const struct search *in)
{
	for (size_t i = 0; i < in->s->endpoint_count; i++) {
		const struct snapshot_endpoint *e = &in->s->endpoints[i];

		if (e->bound && !e->works)
			tell(in, e->proxy, e->side,
				"proxy %s: %s %s accepts no connections at the moment", e->proxy,
				side_name(e->side), e->text);
	}
}

static void
find_pause(const struct search *in, const struct proxy_view *p, int side)
{
	if (side == PROXY_FRONTEND && p->paused && !p->draining)
		tell(in, p->name, side, "proxy %s: paused", p->name);
}

static const char *
part(char out[64], uint32_t count, const char *what)
{
	out[0] = '\0';
	if (count > 0)
		snprintf(out, 64, ", %" PRIu32 " %s %s", count, count == 1 ? "is" : "are", what);
	return out;
}

/* A proxy that is draining was removed by a reload: no worker is expected. */
static void
find_workers(const struct search *in, const struct proxy_view *p, int side)
{
	const struct side_view *of = &p->side[side];
	char suspects[64], draining[64];

	if (side == PROXY_BACKEND && !p->draining && of->in_state[CONN_READY] == 0)
		tell(in, p->name, side, "proxy %s: no backend peer is ready%s%s", p->name,
			part(suspects, of->suspects, "suspect (past answer_timeout)"),
			part(draining, of->draining, "draining"));
}

/* The ids of the first few, as bulkheadctl accepts them. */
static void
name_peers(struct trouble *t)
{
	uint64_t named = 0;

	for (; named < SIDE_NAMED_PEERS && t->peers[named] > 0; named++)
		say(t, "%s%" PRIu64,
			named > 0               ? ", "
				: t->count == 1 ? ": peer "
						: ": peers ",
			t->peers[named]);
	if (named > 0 && t->count > named)
		say(t, " and %" PRIu64 " more", t->count - named);
}

static void
tell_peers(const struct search *in, const struct proxy_view *p, int side, uint64_t count,
	enum peer_fault fault, const char *how)
{
	struct trouble t = trouble_of(in, p->name, side);

	if (count == 0)
		return;
	t.count = count;
	for (size_t i = 0; i < SIDE_NAMED_PEERS && i < count; i++)
		t.peers[i] = p->side[side].named[fault][i];
	say(&t, "proxy %s: %" PRIu64 " %s%s %s", p->name, count,
		side == PROXY_FRONTEND ? "client" : "worker", count == 1 ? " is" : "s are", how);
	name_peers(&t);
	in->tell(in->arg, &t);
}

static void
find_suspects(const struct search *in, const struct proxy_view *p, int side)
{
	tell_peers(
		in, p, side, p->side[side].suspects, PEER_SUSPECT, "suspect (past answer_timeout)");
}

static void
find_ids(const struct search *in, const struct proxy_view *p, int side)
{
	if (side == PROXY_FRONTEND && p->contested_id[0] != '\0')
		tell(in, p->name, side, "proxy %s: clients take the routing id %s from each other",
			p->name, p->contested_id);
}

static void
find_stalled(const struct search *in, const struct proxy_view *p, int side)
{
	tell_peers(in, p, side, p->side[side].in_state[CONN_STALLED], PEER_STALLED,
		"stalled (took nothing for send_timeout)");
}

/* Suspects are usually silent, too: report each peer once. */
static void
find_silent(const struct search *in, const struct proxy_view *p, int side)
{
	const struct counters *of = &p->side[side].counters;

	if (of->silent > of->suspects)
		tell_peers(in, p, side, of->silent - of->suspects, PEER_SILENT,
			"silent (past silent_after)");
}

static void
find_file(const struct search *in)
{
	char line[32] = "";

	if (in->s->last_good == 0)
		return;
	if (in->s->wrong_line > 0)
		snprintf(line, sizeof(line), ":%d", in->s->wrong_line);
	tell(in, NULL, -1, "runs with the last good configuration: %s%s has errors", in->s->file,
		line);
}

static void
find_memory(const struct search *in)
{
	uint64_t used = in->s->loop.memory_bytes, limit = in->s->loop.memory_limit;

	if (limit > 0 && used > limit / 10 * 9)
		tell(in, NULL, -1, "queues hold %.0f %% of memory_limit",
			100 * (double)used / (double)limit);
}

static void
find_connections(const struct search *in)
{
	uint32_t count = in->s->loop.connections, most = in->s->loop.max_connections;

	if (most > 0 && count > most / 20 * 19)
		tell(in, NULL, -1,
			"%" PRIu32 " of %" PRIu32 " connections are taken (max_connections)", count,
			most);
}

/* --- the table, the worst first ------------------------------------------- */

static const struct kind kinds[] = {
	{.name = "stopping",
		.bad = true,
		.unready = true,
		.find = find_state,
		.advice = "The broker was told to stop; its peers may finish until drain_timeout."},
	{.name = "not_accepting",
		.bad = true,
		.unready = true,
		.find = find_endpoints,
		.advice = "max_connections is reached, or descriptors or memory are short (event "
			  "accept_paused). New connections wait; accepting resumes automatically."},
	{.name = "paused",
		.bad = true,
		.unready = true,
		.find_at = find_pause,
		.advice = "An operator paused the proxy: bulkheadctl resume PROXY reads requests "
			  "again."},
	{.name = "no_worker",
		.bad = true,
		.unready = true,
		.find_at = find_workers,
		.advice = "Requests wait. Are the workers running, and do they connect to this "
			  "backend? Event handshake_failed says why one is refused."},
	{.name = "last_good",
		.bad = true,
		.find = find_file,
		.advice = "Correct the file, then bulkheadctl reload; bulkhead -t -c FILE lists "
			  "all errors."},
	{.name = "suspect",
		.bad = true,
		.find_at = find_suspects,
		.advice = "The worker hangs, or answer_timeout is too short for its work: check "
			  "its process. It gets only trial requests, one at a time; bulkheadctl "
			  "kick PEER closes its connection."},
	{.name = "routing_id",
		.find_at = find_ids,
		.advice = "Two clients use the same id, and each loses replies to the other. Give "
			  "each its own (ZMQ_ROUTING_ID), or none, to have one assigned. Event "
			  "routing_id_contested has their addresses."},
	{.name = "stalled",
		.find_at = find_stalled,
		.advice = "The peer does not read: it hangs, is overloaded, or is cut off. Check "
			  "its process and its network. It is closed automatically after another "
			  "send_timeout."},
	{.name = "silent",
		.find_at = find_silent,
		.advice = "The worker holds requests and sends nothing: it hangs, is frozen, or "
			  "its work takes that long. Check its process; redeliver and "
			  "answer_timeout give its requests to other workers."},
	{.name = "memory",
		.find = find_memory,
		.advice = "At the limit, reading pauses. bulkheadctl top shows who holds the "
			  "memory: requests need more workers, replies need clients that read."},
	{.name = "connections",
		.find = find_connections,
		.advice = "At the limit nobody else can connect: raise LimitNOFILE or "
			  "max_connections, or find clients that do not close their connections."},
};

enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

void
trouble_each(const struct snapshot *s, void (*found)(void *arg, const struct trouble *t), void *arg)
{
	for (size_t k = 0; k < KINDS; k++) {
		const struct search in = {s, &kinds[k], found, arg};

		if (kinds[k].find != NULL)
			kinds[k].find(&in);
		for (size_t i = 0; kinds[k].find_at != NULL && i < s->proxy_count; i++) {
			for (int side = 0; side < PROXY_SIDES; side++)
				kinds[k].find_at(&in, &s->proxies[i], side);
		}
	}
}

struct readiness {
	FILE *why;
	bool ready;
};

static void
write_why(void *arg, const struct trouble *t)
{
	struct readiness *r = arg;

	if (!t->unready)
		return;
	r->ready = false;
	fprintf(r->why, "%s\n", t->text);
}

bool
trouble_is_ready(const struct snapshot *s, FILE *why)
{
	struct readiness r = {why, true};

	trouble_each(s, write_why, &r);
	return r.ready;
}
