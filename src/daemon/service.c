/* SPDX-License-Identifier: MIT */
#include "daemon/service.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/limits.h"
#include "daemon/service_impl.h"

enum { LOG_MS = 1000 }; /* how long we wait at the end for the log's reader */

void
service_set_log_level(const struct service *s)
{
	int64_t level = s->config->broker.log_level + s->verbose;

	log_set_level(level > LOG_LEVEL_DEBUG ? LOG_LEVEL_DEBUG : (enum log_level)level);
}

/* --- endpoints ------------------------------------------------------------ */

/* Try every endpoint, so that all errors are reported at once. */
static bool
open_endpoints(struct service *s, struct running_proxy *p, int side, bool binds,
	const struct endpoint *list, size_t count)
{
	char error[256];
	bool ok = true;

	for (size_t i = 0; i < count; i++) {
		if (running_endpoint_open(
			    &s->running, p, side, binds, &list[i], error, sizeof(error)) != NULL)
			continue;
		log_event(LOG_LEVEL_ERROR, binds ? "bind_failed" : "start_failed",
			"proxy=%s side=%s endpoint=%s error=\"%s\"", proxy_name(p->proxy),
			side_name(side), list[i].text, error);
		ok = false;
	}
	return ok;
}

static bool
open_proxies(struct service *s, struct list *opened)
{
	bool ok = true;

	for (size_t i = 0; i < s->config->proxy_count; i++) {
		const struct config_proxy *c = &s->config->proxy[i];
		struct running_proxy *p = mem_must(running_proxy_new(&s->running, c));

		list_push(opened, &p->node);
		for (int side = 0; side < PROXY_SIDES; side++) {
			const struct config_side *cs = &c->side[side];
			ok = open_endpoints(s, p, side, true, cs->bind, cs->bind_count) && ok;
			ok = open_endpoints(s, p, side, false, cs->connect, cs->connect_count) &&
				ok;
		}
	}
	return ok;
}

static void
discard(struct list *opened)
{
	while (!list_empty(opened))
		running_proxy_discard(list_entry(opened->next, struct running_proxy, node));
}

static void
start_proxies(struct service *s, struct list *opened)
{
	struct list *node;

	while ((node = list_pop(opened)) != NULL) {
		struct running_proxy *p = list_entry(node, struct running_proxy, node);

		running_proxy_start(&s->running, p);
		list_each(each, tmp, &p->endpoints)
			running_endpoint_start(
				&s->running, list_entry(each, struct running_endpoint, node));
	}
}

/* --- signals -------------------------------------------------------------- */

static void
on_signal_cb(void *arg, int number)
{
	struct service *s = arg;

	switch (number) {
	case SIGHUP:
		(void)service_ask_for_reload(s);
		break;
	case SIGUSR1:
		service_log_stats(s);
		break;
	default:
		if (s->state == RUNNING)
			service_begin_drain(s);
		else
			service_stop_now(s);
	}
}

static bool
watch_signals(struct service *s)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		s->signals[i] = signal_watch_new(s->loop, numbers[i], on_signal_cb, s);
		if (s->signals[i] == NULL) {
			log_event(
				LOG_LEVEL_ERROR, "start_failed", "error=\"cannot watch signals\"");
			return false;
		}
	}
	return true;
}

/* --- what the admin side asks for ----------------------------------------- */

static uint64_t
reload_for_admin(void *arg)
{
	return service_ask_for_reload(arg);
}

/* The file's name without its .ini: bulkhead@NAME reads NAME.ini. */
static void
set_instance(char *out, size_t size, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	size_t len = strlen(name);

	if (len > 4 && strcmp(name + len - 4, ".ini") == 0)
		len -= 4;
	snprintf(out, size, "%.*s", (int)len, name);
}

static bool
describe_for_admin(void *arg, struct snapshot *snapshot)
{
	const struct service *s = arg;

	if (s->last_good.in_use) {
		snapshot->last_good = 1;
		snapshot->wrong_line = s->last_good.line;
		snprintf(snapshot->file, sizeof(snapshot->file), "%s", s->config->path);
	}
	snprintf(snapshot->state, sizeof(snapshot->state), "%s",
		s->state == RUNNING            ? "running"
			: s->state == DRAINING ? "draining"
					       : "stopping");
	set_instance(snapshot->instance, sizeof(snapshot->instance), s->config->path);
	return running_describe(&s->running, snapshot);
}

/* --- life ----------------------------------------------------------------- */

static void
status_cb(void *arg, char *out, size_t size)
{
	static const char note[] = "; runs on the last good configuration";
	struct service *s = arg;

	status_text(&s->status, out, size - sizeof(note));
	if (s->last_good.in_use)
		memcpy(out + strlen(out), note, sizeof(note));
}

/* Requests that came after it was too late to tell their clients: these may wait for a reply. */
static void
log_stopped(const struct service *s)
{
	const struct proxy_totals t = broker_totals(s->broker);

	log_event(LOG_LEVEL_NOTICE, "stopped",
		"pid=%ld unserved_requests=%" PRIu64 " unserved_clients=%" PRIu64, (long)getpid(),
		t.unserved_requests, t.unserved_clients);
}

/* The order matters: sockets are opened with the rights that we start with. */
static bool
prepare(struct service *s, struct list *opened)
{
	const struct config_broker *c = &s->config->broker;
	const struct admin_hooks hooks = {s, describe_for_admin, reload_for_admin};

	if (!watch_signals(s) || !account_find(&s->account, c))
		return false;
	loop_set_socket_owner(s->loop, &s->account.owner);
	if (!open_proxies(s, opened))
		return false;
	s->admin = admin_new(s->broker, c->control, &c->http, &hooks);
	if (s->admin == NULL)
		return false;
	(void)service_show_config(s, NULL);
	return account_become(&s->account) && admin_start(s->admin) && limits_are_enough();
}

static int
start_and_run(struct service *s)
{
	struct list opened;

	list_init(&opened);
	if (!prepare(s, &opened)) {
		discard(&opened);
		return EXIT_START;
	}
	start_proxies(s, &opened);
	last_good_started(&s->last_good, s->first);
	log_event(LOG_LEVEL_NOTICE, "started",
		"version=%s proxies=%zu pid=%ld max_connections=%" PRIu32, PACKAGE_VERSION,
		broker_proxy_count(s->broker), (long)getpid(), loop_max_connections(s->loop));
	status_init(&s->status, s->broker);
	systemd_ready(&s->systemd, status_cb, s);
	loop_run(s->loop);
	broker_drop_waiting(s->broker);
	broker_log_stats(s->broker, LOG_MS);
	log_stopped(s);
	return EXIT_CLEAN;
}

static void
service_fini(struct service *s)
{
	admin_free(s->admin);
	running_fini(&s->running);
	systemd_fini(&s->systemd);
	for (size_t i = 0; i < sizeof(s->signals) / sizeof(s->signals[0]); i++)
		signal_watch_free(s->signals[i]);
	timer_stop(&s->drain_timer);
	service_fini_stats(s);
	broker_free(s->broker);
	log_watch_fini(&s->log_watch);
	loop_free(s->loop);
	config_free(s->reloaded);
}

static int
run(struct service *s)
{
	int status;

	service_set_log_level(s);
	if (sodium_init() < 0) {
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"no source of random numbers\"");
		return EXIT_INTERNAL;
	}
	s->loop = loop_new();
	if (s->loop == NULL) {
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"cannot poll: %s\"",
			strerror(errno));
		return EXIT_START;
	}
	log_watch_init(&s->log_watch, s->loop);
	loop_set_max_connections(s->loop, limits_connections(s->config->broker.max_connections));
	s->broker = broker_new(s->loop, (uint64_t)s->config->broker.memory_limit);
	systemd_init(&s->systemd, s->loop);
	running_init(&s->running, s->loop, s->broker, &s->systemd);
	service_init_stop(s);
	service_init_stats(s);
	service_init_reload(s);
	status = start_and_run(s);
	service_fini(s);
	return status;
}

int
service_run(struct config *config, int verbose, struct last_good last_good)
{
	struct service s = {
		.config = config, .first = config, .verbose = verbose, .last_good = last_good};
	int status;

	limits_occupy_standard_descriptors();
	log_open();
	status = run(&s);
	log_drain(LOG_MS);
	return status;
}
