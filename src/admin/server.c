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
	SNAPSHOT_WAIT_MS = 1000, /* a loop that takes longer is not healthy */
	COMMAND_MS = 5000,
	RELOAD_MS = COMMAND_RELOAD_S * 1000, /* it runs in slices, between messages */
	COMMANDS_MAX = 16,                   /* that were not answered yet */
	COMMANDS_PER_SECOND = 400,
	NOTES_PER_SECOND = 10,
	MESSAGES_PER_TURN = 64
};

/* The snapshot that is shown until the next one is needed, and the pages made from it. */
struct shown {
	bool requested;            /* the next one is on its way */
	bool wants_sample;         /* the history takes a sample of the next one */
	struct snapshot *snapshot; /* NULL: there was none yet, or no memory */
	int64_t since_ms, for_ms;
	struct rendered rendered[PAGE_COUNT];
};

/* A request that waits for a snapshot, or for the answer to a command. */
struct pending {
	struct list node;
	struct server *server;
	struct http_request *request;
	const struct page *page;
	struct timer timer;
	uint64_t command; /* its number; 0: a snapshot */
};

/* The control socket or the HTTP port. */
struct server_endpoint {
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
	struct server_endpoint endpoints[CHANNEL_ENDPOINTS];
	struct shown shown[CHANNEL_SNAPSHOTS];
	struct sources sources;
	struct blob hosts_blob;
	char *hosts;         /* http_hosts; never NULL */
	struct list pending; /* struct pending */
	unsigned commands;   /* sent, not answered */
	uint64_t last_command;
	struct ratelimit command_rate, notes;
	struct http_body *no_memory; /* as JSON: made when there was some */
};

/* --- the channel ---------------------------------------------------------- */

/* False: not sent. The queue of a message process that is blocked may be full; we do not wait. */
static bool
send_message(const struct channel_message *m)
{
	return channel_send(KEEPER_CHANNEL_FD, m, NULL, 0);
}

static void
note(struct server *s, const struct channel_message *m)
{
	if (ratelimit_pass(&s->notes, loop_now(s->loop)))
		(void)send_message(m);
}

static void
alive_timer_cb(struct timer *timer)
{
	(void)send_message(&(struct channel_message){.kind = CHANNEL_ALIVE});
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

/* As JSON for a page that programs ask for. `page`: NULL if there is none. */
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
pending_free(struct pending *p)
{
	http_set_owner(p->request, NULL);
	timer_stop(&p->timer);
	list_remove(&p->node);
	free(p);
}

static void
timeout_cb(struct timer *timer)
{
	struct pending *p = list_entry(timer, struct pending, timer);
	struct server *s = p->server;
	struct http_request *r = p->request;
	const struct page *page = p->page;
	bool command = p->command != 0;

	pending_free(p);
	refuse(s, r, page, 503,
		command ? "timed out waiting for the message loop; the command may still be "
			  "executed"
			: "the message loop has not responded for a second");
}

/* NULL without memory: then the request has been answered. */
static struct pending *
wait_for_loop(struct server *s, struct http_request *r, const struct page *page, int64_t ms)
{
	struct pending *p = mem_try_new(sizeof(*p));

	if (p == NULL) {
		refuse(s, r, page, 500, "no memory");
		return NULL;
	}
	p->server = s;
	p->request = r;
	p->page = page;
	timer_init(&p->timer, s->loop, timeout_cb);
	timer_set(&p->timer, ms);
	list_push(&s->pending, &p->node);
	http_set_owner(r, p);
	return p;
}

static void
on_gone(void *arg, struct http_request *r)
{
	(void)arg;
	if (http_owner(r) != NULL)
		pending_free(http_owner(r));
}

/* --- snapshots ------------------------------------------------------------ */

static void
discard_shown(struct shown *shown)
{
	for (size_t i = 0; i < PAGE_COUNT; i++) {
		http_body_unref(shown->rendered[i].body);
		shown->rendered[i].body = NULL;
	}
	snapshot_free(shown->snapshot);
	shown->snapshot = NULL;
}

/* The page is made once for all requests while the snapshot is shown. */
static void
reply_shown(struct server *s, struct shown *shown, struct http_request *r, const struct page *page)
{
	struct rendered *answer = &shown->rendered[page->number];

	if (shown->snapshot == NULL) {
		refuse(s, r, page, 503, "no memory or no descriptor for a snapshot");
		return;
	}
	if (answer->body == NULL)
		*answer = page_handlers[page->number].render(&s->sources, shown->snapshot);
	reply_rendered(s, r, answer);
}

/* A request that waits for it. Answering may end others: start from the head of the list again. */
static struct pending *
next_pending(struct server *s, const struct shown *shown)
{
	for (struct list *n = s->pending.next; n != &s->pending; n = n->next) {
		struct pending *p = list_entry(n, struct pending, node);

		if (p->command == 0 && &s->shown[page_handlers[p->page->number].needs] == shown)
			return p;
	}
	return NULL;
}

static void
on_snapshot(struct server *s, struct shown *shown, int fd)
{
	struct pending *p;

	shown->requested = false;
	discard_shown(shown);
	shown->snapshot = fd >= 0 ? snapshot_map(fd) : NULL;
	shown->since_ms = loop_now(s->loop);
	if (shown->wants_sample && shown->snapshot != NULL) {
		history_add(&s->sources.history, shown->snapshot);
		shown->wants_sample = false;
	}
	while ((p = next_pending(s, shown)) != NULL) {
		struct http_request *r = p->request;
		const struct page *page = p->page;

		pending_free(p);
		reply_shown(s, shown, r, page);
	}
}

static void
ask_snapshot(struct server *s, enum channel_snapshot which)
{
	struct shown *shown = &s->shown[which];

	if (!shown->requested)
		shown->requested = send_message(
			&(struct channel_message){.kind = CHANNEL_ASK, .snapshot = which});
}

/*
 * For the charts of the status page, even while nobody looks at it. If there are too many proxies
 * no samples are asked for, until another request's snapshot shows that there are fewer.
 */
static void
sample_timer_cb(struct timer *timer)
{
	struct server *s = list_entry(timer, struct server, sample_timer);

	timer_set(timer, HISTORY_MS);
	s->shown[CHANNEL_COUNTERS].wants_sample = true;
	if (!s->sources.history.too_many)
		ask_snapshot(s, CHANNEL_COUNTERS);
}

static void
show(struct server *s, enum channel_snapshot which, struct http_request *r, const struct page *page)
{
	struct shown *shown = &s->shown[which];

	if (shown->snapshot != NULL && loop_now(s->loop) - shown->since_ms < shown->for_ms) {
		reply_shown(s, shown, r, page);
		return;
	}
	if (wait_for_loop(s, r, page, SNAPSHOT_WAIT_MS) != NULL)
		ask_snapshot(s, which);
}

/* --- commands ------------------------------------------------------------- */

static struct pending *
pending_command(struct server *s, uint64_t command)
{
	for (struct list *n = s->pending.next; n != &s->pending; n = n->next) {
		struct pending *p = list_entry(n, struct pending, node);

		if (p->command == command)
			return p;
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
	struct pending *p = m->number != 0 ? pending_command(s, m->number) : NULL;
	struct blob text = {NULL, 0};

	if (s->commands > 0)
		s->commands--;
	/* show the effect at once */
	for (size_t i = 0; i < CHANNEL_SNAPSHOTS; i++)
		discard_shown(&s->shown[i]);
	if (fd >= 0)
		(void)blob_map(&text, fd);
	if (p != NULL) {
		struct http_request *r = p->request;
		const struct page *page = p->page;

		pending_free(p);
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
	struct pending *p;

	snprintf(m.argument, sizeof(m.argument), "%s", argument);
	if (s->commands >= COMMANDS_MAX || !ratelimit_pass(&s->command_rate, loop_now(s->loop)) ||
		!send_message(&m)) {
		refuse(s, r, page, 503, "too many commands pending");
		return;
	}
	s->commands++;
	s->last_command++;
	p = wait_for_loop(s, r, page, page->number == COMMAND_reload ? RELOAD_MS : COMMAND_MS);
	if (p != NULL)
		p->command = m.number;
}

/* --- requests ------------------------------------------------------------- */

/*
 * The mode of the socket's file allowed the connection already. This covers a socket that was made
 * more open than it should be, and a descriptor that was passed on.
 */
static bool
may_command(const struct server_endpoint *from, const struct http_request *r, struct http_peer *who)
{
	return http_peer(r, who) &&
		(who->uid == 0 || who->uid == geteuid() || http_peer_in_group(r, who, from->group));
}

/* NULL, or why the host name is refused. An HTTP/1.0 client without one is not a browser. */
static const char *
wrong_host(const struct server *s, const struct http_request *r)
{
	const struct request_head *q = http_request(r);

	if (!q->has_host)
		return q->minor > 0 ? "missing header: Host" : NULL;
	if (hosts_mean_us(q->host, http_local(r), s->hosts,
		    http_is_to_any(r) ? hosts_is_of_machine : NULL))
		return NULL;
	return "host name not allowed (Host); add it to http_hosts in [broker]";
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
		show(s, (enum channel_snapshot)h->needs, r, page);
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
is_allowed(struct server_endpoint *from, struct http_request *r, const struct page *page,
	struct http_peer *who)
{
	struct server *s = from->server;
	const char *wrong;

	if (from == &s->endpoints[CHANNEL_CONTROL]) {
		if (may_command(from, r, who))
			return true;
		note(s,
			&(struct channel_message){.kind = CHANNEL_NOTE,
				.note = CHANNEL_REFUSED,
				.uid = who->uid,
				.pid = who->pid});
		refuse(s, r, page, 403,
			"permission denied: only root, the broker's user and members of the "
			"socket's group may use the socket");
		return false;
	}
	wrong = wrong_host(s, r);
	if (wrong != NULL)
		refuse(s, r, page, http_request(r)->has_host ? 421 : 400, wrong);
	else if (page != NULL && page->control_only)
		refuse(s, r, page, 403,
			"permission denied: only available over the control socket");
	else
		return true;
	return false;
}

static void
on_request(void *arg, struct http_request *r)
{
	struct server_endpoint *from = arg;
	struct server *s = from->server;
	struct http_peer who = {0};
	const char *argument = "";
	const struct page *page = page_find(http_request(r)->path, &argument);

	if (!is_allowed(from, r, page, &who))
		return;
	if (page == NULL)
		refuse(s, r, NULL, 404, "no such page");
	else if (page->post != (http_request(r)->method == REQUEST_POST))
		refuse(s, r, page, 405,
			page->post ? "method not allowed: use POST"
				   : "method not allowed: use GET");
	else if (page->argument != NULL && argument[0] == '\0')
		refuse(s, r, page, 400, "missing argument: use PATH/ARGUMENT");
	else if (strlen(argument) >= CHANNEL_ARGUMENT_MAX)
		refuse(s, r, page, 400, "argument too long");
	else
		answer(s, r, page, argument, &who);
}

static void
on_accept_error(void *arg, int error)
{
	struct server_endpoint *from = arg;

	note(from->server,
		&(struct channel_message){
			.kind = CHANNEL_NOTE, .note = CHANNEL_ACCEPT_PAUSED, .error = error});
}

/* --- messages of the message process -------------------------------------- */

static bool
open_endpoint(struct server *s, const struct channel_message *m, enum channel_endpoint which,
	const int *fds)
{
	struct server_endpoint *e = &s->endpoints[which];
	const struct http_hooks hooks = {e, on_request, on_gone, on_accept_error};

	if (m->sockets[which] == 0)
		return true;
	if (e->http != NULL)
		return false;
	e->server = s;
	e->group = (gid_t)m->group[which];
	e->http = http_new(s->loop, &hooks);
	for (uint32_t i = 0; i < m->sockets[which]; i++)
		if (e->http == NULL || !http_listen(e->http, fds[i]))
			return false;
	if (which == CHANNEL_HTTP)
		sample_timer_cb(&s->sample_timer);
	return true;
}

/* Their sockets are fds[count]. They stay open until the process ends. */
static bool
open_endpoints(struct server *s, const struct channel_message *m, const int *fds, size_t count)
{
	return count == (size_t)m->sockets[CHANNEL_CONTROL] + m->sockets[CHANNEL_HTTP] &&
		open_endpoint(s, m, CHANNEL_CONTROL, fds) &&
		open_endpoint(s, m, CHANNEL_HTTP, fds + m->sockets[CHANNEL_CONTROL]);
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
	return open_endpoints(s, m, fds + at, count - at);
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
	case CHANNEL_ENDPOINT:
		return open_endpoints(s, m, fds, count);
	case CHANNEL_CONFIG:
		on_config(s, fds, count);
		break;
	case CHANNEL_SNAPSHOT:
		if (m->snapshot >= CHANNEL_SNAPSHOTS)
			return false;
		on_snapshot(s, &s->shown[m->snapshot], count > 0 ? fds[0] : -1);
		break;
	case CHANNEL_ANSWER:
		on_answer(s, m, count > 0 ? fds[0] : -1);
		break;
	case CHANNEL_ALIVE:
	case CHANNEL_ASK:
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

	s->shown[CHANNEL_COUNTERS].for_ms = SNAPSHOT_COUNTERS_MS;
	s->shown[CHANNEL_PEERS].for_ms = SNAPSHOT_PEERS_MS;
	s->sources.stat_fd = s->sources.fds_fd = -1;
	s->sources.boot_time = boot_time;
	s->hosts = mem_strdup("");
	s->no_memory = mem_must(http_body_new(sorry, strlen(sorry)));
	list_init(&s->pending);
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
	for (int i = 0; i < CHANNEL_ENDPOINTS; i++)
		http_free(s->endpoints[i].http);
	for (int i = 0; i < CHANNEL_SNAPSHOTS; i++)
		discard_shown(&s->shown[i]);
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
