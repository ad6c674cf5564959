/* SPDX-License-Identifier: MIT */
#include "daemon/service.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "daemon/pace.h"
#include "daemon/reload.h"
#include "daemon/running.h"
#include "daemon/slice.h"
#include "daemon/status.h"
#include "daemon/systemd.h"
#include "net/listener.h"
#include "net/log_watch.h"
#include "net/loop.h"

enum {
	RESERVED_DESCRIPTORS = 32, /* of RLIMIT_NOFILE, for the daemon itself */
	SPARE_DESCRIPTORS = 8,     /* free when all is open: a client, a worker, and a reload */
	DRAIN_POLL_MS = 20,
	STOP_MS = 10000, /* that a stop may take besides draining, at most */
	LOG_MS = 1000    /* that the log's reader has for what it has not taken when we end */
};

/*
 *  RUNNING --signal--> DRAINING --answered or late--> CLOSING_BACKENDS
 *     --gone--> CLOSING_FRONTENDS --gone--> the loop stops
 *  A second signal closes everything at once from any of them.
 */
enum service_state { RUNNING, DRAINING, CLOSING_BACKENDS, CLOSING_FRONTENDS, STOPPING_NOW };

/* A reload that is under way: its own work, and what follows when it was applied. */
enum reload_stage { RELOAD_NONE, RELOAD_BEGINS, RELOAD_RUNS, RELOAD_SHOWS, RELOAD_FORGETS };

struct service {
	const struct config *config; /* what holds now */
	struct config *first;        /* what it started with, the caller's */
	struct config *reloaded;     /* that one, when it is from a reload, and ours */
	int verbose;
	struct last_good last_good;
	struct loop *loop;
	struct log_watch log_watch;
	struct broker *broker;
	struct sockfile_owner account; /* whom to become, if we are root */
	struct systemd systemd;
	struct running running;
	struct status status;
	struct admin *admin;
	struct signal_watch *signals[5];
	struct timer drain_timer;
	struct task stats_task, stats_more_task;
	struct timer stats_timer; /* while they wait for the log's reader */
	struct pace stats_pace;
	bool stats_again; /* asked for while they are told: once more afterwards */
	enum reload_stage reload_stage;
	struct task reload_task;
	struct timer reload_timer; /* while it waits for the log's reader */
	struct pace pace;
	struct reload *reload;  /* while it runs */
	uint64_t reload_number; /* of the last one that began */
	bool reload_again;      /* another one was asked for meanwhile */
	unsigned reload_slices;
	struct reload_summary summary; /* when it is over but for what follows */
	struct config *replaced;       /* what it replaced, when that is ours */
	size_t shown;                  /* of the configuration: [broker], and proxies */
	int64_t drain_due, drain_log_due;
	enum service_state state;
};

/* --- start ---------------------------------------------------------------- */

/* Descriptors 0 to 2 must be taken, or a peer's socket becomes our stderr. */
static void
occupy_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

static uint32_t
connection_limit(const struct config *config)
{
	struct rlimit limit = {1024, 1024};
	rlim_t reserved = RESERVED_DESCRIPTORS;
	uint64_t available;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		(void)getrlimit(RLIMIT_NOFILE, &limit);
	}
	available = limit.rlim_cur > reserved ? limit.rlim_cur - reserved : 1;
	if (available > 1000000)
		available = 1000000; /* as many as routing ids can be made up for */
	if (config->broker.max_connections > 0 &&
		(uint64_t)config->broker.max_connections < available)
		available = (uint64_t)config->broker.max_connections;
	return (uint32_t)available;
}

/* A broker that is ready and cannot accept a client and a worker would serve nobody. */
static bool
has_descriptors(void)
{
	struct rlimit limit = {0, 0};
	int fds[SPARE_DESCRIPTORS], n = 0;
	uint64_t least;

	while (n < SPARE_DESCRIPTORS && (fds[n] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) >= 0)
		n++;
	for (int i = 0; i < n; i++)
		close(fds[i]);
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	least = limit.rlim_cur + (uint64_t)(SPARE_DESCRIPTORS - n);
	if (least < RESERVED_DESCRIPTORS + 2)
		least = RESERVED_DESCRIPTORS + 2;
	if (limit.rlim_cur >= least)
		return true;
	log_event(LOG_LEVEL_ERROR, "start_failed",
		"error=\"too few descriptors to serve a client and a worker: RLIMIT_NOFILE is "
		"%" PRIu64 ", and must be %" PRIu64 " or more\"",
		(uint64_t)limit.rlim_cur, least);
	return false;
}

/* Every endpoint is tried, so that all that is wrong is said at once. */
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

/*
 * Whom to become, if we are root: the files of Unix sockets are theirs from the first moment on. An
 * account that vanished since the configuration was checked is a failed start.
 */
static bool
find_account(struct service *s)
{
	const struct config_broker *c = &s->config->broker;
	struct passwd *user = c->user[0] != '\0' ? getpwnam(c->user) : NULL;
	struct group *group = c->group[0] != '\0' ? getgrnam(c->group) : NULL;
	struct sockfile_owner *owner = &s->account;

	if (c->user[0] == '\0' && c->group[0] == '\0')
		return true;
	if (geteuid() != 0) {
		log_event(LOG_LEVEL_NOTICE, "user_ignored", "detail=\"not started as root\"");
		return true;
	}
	if ((c->user[0] != '\0' && user == NULL) || (c->group[0] != '\0' && group == NULL)) {
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"no such user or group\"");
		return false;
	}
	*owner = (struct sockfile_owner){true, (uid_t)-1, (gid_t)-1};
	if (user != NULL) {
		owner->uid = user->pw_uid;
		owner->gid = user->pw_gid;
	}
	if (group != NULL)
		owner->gid = group->gr_gid;
	loop_set_socket_owner(s->loop, owner);
	return true;
}

static bool
drop_privileges(const struct service *s)
{
	const char *user = s->config->broker.user;
	const struct sockfile_owner *to = &s->account;

	if (!to->given)
		return true;
	if ((to->uid != (uid_t)-1 ? initgroups(user, to->gid) : setgroups(1, &to->gid)) != 0 ||
		setgid(to->gid) != 0 || (to->uid != (uid_t)-1 && setuid(to->uid) != 0)) {
		log_event(LOG_LEVEL_ERROR, "start_failed",
			"error=\"cannot change user or group: %s\"", strerror(errno));
		return false;
	}
	return true;
}

/* --- reload --------------------------------------------------------------- */

static void
set_log_level(const struct service *s)
{
	int64_t level = s->config->broker.log_level + s->verbose;

	log_set_level(level > LOG_LEVEL_DEBUG ? LOG_LEVEL_DEBUG : (enum log_level)level);
}

/* The options of [broker]. What was set at run time stays, where the file has not changed. */
static void
apply_broker(struct service *s, const struct config_broker *before)
{
	const struct config_broker *c = &s->config->broker;

	if (c->log_level != before->log_level)
		set_log_level(s);
	broker_set_memory_limit(s->broker, (uint64_t)c->memory_limit);
	if (c->max_connections != before->max_connections) {
		loop_set_max_connections(s->loop, connection_limit(s->config));
		listener_retry_waiting(s->loop);
	}
}

/*
 * Give the admin side the configuration to show, part by part: [broker], then each proxy. False:
 * that was all. Without memory it shows the old one, and says so.
 */
static bool
show_config(struct service *s, struct slice *slice)
{
	enum { COST = 150 };
	const struct config *c = s->config;
	struct text text = {0};
	bool more = false;

	for (; s->shown <= c->proxy_count; s->shown++) {
		more = !slice_take(slice, COST);
		if (more)
			break;
		text_clear(&text);
		if (s->shown == 0)
			config_dump_broker(c, &text);
		else
			config_dump_proxy(&c->proxy[s->shown - 1], &text);
		admin_add_config(s->admin, text.no_memory ? NULL : text.bytes, text.len);
	}
	text_fini(&text);
	if (more)
		return true;
	s->shown = 0;
	admin_set_config(s->admin, c->broker.http_hosts, c->broker.drain_timeout);
	return false;
}

static void
begin_reload(struct service *s)
{
	s->reload_number++;
	s->reload_slices = 0;
	s->reload_stage = RELOAD_BEGINS;
	systemd_reloading(&s->systemd);
	loop_defer(s->loop, LOOP_RESUME, &s->reload_task);
}

static void
end_reload(struct service *s, bool done, const char *text)
{
	s->reload_stage = RELOAD_NONE;
	systemd_reloaded(&s->systemd, !done);
	if (done)
		log_event(LOG_LEVEL_NOTICE, "reloaded", "changes=%zu need_restart=%zu slices=%u",
			s->summary.changes, s->summary.restarts, s->reload_slices);
	admin_reloaded(s->admin, s->reload_number, done, text);
	free(s->summary.report);
	s->summary.report = NULL;
	if (s->reload_again && s->state == RUNNING)
		begin_reload(s);
	s->reload_again = false;
}

/* It is applied, or failed. */
static void
conclude_reload(struct service *s)
{
	const struct config_broker before = s->config->broker;
	struct config *next = reload_end(s->reload, &s->summary);

	s->reload = NULL;
	if (next == NULL) {
		end_reload(s, false,
			s->summary.report != NULL ? s->summary.report
						  : "no memory; nothing was changed\n");
		return;
	}
	s->replaced = s->reloaded;
	s->config = s->reloaded = next;
	last_good_reloaded(&s->last_good, next);
	apply_broker(s, &before);
	s->reload_stage = RELOAD_SHOWS;
}

/* What takes long is done in slices; messages pass between them. False: it is over. */
static bool
reload_goes_on(struct service *s, struct slice *slice)
{
	s->reload_slices++;
	switch (s->reload_stage) {
	case RELOAD_NONE:
		break;
	case RELOAD_BEGINS:
		s->reload = reload_new(&s->running, s->config);
		s->reload_stage = RELOAD_RUNS;
		if (s->reload != NULL)
			break;
		log_event(LOG_LEVEL_ERROR, "reload_failed", "errors=0 reason=\"no memory\"");
		end_reload(s, false, "no memory; nothing was changed\n");
		break;
	case RELOAD_RUNS:
		if (!reload_step(s->reload, slice))
			conclude_reload(s);
		break;
	case RELOAD_SHOWS:
		if (!show_config(s, slice))
			s->reload_stage = RELOAD_FORGETS;
		break;
	case RELOAD_FORGETS:
		if (s->replaced != NULL && config_free_step(s->replaced, slice))
			break;
		config_free(s->replaced);
		s->replaced = NULL;
		end_reload(s, true, s->summary.report);
		break;
	}
	return s->reload_stage != RELOAD_NONE;
}

static void
reload_task_cb(struct task *task)
{
	struct service *s = list_entry(&task->node, struct service, reload_task.node);
	struct slice slice = slice_begin();

	if (pace_waits(&s->pace, loop_now(s->loop)))
		timer_set(&s->reload_timer, PACE_RETRY_MS);
	else if (reload_goes_on(s, &slice))
		loop_defer(s->loop, LOOP_RESUME, &s->reload_task);
}

static void
reload_timer_cb(struct timer *timer)
{
	struct service *s = list_entry(timer, struct service, reload_timer);

	loop_defer(s->loop, LOOP_RESUME, &s->reload_task);
}

/* The daemon stops. What is applied goes on to its end, all else is taken back. */
static void
break_off_reload(struct service *s)
{
	static const char why_not[] = "the daemon is stopping\n";
	bool again = s->reload_again;

	s->reload_again = false;
	task_cancel(&s->reload_task);
	timer_stop(&s->reload_timer);
	if (s->reload_stage >= RELOAD_SHOWS) {
		while (reload_goes_on(s, NULL))
			;
	} else if (s->reload_stage != RELOAD_NONE) {
		if (s->reload != NULL) {
			(void)reload_end(s->reload, &s->summary);
			s->reload = NULL;
		}
		end_reload(s, false, why_not);
	}
	if (again)
		admin_reloaded(s->admin, s->reload_number + 1, false, why_not);
}

/* Whoever asks while one is under way may have changed the file since that was read. */
static uint64_t
ask_for_reload(struct service *s)
{
	if (s->state != RUNNING)
		return 0;
	if (s->reload_stage == RELOAD_NONE) {
		begin_reload(s);
		return s->reload_number;
	}
	s->reload_again = true;
	return s->reload_number + 1;
}

/* --- stop ----------------------------------------------------------------- */

static void
log_drained(struct service *s)
{
	const struct drain_result r = broker_drain_result(s->broker);

	log_event(LOG_LEVEL_NOTICE, "drained", "answered=%" PRIu64 " given_up=%" PRIu64, r.answered,
		r.given_up);
}

/* One step for each; then what is waited for, if a second passed since it was said. */
static void
drain_proxies(struct service *s)
{
	int64_t now = loop_now(s->loop);
	bool says = now >= s->drain_log_due && now < s->drain_due;

	if (says)
		s->drain_log_due = now + RUNNING_DRAIN_LOG_MS;
	broker_drain_step(s->broker);
	if (says)
		broker_log_drain(s->broker, s->drain_due - now);
}

static void
drain_step(struct service *s)
{
	switch (s->state) {
	case RUNNING:
		break;
	case DRAINING:
		drain_proxies(s);
		if (!broker_is_drained(s->broker) && loop_now(s->loop) < s->drain_due)
			break;
		log_drained(s);
		s->state = CLOSING_BACKENDS;
		broker_close_side(s->broker, PROXY_BACKEND, true);
		break;
	case CLOSING_BACKENDS:
		if (broker_totals(s->broker).connections[PROXY_BACKEND] > 0)
			break;
		s->state = CLOSING_FRONTENDS;
		broker_close_side(s->broker, PROXY_FRONTEND, true);
		break;
	case CLOSING_FRONTENDS:
	case STOPPING_NOW:
		if (loop_connections(s->loop) == 0)
			loop_stop(s->loop);
		break;
	}
}

static void
drain_timer_cb(struct timer *timer)
{
	struct service *s = list_entry(timer, struct service, drain_timer);

	drain_step(s);
	timer_set(&s->drain_timer, DRAIN_POLL_MS);
}

static void
begin_drain(struct service *s)
{
	break_off_reload(s);
	log_event(LOG_LEVEL_NOTICE, "draining", "connections=%" PRIu32 " drain_timeout_ms=%" PRId64,
		loop_connections(s->loop), s->config->broker.drain_timeout);
	s->state = DRAINING;
	s->drain_due = loop_now(s->loop) + s->config->broker.drain_timeout;
	s->drain_log_due = loop_now(s->loop) + RUNNING_DRAIN_LOG_MS;
	systemd_stopping(&s->systemd, s->config->broker.drain_timeout + STOP_MS);
	running_stop(&s->running);
	broker_drain(s->broker);
	timer_set(&s->drain_timer, 1);
}

static void
stop_now(struct service *s)
{
	if (s->state == DRAINING)
		log_drained(s);
	s->state = STOPPING_NOW;
	broker_close_side(s->broker, PROXY_BACKEND, false);
	broker_close_side(s->broker, PROXY_FRONTEND, false);
	timer_set(&s->drain_timer, 1);
}

/* --- signals -------------------------------------------------------------- */

struct stats_slice {
	struct slice slice;
	const struct service *service;
};

static bool
stats_may_go_on(void *arg)
{
	enum { COST = 15 }; /* two long lines */
	struct stats_slice *slice = arg;

	/* no more than the log's reader is waited for, unless it hangs */
	return (log_waiting() <= PACE_BYTES || slice->service->stats_pace.hangs) &&
		slice_take(&slice->slice, COST);
}

/* At the end of a turn; what is left, at the end of the next one. */
static void
stats_task_cb(struct task *task)
{
	struct service *s = list_entry(&task->node, struct service, stats_task.node);
	struct stats_slice slice = {slice_begin(), s};

	if (pace_waits(&s->stats_pace, loop_now(s->loop)))
		timer_set(&s->stats_timer, PACE_RETRY_MS);
	else if (broker_log_some(s->broker, stats_may_go_on, &slice) || s->stats_again)
		loop_defer(s->loop, LOOP_RESUME, &s->stats_more_task);
	if (!broker_is_logging(s->broker))
		s->stats_again = false;
}

static void
stats_more_task_cb(struct task *task)
{
	struct service *s = list_entry(&task->node, struct service, stats_more_task.node);

	loop_defer(s->loop, LOOP_LOOK, &s->stats_task);
}

static void
stats_timer_cb(struct timer *timer)
{
	struct service *s = list_entry(timer, struct service, stats_timer);

	loop_defer(s->loop, LOOP_LOOK, &s->stats_task);
}

static void
on_signal_cb(void *arg, int number)
{
	struct service *s = arg;

	switch (number) {
	case SIGHUP:
		(void)ask_for_reload(s);
		break;
	case SIGUSR1: /* not in the middle of a turn, when what was read has not left yet */
		if (broker_is_logging(s->broker))
			s->stats_again = true;
		else
			loop_defer(s->loop, LOOP_LOOK, &s->stats_task);
		break;
	default:
		if (s->state == RUNNING)
			begin_drain(s);
		else
			stop_now(s);
	}
}

/* --- what the admin side asks for ----------------------------------------- */

static uint64_t
reload_for_admin(void *arg)
{
	return ask_for_reload(arg);
}

/* The file's name, without what all such files' names end with: bulkhead@NAME reads NAME.ini. */
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
look_for_admin(void *arg, struct snapshot *snapshot)
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

/* --- all of it ------------------------------------------------------------ */

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

static void
status_cb(void *arg, char *out, size_t size)
{
	static const char note[] = "; runs on the last good configuration";
	struct service *s = arg;

	status_text(&s->status, out, size - sizeof(note));
	if (s->last_good.in_use)
		memcpy(out + strlen(out), note, sizeof(note));
}

/* Who asked when nobody could be told any more that we end: those clients may wait for a reply. */
static void
log_stopped(const struct service *s)
{
	const struct proxy_totals t = broker_totals(s->broker);

	log_event(LOG_LEVEL_NOTICE, "stopped",
		"pid=%ld unserved_requests=%" PRIu64 " unserved_clients=%" PRIu64, (long)getpid(),
		t.unserved_requests, t.unserved_clients);
}

static int
start_and_run(struct service *s)
{
	const struct admin_hooks hooks = {s, look_for_admin, reload_for_admin};
	struct list opened;
	bool ok;

	list_init(&opened);
	ok = watch_signals(s) && find_account(s) && open_proxies(s, &opened);
	if (ok)
		s->admin = admin_new(
			s->broker, s->config->broker.control, &s->config->broker.http, &hooks);
	if (s->admin != NULL)
		(void)show_config(s, NULL);
	if (!ok || s->admin == NULL || !drop_privileges(s) || !admin_start(s->admin) ||
		!has_descriptors()) {
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
	timer_stop(&s->stats_timer);
	task_cancel(&s->stats_task);
	task_cancel(&s->stats_more_task);
	broker_free(s->broker);
	log_watch_fini(&s->log_watch);
	loop_free(s->loop);
	config_free(s->reloaded);
}

static int
run(struct service *s)
{
	int status;

	set_log_level(s);
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
	loop_set_max_connections(s->loop, connection_limit(s->config));
	s->broker = broker_new(s->loop, (uint64_t)s->config->broker.memory_limit);
	systemd_init(&s->systemd, s->loop);
	running_init(&s->running, s->loop, s->broker, &s->systemd);
	timer_init(&s->drain_timer, s->loop, drain_timer_cb);
	task_init(&s->stats_task, stats_task_cb);
	task_init(&s->stats_more_task, stats_more_task_cb);
	timer_init(&s->stats_timer, s->loop, stats_timer_cb);
	task_init(&s->reload_task, reload_task_cb);
	timer_init(&s->reload_timer, s->loop, reload_timer_cb);
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

	occupy_standard_descriptors();
	log_open();
	status = run(&s);
	log_drain(LOG_MS);
	return status;
}
