/* SPDX-License-Identifier: MIT */
#include "admin/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "admin/blob.h"
#include "admin/keeper.h"
#include "base/clock.h"
#include "base/commands.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ratelimit.h"
#include "base/recent.h"
#include "net/listener.h"
#include "net/sockfile.h"

enum {
	BACKLOG = 64,
	KNOCK_MIN_MS = 100, /* between two tries to have the control socket */
	KNOCK_MAX_MS = 10000,
	HTTP_TRIES = 150, /* to have its port; after each one a pause: three seconds in all */
	HTTP_PAUSE_NS = 20000000,
	NOTES_PER_SECOND = 10,
	RELOADS_ASKED = 32 /* that wait: more than the admin process leaves open */
};

/* A listening socket of ours that the admin process accepts from. */
struct door {
	struct side side;
	struct listener *listener; /* one for each address; NULL: closed */
};

/* A snapshot that was asked for, taken at the end of a turn, and not too often. */
struct look {
	struct task task;
	struct timer timer;
	struct admin *admin;
	enum channel_look which;
	int64_t taken_at;
};

/* A command that is answered when a reload is over. */
struct asked {
	uint64_t reload; /* its number */
	struct channel_message command;
};

struct admin {
	struct loop *loop;
	struct broker *broker;
	struct admin_hooks hooks;
	int64_t started, drain_timeout;
	struct side_opts opts;
	struct door doors[CHANNEL_DOORS];
	struct endpoint control; /* its door is opened later: somebody else has it now ... */
	char control_error[256]; /* ... or what else was said of it last */
	struct timer knock_timer;
	struct backoff knock_backoff;
	struct keeper keeper;
	struct look looks[CHANNEL_LOOKS];
	int events_fd; /* recent_share */
	int config_fd; /* the configuration, and the names, as blobs; -1: none */
	int hosts_fd;
	int next_fd;                       /* a configuration that is being written; -1: none */
	int next_error;                    /* an errno: that failed */
	struct asked asked[RELOADS_ASKED]; /* asked_count of them */
	unsigned asked_count;
	uint64_t max_fds;
	struct ratelimit notes;
};

/* --- snapshots ------------------------------------------------------------ */

static struct snapshot *
take_snapshot(struct admin *admin, bool peers)
{
	struct snapshot *s = mem_try_new(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->pid = getpid();
	s->log_level = log_get_level();
	s->uptime_ms = clock_now_ms() - admin->started;
	s->max_fds = admin->max_fds;
	s->admin_starts = admin->keeper.starts;
	if (snapshot_take(s, admin->broker, peers) && admin->hooks.look(admin->hooks.arg, s))
		return s;
	snapshot_free(s);
	return NULL;
}

/* The turn is over: what was read has left, and the books are closed. */
static void
look_task_cb(struct task *task)
{
	struct look *look = list_entry(&task->node, struct look, task.node);
	struct admin *admin = look->admin;
	struct channel_message m = {.kind = CHANNEL_SNAPSHOT, .look = look->which};
	struct snapshot *s = take_snapshot(admin, look->which == CHANNEL_PEERS);
	int fd = s != NULL ? snapshot_share(s) : -1;

	look->taken_at = loop_now(admin->loop);
	keeper_tell(&admin->keeper, &m, &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
	snapshot_free(s);
}

static void
look_timer_cb(struct timer *timer)
{
	struct look *look = list_entry(timer, struct look, timer);

	loop_defer(look->admin->loop, LOOP_LOOK, &look->task);
}

/* It keeps one for so long; whoever asks earlier waits, and asking is no way to keep us busy. */
static void
on_look(struct admin *admin, enum channel_look which)
{
	static const int64_t least_ms[CHANNEL_LOOKS] = {SNAPSHOT_COUNTERS_MS, SNAPSHOT_PEERS_MS};
	struct look *look = &admin->looks[which];
	int64_t due = look->taken_at + least_ms[which] - loop_now(admin->loop);

	if (due > 0)
		timer_set(&look->timer, due);
	else
		look_timer_cb(&look->timer);
}

static void
init_looks(struct admin *admin)
{
	for (unsigned i = 0; i < CHANNEL_LOOKS; i++) {
		struct look *look = &admin->looks[i];

		task_init(&look->task, look_task_cb);
		timer_init(&look->timer, admin->loop, look_timer_cb);
		look->admin = admin;
		look->which = (enum channel_look)i;
		look->taken_at = -SNAPSHOT_PEERS_MS;
	}
}

static void
forget_looks(struct admin *admin, bool asked)
{
	for (unsigned i = 0; i < CHANNEL_LOOKS; i++) {
		admin->looks[i].taken_at = -SNAPSHOT_PEERS_MS;
		if (!asked)
			continue;
		task_cancel(&admin->looks[i].task);
		timer_stop(&admin->looks[i].timer);
	}
}

/* --- commands ------------------------------------------------------------- */

/* What the broker says of a command: NULL, or why not. */
static bool
was_done(const char *why_not, char **text)
{
	*text = why_not != NULL ? strdup(why_not) : NULL;
	return why_not == NULL;
}

/* An id that no connection has, when the argument is none. */
static uint64_t
peer_id_of(const char *argument)
{
	char *end;
	uint64_t id = strtoull(argument, &end, 10);

	return argument[0] >= '0' && argument[0] <= '9' && *end == '\0' ? id : 0;
}

static bool
run_kick(struct admin *admin, const char *argument, char **text)
{
	return was_done(broker_kick(admin->broker, peer_id_of(argument)), text);
}

static bool
run_drain(struct admin *admin, const char *argument, char **text)
{
	return was_done(
		broker_drain_peer(admin->broker, peer_id_of(argument), admin->drain_timeout), text);
}

static bool
run_pause(struct admin *admin, const char *argument, char **text)
{
	return was_done(broker_pause(admin->broker, argument, true), text);
}

static bool
run_resume(struct admin *admin, const char *argument, char **text)
{
	return was_done(broker_pause(admin->broker, argument, false), text);
}

static bool
run_log_level(struct admin *admin, const char *argument, char **text)
{
	enum log_level level;

	(void)admin;
	if (!log_level_parse(argument, &level))
		return was_done(
			"there is no such level; there are error, warning, notice, info, debug",
			text);
	log_set_level(level);
	return was_done(NULL, text);
}

/* What each command does: true, or false with why not in *text (malloc); *text may be a report. */
static const struct {
	const char *word;
	bool (*run)(struct admin *admin, const char *argument, char **text);
} commands[COMMAND_COUNT] = {
	[COMMAND_kick] = {"kick", run_kick},
	[COMMAND_drain] = {"drain", run_drain},
	[COMMAND_pause] = {"pause", run_pause},
	[COMMAND_resume] = {"resume", run_resume},
	[COMMAND_reload] = {"reload", NULL}, /* on_reload */
	[COMMAND_log_level] = {"log-level", run_log_level},
};

/*
 * A report of lines as one line, of which nothing has to be escaped in the log: it is to be read
 * there.
 */
static const char *
one_line(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text != '\0' && n + 3 < size; text++) {
		if (*text == '\n' && text[1] == '\0')
			break;
		if (*text == '\n')
			out[n++] = ';';
		out[n++] = (char)(*text == '\n' ? ' ' : *text == '"' ? '\'' : *text);
	}
	out[n] = '\0';
	return out;
}

static void
log_command(const struct channel_message *m, bool done, const char *why)
{
	char what[2 * CHANNEL_ARGUMENT_MAX], detail[256], line[320];

	log_event(LOG_LEVEL_NOTICE, "admin",
		"command=%s argument=%s uid=%" PRId64 " pid=%" PRId64 " result=%s%s%s",
		commands[m->command].word,
		log_quote(what, sizeof(what), m->argument, strlen(m->argument)), m->uid, m->pid,
		done ? "done" : "refused", why != NULL ? " detail=" : "",
		why != NULL ? log_quote(detail, sizeof(detail), line,
				      strlen(one_line(line, sizeof(line), why)))
			    : "");
}

/* `text`: a report, or why not; NULL: none. */
static void
answer_command(struct admin *admin, const struct channel_message *m, bool done, const char *text)
{
	struct channel_message answer = {.kind = CHANNEL_ANSWER, .number = m->number, .done = done};
	struct iovec bytes = {(char *)(uintptr_t)text, text != NULL ? strlen(text) : 0};
	int fd = text != NULL ? blob_new(&bytes, 1) : -1;

	log_command(m, done, text);
	keeper_tell(&admin->keeper, &answer, &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
	/* whoever did something wants to see what came of it */
	forget_looks(admin, false);
}

/* It takes its time: the answer follows. */
static void
on_reload(struct admin *admin, const struct channel_message *m)
{
	struct asked *asked = &admin->asked[admin->asked_count];

	if (admin->asked_count == RELOADS_ASKED) {
		answer_command(admin, m, false, "too many wait for a reload already");
		return;
	}
	*asked = (struct asked){admin->hooks.reload(admin->hooks.arg), *m};
	if (asked->reload == 0)
		answer_command(admin, m, false, "the daemon is stopping");
	else
		admin->asked_count++;
}

void
admin_reloaded(struct admin *admin, uint64_t number, bool done, const char *text)
{
	unsigned left = 0;

	for (unsigned i = 0; i < admin->asked_count; i++) {
		if (admin->asked[i].reload == number)
			answer_command(admin, &admin->asked[i].command, done, text);
		else
			admin->asked[left++] = admin->asked[i];
	}
	admin->asked_count = left;
}

static void
on_command(struct admin *admin, const struct channel_message *m)
{
	char *text = NULL;
	bool done;

	if (m->command == COMMAND_reload) {
		on_reload(admin, m);
		return;
	}
	if (commands[m->command].run == NULL) /* it shows things: nobody asks us for that */
		return;
	done = commands[m->command].run(admin, m->argument, &text);
	answer_command(admin, m, done, text);
	free(text);
}

/* --- what the admin process says ------------------------------------------ */

static void
on_note(struct admin *admin, const struct channel_message *m)
{
	if (!ratelimit_pass(&admin->notes, loop_now(admin->loop)))
		return;
	if (m->note == CHANNEL_REFUSED)
		log_event(LOG_LEVEL_WARNING, "control_refused", "uid=%" PRId64 " pid=%" PRId64,
			m->uid, m->pid);
	else
		log_event(LOG_LEVEL_WARNING, "http_accept_paused", "error=\"%s\"",
			strerror(m->error));
}

static void
on_request(void *arg, const struct channel_message *m)
{
	struct admin *admin = arg;

	if (m->kind == CHANNEL_LOOK)
		on_look(admin, (enum channel_look)m->look);
	else if (m->kind == CHANNEL_COMMAND)
		on_command(admin, m);
	else if (m->kind == CHANNEL_NOTE)
		on_note(admin, m);
}

static void
on_end(void *arg)
{
	struct admin *admin = arg;

	forget_looks(admin, true);
	admin->asked_count = 0;
}

static void
tell_config(struct admin *admin)
{
	const struct channel_message m = {.kind = CHANNEL_CONFIG};
	const int fds[] = {admin->config_fd, admin->hosts_fd};

	if (admin->config_fd >= 0)
		keeper_tell(&admin->keeper, &m, fds, 2);
}

/* The file's group: its members may ask. */
static gid_t
group_of(const struct door *door)
{
	struct stat st;

	const char *path = listener_path(door->listener);

	return path[0] != '\0' && stat(path, &st) == 0 ? st.st_gid : (gid_t)-1;
}

/* Adds the door's sockets to fds[], of which *n are taken. */
static void
show_door(const struct door *door, enum channel_door which, struct channel_message *m, int *fds,
	size_t *n)
{
	if (door->listener != NULL)
		m->group[which] = group_of(door);
	for (const struct listener *l = door->listener; l != NULL; l = listener_next(l)) {
		m->sockets[which]++;
		fds[(*n)++] = listener_fd(l);
	}
}

/*
 * /proc is opened here: after a change of user it would be closed to the other process. By these
 * it can count our descriptors, and open none.
 */
static bool
greet(void *arg)
{
	struct admin *admin = arg;
	struct channel_message m = {.kind = CHANNEL_HELLO, .pid = getpid()};
	int proc[2] = {open("/proc/self/stat", O_RDONLY | O_CLOEXEC),
		open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	int fds[CHANNEL_FDS_MAX] = {admin->events_fd};
	size_t n = 1;

	m.has_proc = proc[0] >= 0 && proc[1] >= 0;
	for (int i = 0; i < 2 && m.has_proc; i++)
		fds[n++] = proc[i];
	for (int i = 0; i < CHANNEL_DOORS; i++)
		show_door(&admin->doors[i], (enum channel_door)i, &m, fds, &n);
	keeper_tell(&admin->keeper, &m, fds, n);
	for (int i = 0; i < 2; i++)
		if (proc[i] >= 0)
			close(proc[i]);
	tell_config(admin);
	return true;
}

/* --- what is shown of the configuration ----------------------------------- */

static bool
is_loopback(int fd)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	const struct sockaddr_in *in = (const struct sockaddr_in *)&addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr;

	if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
		return false;
	if (addr.ss_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return addr.ss_family == AF_INET6 &&
		(IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
			(IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) &&
				in6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET));
}

static void
warn_if_exposed(const struct admin *admin)
{
	for (const struct listener *l = admin->doors[CHANNEL_HTTP].listener; l != NULL;
		l = listener_next(l))
		if (!is_loopback(listener_fd(l)))
			log_event(LOG_LEVEL_WARNING, "http_exposed",
				"endpoint=%s detail=\"whoever reaches it sees peers, counters and "
				"events\"",
				listener_text(l));
}

static void
replace(int *fd, int by)
{
	if (*fd >= 0)
		close(*fd);
	*fd = by;
}

void
admin_add_config(struct admin *admin, const char *text, size_t len)
{
	/* nobody to show it to, or not all of it */
	if (admin->events_fd < 0 || admin->next_error != 0)
		return;
	if (text == NULL) {
		admin->next_error = ENOMEM;
		return;
	}
	if (admin->next_fd < 0)
		admin->next_fd = blob_new(NULL, 0);
	if (admin->next_fd < 0 || !blob_add(admin->next_fd, text, len))
		admin->next_error = errno;
}

/* Both, or neither. */
static bool
take_config(struct admin *admin, const char *http_hosts)
{
	struct iovec names = {(char *)(uintptr_t)http_hosts, strlen(http_hosts)};
	int hosts = -1;

	if (admin->next_error == 0 && (hosts = blob_new(&names, 1)) < 0)
		admin->next_error = errno;
	if (admin->next_error != 0)
		return false;
	replace(&admin->config_fd, admin->next_fd);
	replace(&admin->hosts_fd, hosts);
	admin->next_fd = -1;
	return true;
}

void
admin_set_config(struct admin *admin, const char *http_hosts, int64_t drain_timeout)
{
	admin->drain_timeout = drain_timeout;
	if (admin->events_fd < 0)
		return;
	warn_if_exposed(admin);
	if (take_config(admin, http_hosts))
		tell_config(admin);
	else
		log_event(LOG_LEVEL_WARNING, "config_not_shown", "error=\"%s\"",
			strerror(admin->next_error));
	replace(&admin->next_fd, -1);
	admin->next_error = 0;
}

/* --- life ----------------------------------------------------------------- */

static bool
open_door(struct admin *admin, enum channel_door which, const struct endpoint *e, char *error,
	size_t size)
{
	struct door *door = &admin->doors[which];

	unsigned count = 0;

	door->side = side_for_listeners(admin->loop, &admin->opts);
	door->listener = listener_new(&door->side, e, error, size);
	for (const struct listener *l = door->listener; l != NULL; l = listener_next(l))
		count++;
	if (count > CHANNEL_DOORS_MAX) { /* as many as one message to the admin process can carry */
		listener_free(door->listener);
		door->listener = NULL;
		snprintf(error, size,
			"the name has too many addresses: %u, and at most %d are served", count,
			CHANNEL_DOORS_MAX);
		errno = E2BIG;
	}
	return door->listener != NULL;
}

static void
knock_later(struct admin *admin)
{
	timer_set(&admin->knock_timer,
		backoff_next(&admin->knock_backoff, KNOCK_MIN_MS, KNOCK_MAX_MS, 0, 0));
}

/* When it cannot be had it is tried again; the log says so once for each reason in turn. */
static void
open_control(struct admin *admin)
{
	const char *path = admin->control.host;
	char error[256], quoted[256];

	log_quote(quoted, sizeof(quoted), path, strlen(path));
	if (open_door(admin, CHANNEL_CONTROL, &admin->control, error, sizeof(error))) {
		log_event(LOG_LEVEL_NOTICE, "control_listening", "socket=%s", quoted);
		return;
	}
	if (strcmp(error, admin->control_error) != 0)
		log_event(LOG_LEVEL_WARNING, "control_off",
			"socket=%s error=\"%s\" detail=\"it is tried again\"", quoted, error);
	memcpy(admin->control_error, error, sizeof(error));
	knock_later(admin);
}

/* The admin process learns of it, now or when it is there. */
static void
serve_control(struct admin *admin)
{
	struct channel_message m = {.kind = CHANNEL_DOOR};
	int fds[CHANNEL_DOORS_MAX];
	size_t n = 0;

	show_door(&admin->doors[CHANNEL_CONTROL], CHANNEL_CONTROL, &m, fds, &n);
	if (admin->keeper.state != KEEPER_OFF)
		keeper_tell(&admin->keeper, &m, fds, n);
	else if (!admin_start(admin))
		knock_later(admin);
}

/*
 * Who has the directory locked is about to bind or remove a socket there: we do not wait for that
 * in the middle of traffic.
 */
static void
knock_timer_cb(struct timer *timer)
{
	struct admin *admin = list_entry(timer, struct admin, knock_timer);

	if (admin->doors[CHANNEL_CONTROL].listener == NULL) {
		if (sockfile_is_locked(admin->control.host)) {
			knock_later(admin);
			return;
		}
		open_control(admin);
	}
	if (admin->doors[CHANNEL_CONTROL].listener != NULL)
		serve_control(admin);
}

/*
 * When a broker is killed, its admin process has the port for a moment longer: a start that follows
 * at once waits for that. Nobody is served yet, so nobody waits for us.
 */
static bool
open_http_door(struct admin *admin, const struct endpoint *e, char *error, size_t size)
{
	const struct timespec pause = {0, HTTP_PAUSE_NS};

	for (int i = 1; !open_door(admin, CHANNEL_HTTP, e, error, size); i++) {
		if (errno != EADDRINUSE || i == HTTP_TRIES)
			return false;
		if (i == 1)
			log_event(LOG_LEVEL_NOTICE, "http_waits",
				"endpoint=%s error=\"%s\" detail=\"for at most %d s\"", e->text,
				error, (int)((int64_t)HTTP_TRIES * HTTP_PAUSE_NS / 1000000000));
		(void)nanosleep(&pause, NULL);
	}
	return true;
}

static bool
open_http(struct admin *admin, const struct endpoint *e)
{
	char error[256];

	if (e->text[0] == '\0')
		return true;
	if (!open_http_door(admin, e, error, sizeof(error))) {
		log_event(LOG_LEVEL_ERROR, "bind_failed", "option=http endpoint=%s error=\"%s\"",
			e->text, error);
		return false;
	}
	for (const struct listener *l = admin->doors[CHANNEL_HTTP].listener; l != NULL;
		l = listener_next(l))
		log_event(LOG_LEVEL_NOTICE, "http_listening", "endpoint=%s", listener_text(l));
	return true;
}

static bool
has_door(const struct admin *admin)
{
	for (int i = 0; i < CHANNEL_DOORS; i++)
		if (admin->doors[i].listener != NULL)
			return true;
	return false;
}

struct admin *
admin_new(struct broker *broker, const char *control, const struct endpoint *http,
	const struct admin_hooks *hooks)
{
	struct admin *admin = mem_new(sizeof(*admin));
	const struct keeper_hooks keeper_hooks = {admin, greet, on_request, on_end};
	struct rlimit fds;

	admin->loop = broker_loop(broker);
	admin->broker = broker;
	admin->hooks = *hooks;
	admin->opts = (struct side_opts){.backlog = BACKLOG, .ipc_mode = 0660};
	admin->started = clock_now_ms();
	admin->events_fd = admin->config_fd = admin->hosts_fd = admin->next_fd = -1;
	admin->max_fds = getrlimit(RLIMIT_NOFILE, &fds) == 0 ? fds.rlim_cur : 0;
	ratelimit_init(&admin->notes, NOTES_PER_SECOND);
	init_looks(admin);
	keeper_init(&admin->keeper, admin->loop, &keeper_hooks);
	timer_init(&admin->knock_timer, admin->loop, knock_timer_cb);
	admin->control.kind = ENDPOINT_IPC;
	snprintf(admin->control.host, sizeof(admin->control.host), "%s", control);
	snprintf(admin->control.text, sizeof(admin->control.text), "ipc://%s", control);
	if (control[0] != '\0')
		open_control(admin);
	if (!open_http(admin, http)) {
		admin_free(admin);
		return NULL;
	}
	if (!has_door(admin) && control[0] == '\0') /* nor will it ever have one */
		return admin;
	admin->events_fd = recent_share();
	if (admin->events_fd < 0) {
		int error = errno;

		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"no shared memory: %s%s\"",
			strerror(error), error == EFBIG ? " (RLIMIT_FSIZE is too low)" : "");
		admin_free(admin);
		return NULL;
	}
	return admin;
}

bool
admin_start(struct admin *admin)
{
	if (!has_door(admin) || keeper_start(&admin->keeper))
		return true;
	log_event(LOG_LEVEL_ERROR, "start_failed",
		"error=\"cannot start the process for HTTP and the control socket: %s\"",
		strerror(errno));
	return false;
}

void
admin_free(struct admin *admin)
{
	if (admin == NULL)
		return;
	timer_stop(&admin->knock_timer);
	keeper_fini(&admin->keeper);
	forget_looks(admin, true);
	for (int i = 0; i < CHANNEL_DOORS; i++)
		listener_free(admin->doors[i].listener);
	replace(&admin->events_fd, -1);
	replace(&admin->config_fd, -1);
	replace(&admin->hosts_fd, -1);
	replace(&admin->next_fd, -1);
	free(admin);
}
