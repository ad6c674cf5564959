/* SPDX-License-Identifier: MIT */
/*
 * Workers that hold requests and have sent no message for silent_after are logged and counted,
 * no more. A periodic sweep compares counts, so that a message costs nothing; there is no sweep
 * while no request is outstanding and no worker is silent.
 */
#include "broker/silence.h"

#include <inttypes.h>

#include "base/log.h"
#include "broker/proxy_impl.h"

enum { SWEEP_MIN_MS = 20, SWEEP_MAX_MS = 1000, SWEEPS = 4 /* sweeps within silent_after */ };

/* `speaks`: a message came; otherwise the worker just owes no replies any longer. */
static void
set_silent(struct proxy *proxy, struct peer *worker, bool silent, bool speaks, int64_t quiet)
{
	const struct conn *conn = worker->conn;

	if (worker->silent == silent)
		return;
	worker->silent = silent;
	proxy->counters[PROXY_BACKEND].silent += silent ? 1 : UINT64_MAX;
	if ((!silent && !speaks) || !ratelimit_pass(&proxy->silences, loop_now(proxy->loop)))
		return;
	log_event(silent ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE,
		silent ? "worker_silent" : "worker_speaks",
		"proxy=%s side=%s peer=%" PRIu64 " address=%s outstanding=%" PRIu64
		" silent_ms=%" PRId64,
		conn->side->proxy_name, conn->side->name, conn->id, conn->address,
		worker->outstanding, quiet);
}

static void
listen_to(struct peer *worker, int64_t now)
{
	worker->heard = (uint32_t)worker->conn->messages_in;
	worker->quiet_since = (uint32_t)now;
}

/*
 * A suspect whose requests were taken back owes no replies, but has sent no message either: a
 * silent suspect stays silent until it sends one, through all its trials.
 */
static void
check_worker(struct proxy *proxy, struct peer *worker, int64_t now)
{
	int64_t after = proxy->opts[PROXY_BACKEND].queue.silent_after,
		quiet = (uint32_t)now - worker->quiet_since;
	bool speaks = worker->heard != (uint32_t)worker->conn->messages_in;

	if (speaks || after == 0 || (worker->outstanding == 0 && !worker->suspect)) {
		set_silent(proxy, worker, false, speaks, quiet);
		listen_to(worker, now);
	} else if (worker->outstanding > 0 && quiet > after) {
		set_silent(proxy, worker, true, false, quiet);
	}
}

static void
sweep_later(struct proxy *proxy)
{
	const struct counters *c = &proxy->counters[PROXY_BACKEND];
	int64_t wait = proxy->opts[PROXY_BACKEND].queue.silent_after / SWEEPS;

	if (c->silent == 0 && (c->outstanding == 0 || wait == 0))
		return;
	if (wait > SWEEP_MAX_MS)
		wait = SWEEP_MAX_MS;
	timer_set(&proxy->silence_timer, wait > SWEEP_MIN_MS ? wait : SWEEP_MIN_MS);
}

void
silence_timer_cb(struct timer *timer)
{
	struct proxy *proxy = list_entry(timer, struct proxy, silence_timer);

	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		struct conn *conn = list_entry(node, struct conn, node);

		if (conn->peer != NULL && conn_is_open(conn))
			check_worker(proxy, conn->peer, loop_now(proxy->loop));
	}
	sweep_later(proxy);
}

void
silence_watch(struct proxy *proxy)
{
	list_each(node, tmp, &proxy->side[PROXY_BACKEND].conns) {
		struct peer *worker = list_entry(node, struct conn, node)->peer;

		if (worker != NULL && !worker->silent)
			listen_to(worker, loop_now(proxy->loop));
	}
	sweep_later(proxy);
}
