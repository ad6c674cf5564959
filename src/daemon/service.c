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

#include "base/log.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "daemon/admin.h"
#include "net/connector.h"
#include "net/listener.h"
#include "net/loop.h"

enum {
	RESERVED_DESCRIPTORS = 32, /* of RLIMIT_NOFILE, for the daemon itself */
	DRAIN_POLL_MS = 20
};

/*
 *  RUNNING --signal--> DRAINING --answered or late--> CLOSING_BACKENDS
 *     --gone--> CLOSING_FRONTENDS --gone--> the loop stops
 *  A second signal closes everything at once from any of them.
 */
enum service_state { RUNNING, DRAINING, CLOSING_BACKENDS, CLOSING_FRONTENDS, STOPPING_NOW };

struct service {
	const struct config *config;
	struct loop *loop;
	struct broker *broker;
	struct admin *admin;
	struct listener **listeners;
	size_t listener_count;
	struct connector **connectors;
	size_t connector_count;
	struct signal_watch *signals[5];
	struct timer drain_timer;
	struct task stats_task;
	int64_t drain_due;
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
	rlim_t reserved = RESERVED_DESCRIPTORS + admin_descriptors(&config->broker);
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

static bool
bind_endpoint(struct service *s, struct side *side, const struct endpoint *e)
{
	struct listener *l;
	char error[256];

	l = listener_new(side, e, error, sizeof(error));
	if (l == NULL) {
		log_event(LOG_LEVEL_ERROR, "bind_failed", "proxy=%s side=%s endpoint=%s error=\"%s\"",
			side->proxy_name, side->name, e->text, error);
		return false;
	}
	s->listeners = mem_resize(s->listeners, (s->listener_count + 1) * sizeof(struct listener *));
	s->listeners[s->listener_count++] = l;
	log_event(LOG_LEVEL_NOTICE, "listening", "proxy=%s side=%s endpoint=%s", side->proxy_name,
		side->name, l->text);
	return true;
}

/* Every endpoint is tried, so that all that is wrong is said at once. */
static bool
open_side(struct service *s, struct side *side, const struct config_side *c)
{
	bool ok = true;

	for (size_t i = 0; i < c->bind_count; i++)
		ok = bind_endpoint(s, side, &c->bind[i]) && ok;
	for (size_t i = 0; i < c->connect_count; i++) {
		s->connectors = mem_resize(
			s->connectors, (s->connector_count + 1) * sizeof(struct connector *));
		s->connectors[s->connector_count++] = connector_new(side, &c->connect[i]);
	}
	return ok;
}

static bool
open_proxies(struct service *s)
{
	bool ok = true;

	for (size_t i = 0; i < s->config->proxy_count; i++) {
		const struct config_proxy *c = &s->config->proxy[i];
		struct proxy *p = proxy_new(s->loop, c->name, &c->side[CONFIG_FRONTEND].opts,
			&c->side[CONFIG_BACKEND].opts);

		broker_add(s->broker, p);
		ok = open_side(s, &p->side[PROXY_FRONTEND], &c->side[CONFIG_FRONTEND]) && ok;
		ok = open_side(s, &p->side[PROXY_BACKEND], &c->side[CONFIG_BACKEND]) && ok;
	}
	return ok;
}

/* An account that vanished since the configuration was checked is a failed start. */
static bool
drop_privileges(const struct service *s)
{
	const struct config_broker *c = &s->config->broker;
	struct passwd *user = c->user[0] != '\0' ? getpwnam(c->user) : NULL;
	struct group *group = c->group[0] != '\0' ? getgrnam(c->group) : NULL;
	gid_t gid = (gid_t)-1; /* nobody's: setgid() refuses it */

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
	if (group != NULL)
		gid = group->gr_gid;
	else if (user != NULL)
		gid = user->pw_gid;
	admin_give_socket(s->admin, user != NULL ? user->pw_uid : (uid_t)-1, gid);
	if ((user != NULL ? initgroups(c->user, gid) : setgroups(1, &gid)) != 0 ||
		setgid(gid) != 0 || (user != NULL && setuid(user->pw_uid) != 0)) {
		log_event(LOG_LEVEL_ERROR, "start_failed",
			"error=\"cannot change user or group: %s\"", strerror(errno));
		return false;
	}
	return true;
}

static void
start_endpoints(struct service *s)
{
	for (size_t i = 0; i < s->listener_count; i++)
		listener_start(s->listeners[i]);
	for (size_t i = 0; i < s->connector_count; i++)
		connector_start(s->connectors[i]);
}

/* --- stop ----------------------------------------------------------------- */

static void
stop_endpoints(struct service *s)
{
	for (size_t i = 0; i < s->listener_count; i++)
		listener_free(s->listeners[i]);
	s->listener_count = 0;
	for (size_t i = 0; i < s->connector_count; i++)
		connector_stop(s->connectors[i]);
}

static void
close_sides(struct service *s, int side, bool politely)
{
	for (size_t i = 0; i < s->broker->count; i++)
		proxy_close_side(s->broker->proxies[i], side, politely);
}

static uint32_t
connections_of(const struct service *s, int side)
{
	uint32_t n = 0;

	for (size_t i = 0; i < s->broker->count; i++)
		n += s->broker->proxies[i]->side[side].connections;
	return n;
}

static bool
is_drained(const struct service *s)
{
	for (size_t i = 0; i < s->broker->count; i++)
		if (!proxy_is_drained(s->broker->proxies[i]))
			return false;
	return true;
}

static void
log_drained(struct service *s)
{
	uint64_t answered = 0, given_up = 0;

	for (size_t i = 0; i < s->broker->count; i++) {
		const struct proxy *p = s->broker->proxies[i];
		answered += p->drain_answered;
		/* with a worker, on the way to one, or on the way back */
		given_up += p->drain_given_up + proxy_unfinished(p);
	}
	log_event(LOG_LEVEL_NOTICE, "drained", "answered=%" PRIu64 " given_up=%" PRIu64, answered,
		given_up);
}

static void
drain_step(struct service *s)
{
	switch (s->state) {
	case RUNNING:
		break;
	case DRAINING:
		if (!is_drained(s) && loop_now(s->loop) < s->drain_due)
			break;
		log_drained(s);
		s->state = CLOSING_BACKENDS;
		close_sides(s, PROXY_BACKEND, true);
		break;
	case CLOSING_BACKENDS:
		if (connections_of(s, PROXY_BACKEND) > 0)
			break;
		s->state = CLOSING_FRONTENDS;
		close_sides(s, PROXY_FRONTEND, true);
		break;
	case CLOSING_FRONTENDS:
	case STOPPING_NOW:
		if (s->loop->connections == 0)
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
	log_event(LOG_LEVEL_NOTICE, "draining", "connections=%" PRIu32 " drain_timeout_ms=%" PRId64,
		s->loop->connections, s->config->broker.drain_timeout);
	s->state = DRAINING;
	s->drain_due = loop_now(s->loop) + s->config->broker.drain_timeout;
	stop_endpoints(s);
	for (size_t i = 0; i < s->broker->count; i++)
		proxy_drain(s->broker->proxies[i]);
	timer_set(&s->drain_timer, 1);
}

static void
stop_now(struct service *s)
{
	if (s->state == DRAINING)
		log_drained(s);
	s->state = STOPPING_NOW;
	close_sides(s, PROXY_BACKEND, false);
	close_sides(s, PROXY_FRONTEND, false);
	timer_set(&s->drain_timer, 1);
}

static void
stats_task_cb(struct task *task)
{
	broker_log_stats(list_entry(&task->node, struct service, stats_task.node)->broker);
}

static void
on_signal_cb(void *arg, int number)
{
	struct service *s = arg;

	switch (number) {
	case SIGHUP:
		log_event(LOG_LEVEL_WARNING, "reload_unavailable",
			"detail=\"reload is not available yet; restart to apply changes\"");
		break;
	case SIGUSR1: /* not in the middle of a turn, when what was read has not left yet */
		loop_defer(s->loop, LOOP_LOOK, &s->stats_task);
		break;
	default:
		if (s->state == RUNNING)
			begin_drain(s);
		else
			stop_now(s);
	}
}

/* --- what the admin thread asks for ------------------------------------- */

bool
service_reload(struct service *s, char **report)
{
	(void)s;
	*report = mem_strdup("reload is not available yet; restart to apply changes");
	return false;
}

static bool
reload_for_admin(void *arg, char **report)
{
	return service_reload(arg, report);
}

static bool
look_for_admin(void *arg, struct snapshot *snapshot)
{
	const struct service *s = arg;
	bool ok = true;

	snapshot->state = s->state == RUNNING ? "running" : s->state == DRAINING ? "draining" : "stopping";
	for (size_t i = 0; i < s->listener_count; i++)
		ok = ok && snapshot_add_listener(snapshot, s->listeners[i]);
	for (size_t i = 0; i < s->connector_count; i++)
		ok = ok && snapshot_add_connector(snapshot, s->connectors[i]);
	return ok;
}

/* --- all of it ------------------------------------------------------------ */

static bool
watch_signals(struct service *s)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		s->signals[i] = signal_watch_new(s->loop, numbers[i], on_signal_cb, s);
		if (s->signals[i] == NULL) {
			log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"cannot watch signals\"");
			return false;
		}
	}
	return true;
}

static int
start_and_run(struct service *s)
{
	const struct admin_hooks hooks = {s, look_for_admin, reload_for_admin};

	if (!watch_signals(s) || !open_proxies(s))
		return EXIT_START;
	s->admin = admin_new(s->broker, s->config, &hooks);
	if (s->admin == NULL || !drop_privileges(s) || !admin_start(s->admin))
		return EXIT_START;
	start_endpoints(s);
	log_event(LOG_LEVEL_NOTICE, "started",
		"version=%s proxies=%zu pid=%ld max_connections=%" PRIu32, PACKAGE_VERSION,
		s->broker->count, (long)getpid(), s->loop->max_connections);
	loop_run(s->loop);
	for (size_t i = 0; i < s->broker->count; i++)
		proxy_drop_waiting(s->broker->proxies[i]);
	broker_log_stats(s->broker);
	log_event(LOG_LEVEL_NOTICE, "stopped", "pid=%ld", (long)getpid());
	return EXIT_CLEAN;
}

static void
service_fini(struct service *s)
{
	admin_free(s->admin);
	stop_endpoints(s);
	for (size_t i = 0; i < s->connector_count; i++)
		connector_free(s->connectors[i]);
	for (size_t i = 0; i < sizeof(s->signals) / sizeof(s->signals[0]); i++)
		signal_watch_free(s->signals[i]);
	timer_stop(&s->drain_timer);
	broker_free(s->broker);
	loop_free(s->loop);
	free(s->listeners);
	free(s->connectors);
}

int
service_run(const struct config *config, int verbose)
{
	struct service s = {.config = config};
	int64_t level = config->broker.log_level + verbose;
	int status;

	occupy_standard_descriptors();
	log_open();
	log_set_level(level > LOG_LEVEL_DEBUG ? LOG_LEVEL_DEBUG : (enum log_level)level);
	if (sodium_init() < 0) {
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"no source of random numbers\"");
		return EXIT_INTERNAL;
	}
	s.loop = loop_new();
	if (s.loop == NULL) {
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"cannot poll: %s\"", strerror(errno));
		return EXIT_START;
	}
	s.loop->max_connections = connection_limit(config);
	s.broker = broker_new(s.loop, (uint64_t)config->broker.memory_limit);
	timer_init(&s.drain_timer, s.loop, drain_timer_cb);
	task_init(&s.stats_task, stats_task_cb);
	status = start_and_run(&s);
	service_fini(&s);
	return status;
}
