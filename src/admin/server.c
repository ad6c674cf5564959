/* SPDX-License-Identifier: MIT */
#include "admin/server.h"

#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/confine.h"
#include "admin/hosts.h"
#include "admin/keeper.h"
#include "admin/pages.h"
#include "admin/process.h"
#include "admin/view.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/ratelimit.h"
#include "base/recent.h"
#include "net/log_watch.h"

enum {
	ALIVE_MS = 1000,
	LATE_MS = 1000, /* the loop turns more often than that, or is not healthy */
	COMMAND_MS = 5000,
	RELOAD_MS = COMMAND_RELOAD_S * 1000, /* it is done in slices, between messages */
	COMMANDS_MAX = 16,                   /* that the loop has not answered */
	COMMANDS_PER_SECOND = 400,
	NOTES_PER_SECOND = 10,
	MESSAGES_PER_TURN = 64
};

/* What is shown until the next snapshot. */
struct look {
	bool asked;
	bool wants_sample;      /* of the history, of the next one */
	struct snapshot *shown; /* NULL: there was none, or no memory */
	int64_t shown_at, shown_for;
	struct rendered rendered[PAGE_COUNT];
};

/* A request that waits for a snapshot, or for a command to be done. */
struct waiter {
	struct list node;
	struct server *server;
	struct http_request *request;
	const struct page *page;
	struct timer timer;
	uint64_t command; /* its number; 0: a snapshot */
};

struct door {
	struct server *server;
	struct http_server *http;
	gid_t group;
};

struct server {
	struct loop *loop;
	struct log_watch log_watch;
	struct watch *watch;
	struct timer alive_timer;
	struct timer sample_timer; /* runs once there is an HTTP port */
	int status;                /* to exit with */
	struct door doors[CHANNEL_DOORS];
	struct look looks[CHANNEL_LOOKS];
	struct sources sources;
	struct blob hosts_blob;
	char *hosts; /* http_hosts; never NULL */
	struct list waiting;
	unsigned commands; /* sent, not answered */
	uint64_t last_command;
	struct ratelimit command_rate, notes;
	struct http_body *no_memory; /* as JSON: made when there was some */
};

/* --- the channel ---------------------------------------------------------- */

/* A message process that stands still may have its queue full: it is not told, and nobody waits. */
static bool
tell(const struct channel_message *m)
{
	return channel_send(KEEPER_CHANNEL_FD, m, NULL, 0);
}

static void
note(struct server *s, const struct channel_message *m)
{
	if (ratelimit_pass(&s->notes, loop_now(s->loop)))
		(void)tell(m);
}

static void
alive_timer_cb(struct timer *timer)
{
	(void)tell(&(struct channel_message){.kind = CHANNEL_ALIVE});
	timer_set(timer, ALIVE_MS);
}

/* --- answers -------------------------------------------------------------- */

static void
reply_text(struct server *s, struct http_request *r, int status, const char *type, char *text,
	const char *allow)
{
	struct http_body *body = http_body_new(text, text != NULL ? strlen(text) : 0);

	http_reply(r, body != NULL ? status : 500, body != NULL ? type : JSON_TYPE,
		body != NULL ? body : s->no_memory, allow, NULL);
	http_body_unref(body);
}

/* For programs as JSON, where they ask for it. `page`: NULL when there is none. */
static void
refuse(struct server *s, struct http_request *r, const struct page *page, int status,
	const char *why)
{
	const char *allow = status != 405 || page == NULL ? NULL
		: page->post                              ? "POST"
							  : "GET, HEAD";
	char *text = NULL;

	if (page != NULL && page_is_command(page))
		reply_text(s, r, status, JSON_TYPE, view_text("error", why, strlen(why)), allow);
	else
		reply_text(s, r, status, TEXT_TYPE, asprintf(&text, "%s\n", why) > 0 ? text : NULL,
			allow);
}

static void
reply_rendered(struct server *s, struct http_request *r, const struct rendered *answer)
{
	if (answer->body != NULL)
		http_reply(r, answer->status, answer->type, answer->body, NULL, answer->policy);
	else
		http_reply(r, 500, JSON_TYPE, s->no_memory, NULL, NULL);
}

/* --- requests that wait --------------------------------------------------- */

static void
waiter_free(struct waiter *w)
{
	http_set_owner(w->request, NULL);
	timer_stop(&w->timer);
	list_remove(&w->node);
	free(w);
}

static void
late_cb(struct timer *timer)
{
	struct waiter *w = list_entry(timer, struct waiter, timer);
	struct server *s = w->server;
	struct http_request *r = w->request;
	const struct page *page = w->page;
	bool command = w->command != 0;

	waiter_free(w);
	refuse(s, r, page, 503,
		command ? "the message loop has not answered; it may still do it"
			: "the message loop has not turned for a second");
}

/* NULL without memory; the request is answered then. */
static struct waiter *
wait_for_loop(struct server *s, struct http_request *r, const struct page *page, int64_t ms)
{
	struct waiter *w = mem_try_new(sizeof(*w));

	if (w == NULL) {
		refuse(s, r, page, 500, "no memory");
		return NULL;
	}
	w->server = s;
	w->request = r;
	w->page = page;
	timer_init(&w->timer, s->loop, late_cb);
	timer_set(&w->timer, ms);
	list_push(&s->waiting, &w->node);
	http_set_owner(r, w);
	return w;
}

static void
on_gone(void *arg, struct http_request *r)
{
	(void)arg;
	if (http_owner(r) != NULL)
		waiter_free(http_owner(r));
}

/* --- snapshots ------------------------------------------------------------ */

static void
forget_shown(struct look *look)
{
	for (size_t i = 0; i < PAGE_COUNT; i++) {
		http_body_unref(look->rendered[i].body);
		look->rendered[i].body = NULL;
	}
	snapshot_free(look->shown);
	look->shown = NULL;
}

/* Made once for all that ask for it while the snapshot is shown. */
static void
reply_shown(struct server *s, struct look *look, struct http_request *r, const struct page *page)
{
	struct rendered *answer = &look->rendered[page->number];

	if (look->shown == NULL) {
		refuse(s, r, page, 503, "no memory, or no descriptor, for a look at the broker");
		return;
	}
	if (answer->body == NULL)
		*answer = page_handlers[page->number].render(&s->sources, look->shown);
	reply_rendered(s, r, answer);
}

/* Those that wait for it. One answer may end other requests, so the list is read anew each time. */
static struct waiter *
next_for(struct server *s, const struct look *look)
{
	for (struct list *n = s->waiting.next; n != &s->waiting; n = n->next) {
		struct waiter *w = list_entry(n, struct waiter, node);

		if (w->command == 0 && &s->looks[page_handlers[w->page->number].needs] == look)
			return w;
	}
	return NULL;
}

static void
on_snapshot(struct server *s, struct look *look, int fd)
{
	struct waiter *w;

	look->asked = false;
	forget_shown(look);
	look->shown = fd >= 0 ? snapshot_map(fd) : NULL;
	look->shown_at = loop_now(s->loop);
	if (look->wants_sample && look->shown != NULL) {
		history_add(&s->sources.history, look->shown);
		look->wants_sample = false;
	}
	while ((w = next_for(s, look)) != NULL) {
		struct http_request *r = w->request;
		const struct page *page = w->page;

		waiter_free(w);
		reply_shown(s, look, r, page);
	}
}

static void
ask_for_look(struct server *s, enum channel_look which)
{
	struct look *look = &s->looks[which];

	if (!look->asked)
		look->asked = tell(&(struct channel_message){.kind = CHANNEL_LOOK, .look = which});
}

/*
 * For the status page, also while nobody looks at it. With too many proxies the message process is
 * left alone, until somebody's look shows that they are fewer.
 */
static void
sample_timer_cb(struct timer *timer)
{
	struct server *s = list_entry(timer, struct server, sample_timer);

	timer_set(timer, HISTORY_MS);
	s->looks[CHANNEL_COUNTERS].wants_sample = true;
	if (!s->sources.history.too_many)
		ask_for_look(s, CHANNEL_COUNTERS);
}

static void
show(struct server *s, enum channel_look which, struct http_request *r, const struct page *page)
{
	struct look *look = &s->looks[which];

	if (look->shown != NULL && loop_now(s->loop) - look->shown_at < look->shown_for) {
		reply_shown(s, look, r, page);
		return;
	}
	if (wait_for_loop(s, r, page, LATE_MS) != NULL)
		ask_for_look(s, which);
}

/* --- commands ------------------------------------------------------------- */

static struct waiter *
waiter_of(struct server *s, uint64_t command)
{
	for (struct list *n = s->waiting.next; n != &s->waiting; n = n->next) {
		struct waiter *w = list_entry(n, struct waiter, node);

		if (w->command == command)
			return w;
	}
	return NULL;
}

static void
reply_command(struct server *s, struct http_request *r, const struct page *page, bool done,
	const struct blob *text)
{
	const char *word = page->path + strlen(COMMAND_PREFIX);
	const char *said = text->bytes != NULL ? text->bytes : done ? word : "refused";
	size_t len = text->bytes != NULL ? text->len : strlen(said);

	reply_text(s, r, done ? 200 : 409, JSON_TYPE, view_text(done ? "done" : "error", said, len),
		NULL);
}

static void
on_answer(struct server *s, const struct channel_message *m, int fd)
{
	struct waiter *w = m->number != 0 ? waiter_of(s, m->number) : NULL;
	struct blob text = {NULL, 0};

	if (s->commands > 0)
		s->commands--;
	/* whoever did something wants to see what came of it */
	for (size_t i = 0; i < CHANNEL_LOOKS; i++)
		forget_shown(&s->looks[i]);
	if (fd >= 0)
		(void)blob_map(&text, fd);
	if (w != NULL) {
		struct http_request *r = w->request;
		const struct page *page = w->page;

		waiter_free(w);
		reply_command(s, r, page, m->done, &text);
	}
	blob_unmap(&text);
}

static void
send_command(struct server *s, struct http_request *r, const struct page *page,
	const char *argument, const struct http_peer *who)
{
	struct channel_message m = {.kind = CHANNEL_COMMAND,
		.command = page->number,
		.number = s->last_command + 1,
		.uid = who->uid,
		.pid = who->pid};
	struct waiter *w;

	snprintf(m.argument, sizeof(m.argument), "%s", argument);
	if (s->commands >= COMMANDS_MAX || !ratelimit_pass(&s->command_rate, loop_now(s->loop)) ||
		!tell(&m)) {
		refuse(s, r, page, 503, "the message loop has many commands to do already");
		return;
	}
	s->commands++;
	s->last_command++;
	w = wait_for_loop(s, r, page, page->number == COMMAND_reload ? RELOAD_MS : COMMAND_MS);
	if (w != NULL)
		w->command = m.number;
}

/* --- requests ------------------------------------------------------------- */

/*
 * The file's mode let it in already; but a socket that was made more open than it should be, or
 * a descriptor that was handed on, is not enough.
 */
static bool
may_command(const struct door *door, const struct http_request *r, struct http_peer *who)
{
	return http_peer(r, who) &&
		(who->uid == 0 || who->uid == geteuid() || http_peer_in_group(r, who, door->group));
}

/* NULL, or why this name is not answered to. An HTTP/1.0 client that names none is no browser. */
static const char *
wrong_host(const struct server *s, const struct http_request *r)
{
	const struct request_head *q = http_request(r);

	if (!q->has_host)
		return q->minor > 0 ? "the field Host is missing" : NULL;
	if (hosts_mean_us(q->host, http_local(r), s->hosts,
		    http_is_to_any(r) ? hosts_is_of_machine : NULL))
		return NULL;
	return "this port does not answer to that name (Host); add it to http_hosts in [broker]";
}

static void
answer(struct server *s, struct http_request *r, const struct page *page, const char *argument,
	const struct http_peer *who)
{
	const struct page_handler *h = &page_handlers[page->number];
	struct rendered made;

	switch (h->needs) {
	case NEEDS_COUNTERS:
	case NEEDS_PEERS:
		show(s, (enum channel_look)h->needs, r, page);
		break;
	case NEEDS_LOOP:
		send_command(s, r, page, argument, who);
		break;
	case NEEDS_NOTHING:
		s->sources.argument = argument;
		made = h->render(&s->sources, NULL);
		reply_rendered(s, r, &made);
		http_body_unref(made.body);
		break;
	}
}

static bool
is_allowed(
	struct door *door, struct http_request *r, const struct page *page, struct http_peer *who)
{
	struct server *s = door->server;
	const char *wrong;

	if (door == &s->doors[CHANNEL_CONTROL]) {
		if (may_command(door, r, who))
			return true;
		note(s,
			&(struct channel_message){.kind = CHANNEL_NOTE,
				.note = CHANNEL_REFUSED,
				.uid = who->uid,
				.pid = who->pid});
		refuse(s, r, page, 403,
			"this user may not use the socket; root, the broker's user and members of "
			"the socket's group may");
		return false;
	}
	wrong = wrong_host(s, r);
	if (wrong != NULL)
		refuse(s, r, page, http_request(r)->has_host ? 421 : 400, wrong);
	else if (page != NULL && page->control_only)
		refuse(s, r, page, 403, "only over the control socket");
	else
		return true;
	return false;
}

static void
on_request(void *arg, struct http_request *r)
{
	struct door *door = arg;
	struct server *s = door->server;
	struct http_peer who = {0};
	const char *argument = "";
	const struct page *page = page_find(http_request(r)->path, &argument);

	if (!is_allowed(door, r, page, &who))
		return;
	if (page == NULL)
		refuse(s, r, NULL, 404, "there is no such page");
	else if (page->post != (http_request(r)->method == REQUEST_POST))
		refuse(s, r, page, 405, page->post ? "this wants a POST" : "this wants a GET");
	else if (page->argument != NULL && argument[0] == '\0')
		refuse(s, r, page, 400, "an argument is missing after the path and a '/'");
	else if (strlen(argument) >= CHANNEL_ARGUMENT_MAX)
		refuse(s, r, page, 400, "the argument is too long");
	else
		answer(s, r, page, argument, &who);
}

static void
on_accept_error(void *arg, int error)
{
	struct door *door = arg;

	note(door->server,
		&(struct channel_message){
			.kind = CHANNEL_NOTE, .note = CHANNEL_ACCEPT_PAUSED, .error = error});
}

/* --- what the message process says ---------------------------------------- */

static bool
open_door(
	struct server *s, const struct channel_message *m, enum channel_door which, const int *fds)
{
	struct door *door = &s->doors[which];
	const struct http_hooks hooks = {door, on_request, on_gone, on_accept_error};

	if (m->sockets[which] == 0)
		return true;
	if (door->http != NULL)
		return false;
	door->server = s;
	door->group = (gid_t)m->group[which];
	door->http = http_new(s->loop, &hooks);
	for (uint32_t i = 0; i < m->sockets[which]; i++)
		if (door->http == NULL || !http_listen(door->http, fds[i]))
			return false;
	if (which == CHANNEL_HTTP)
		sample_timer_cb(&s->sample_timer);
	return true;
}

/* Their sockets are fds[count]. These stay open, or the process ends. */
static bool
open_doors(struct server *s, const struct channel_message *m, const int *fds, size_t count)
{
	return count == (size_t)m->sockets[CHANNEL_CONTROL] + m->sockets[CHANNEL_HTTP] &&
		open_door(s, m, CHANNEL_CONTROL, fds) &&
		open_door(s, m, CHANNEL_HTTP, fds + m->sockets[CHANNEL_CONTROL]);
}

static bool
on_hello(struct server *s, const struct channel_message *m, const int *fds, size_t count)
{
	size_t at = 1 + 2 * (m->has_proc != 0);

	if (count < at || m->pid != getppid() || !recent_attach(fds[0]))
		return false;
	if (m->has_proc) {
		s->sources.stat_fd = fds[1];
		s->sources.fds_fd = fds[2];
	}
	return open_doors(s, m, fds + at, count - at);
}

/* Without memory the old one is shown. */
static void
on_config(struct server *s, const int *fds, size_t count)
{
	struct blob config, hosts;
	char *names;

	if (count != 2 || !blob_map(&config, fds[0]))
		return;
	if (!blob_map(&hosts, fds[1])) {
		blob_unmap(&config);
		return;
	}
	names = strndup(hosts.bytes != NULL ? hosts.bytes : "", hosts.len);
	blob_unmap(&hosts);
	if (names == NULL) {
		blob_unmap(&config);
		return;
	}
	free(s->hosts);
	s->hosts = names;
	blob_unmap(&s->sources.config);
	s->sources.config = config;
}

static bool
on_message(struct server *s, const struct channel_message *m, const int *fds, size_t count)
{
	switch ((enum channel_kind)m->kind) {
	case CHANNEL_HELLO:
		return on_hello(s, m, fds, count);
	case CHANNEL_DOOR:
		return open_doors(s, m, fds, count);
	case CHANNEL_CONFIG:
		on_config(s, fds, count);
		break;
	case CHANNEL_SNAPSHOT:
		if (m->look >= CHANNEL_LOOKS)
			return false;
		on_snapshot(s, &s->looks[m->look], count > 0 ? fds[0] : -1);
		break;
	case CHANNEL_ANSWER:
		on_answer(s, m, count > 0 ? fds[0] : -1);
		break;
	case CHANNEL_ALIVE:
	case CHANNEL_LOOK:
	case CHANNEL_COMMAND:
	case CHANNEL_NOTE:
	case CHANNEL_KINDS:
		return false;
	}
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	return true;
}

static void
on_channel_cb(void *arg, unsigned events)
{
	struct server *s = arg;
	struct channel_message m;
	int fds[CHANNEL_FDS_MAX];
	size_t count;

	(void)events;
	for (int i = 0; i < MESSAGES_PER_TURN; i++) {
		switch (channel_receive(KEEPER_CHANNEL_FD, &m, fds, &count)) {
		case CHANNEL_NOTHING:
			return;
		case CHANNEL_GOT:
			if (on_message(s, &m, fds, count))
				break;
			s->status = EXIT_FAILURE;
			loop_stop(s->loop);
			return;
		case CHANNEL_ENDED:
		case CHANNEL_BROKEN:
			loop_stop(s->loop);
			return;
		}
	}
}

/* --- life ----------------------------------------------------------------- */

bool
server_is_wanted(char *const *argv)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return argv[0] != NULL && argv[1] == NULL && strcmp(argv[0], KEEPER_TITLE) == 0 &&
		getsockopt(KEEPER_CHANNEL_FD, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
		type == SOCK_SEQPACKET;
}

static void
init(struct server *s, double boot_time)
{
	char *sorry = mem_strdup("{\"error\":\"no memory\"}");

	s->looks[CHANNEL_COUNTERS].shown_for = SNAPSHOT_COUNTERS_MS;
	s->looks[CHANNEL_PEERS].shown_for = SNAPSHOT_PEERS_MS;
	s->sources.stat_fd = s->sources.fds_fd = -1;
	s->sources.boot_time = boot_time;
	s->hosts = mem_strdup("");
	s->no_memory = mem_must(http_body_new(sorry, strlen(sorry)));
	list_init(&s->waiting);
	ratelimit_init(&s->command_rate, COMMANDS_PER_SECOND);
	ratelimit_init(&s->notes, NOTES_PER_SECOND);
	page_policy(s->sources.policy);
	s->loop = mem_must(loop_new());
	log_watch_init(&s->log_watch, s->loop);
	s->watch = mem_must(watch_new(s->loop, KEEPER_CHANNEL_FD, on_channel_cb, s));
	if (!watch_set(s->watch, WATCH_IN))
		mem_must(NULL);
	timer_init(&s->sample_timer, s->loop, sample_timer_cb);
	timer_init(&s->alive_timer, s->loop, alive_timer_cb);
	timer_set(&s->alive_timer, ALIVE_MS);
}

static void
fini(struct server *s)
{
	for (int i = 0; i < CHANNEL_DOORS; i++)
		http_free(s->doors[i].http);
	for (int i = 0; i < CHANNEL_LOOKS; i++)
		forget_shown(&s->looks[i]);
	http_body_unref(s->no_memory);
	blob_unmap(&s->sources.config);
	free(s->hosts);
	timer_stop(&s->alive_timer);
	timer_stop(&s->sample_timer);
	history_clear(&s->sources.history);
	watch_free(s->watch);
	log_watch_fini(&s->log_watch);
	loop_free(s->loop);
}

int
server_run(void)
{
	double boot_time = process_boot_time();
	struct server *s;
	int status;

	if (!confine_alone() || sodium_init() < 0)
		return EXIT_FAILURE;
	log_open(); /* it opens a descriptor of its own */
	if (!confine())
		return EXIT_FAILURE;
	s = mem_new(sizeof(*s));
	init(s, boot_time);
	loop_run(s->loop);
	fini(s);
	status = s->status;
	free(s);
	return status;
}
