#include "daemon/admin.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/commands.h"
#include "base/log.h"
#include "base/mem.h"
#include "admin/metrics.h"
#include "admin/page.h"
#include "admin/view.h"
#include "net/http.h"
#include "net/listener.h"
#include "net/mailbox.h"

enum {
	COUNTERS_MS = 100,   /* so long a snapshot is shown ... */
	PEERS_MS = 500,      /* ... and one with all connections, which costs more */
	LATE_MS = 1000,      /* the loop turns more often than that, or is not healthy */
	COMMAND_MS = 5000,   /* reload reads files */
	COMMANDS_MAX = 16,   /* that the loop has not answered */
	ARGUMENT_MAX = 128,
	BACKLOG = 64
};

#define TEXT_TYPE "text/plain; charset=utf-8"
#define JSON_TYPE "application/json"
#define HTML_TYPE "text/html; charset=utf-8"

/* --- what goes back and forth between the threads ------------------------------- */

enum letter_kind { LETTER_LOOK, LETTER_COMMAND, LETTER_CONFIG, LETTER_STOP };

/* Belongs to whoever has it: the thread that posted it must not touch it any more. */
struct letter {
	struct list node;
	enum letter_kind kind;
};

struct config_letter {
	struct letter letter;
	char *text;
};

struct page;
struct waiter;

struct command_letter {
	struct letter letter;
	const struct page *page;
	char argument[ARGUMENT_MAX];
	bool done;
	char *text;            /* why not, or a report; or NULL */
	struct waiter *waiter; /* NULL: it waited too long. The admin thread's alone */
};

/* An answer, ready made. */
struct rendered {
	int status;
	const char *type;
	struct http_body *body; /* NULL: not made yet */
	const char *policy;     /* http_reply's */
};

enum { PAGE_COUNT = 4 + COMMAND_COUNT };

/* A letter that comes back with a snapshot, and what is shown until the next one. */
struct look {
	struct letter letter;
	struct task task; /* the message loop's, at the end of its turn */
	struct admin *admin;
	bool peers;
	struct snapshot *taken; /* in the letter; NULL: no memory */
	bool under_way;
	struct snapshot *shown;
	int64_t shown_at, shown_for;
	struct rendered rendered[PAGE_COUNT];
};

/* A request that waits for a letter. */
struct waiter {
	struct list node;
	struct admin *admin;
	struct http_request *request;
	const struct page *page;
	struct timer timer;
	struct command_letter *command; /* NULL: it waits for a snapshot */
	struct http_peer who;
};

/* One listening socket. The listener binds and cleans up; evhttp accepts. */
struct door {
	struct admin *admin;
	struct side side;
	struct listener *listener; /* NULL: closed */
	struct http_server *http;
	gid_t group;
};

enum { DOOR_HTTP, DOOR_CONTROL, DOORS };

enum { LOOK_COUNTERS, LOOK_PEERS, LOOKS };

struct admin {
	struct broker *broker; /* the message loop's, as are the hooks */
	struct admin_hooks hooks;
	int64_t drain_timeout;
	struct mailbox *orders; /* read by the message loop */
	struct mailbox *inbox;  /* read by the admin thread; the rest is its own, too */
	struct letter stop;
	struct loop *loop;
	pthread_t thread;
	bool running;
	int64_t started;
	struct side_opts opts;
	struct door doors[DOORS];
	struct look looks[LOOKS];
	struct list waiting; /* struct waiter */
	unsigned commands;   /* sent, not answered */
	char *config_text;
	char policy[PAGE_POLICY_MAX]; /* of the status page */
};

/* --- pages --------------------------------------------------------------------- */

enum needs {
	NEEDS_COUNTERS = LOOK_COUNTERS, /* a snapshot */
	NEEDS_PEERS = LOOK_PEERS,       /* one with all connections */
	NEEDS_NOTHING,
	NEEDS_LOOP /* the message loop runs it */
};

struct handler {
	enum needs needs;
	/* makes the answer, of the snapshot that it needs */
	struct rendered (*render)(struct admin *admin, const struct snapshot *s);
	/* does it: true, or false with why not in *text (malloc); *text may be a report */
	bool (*run)(struct admin *admin, const char *argument, char **text);
};

struct page {
	const char *path;
	bool post;
	bool control_only;
	const char *argument; /* what stands behind the path and a '/'; NULL: nothing */
	const struct handler *handler;
};

static struct rendered
render_json(char *json)
{
	if (json == NULL)
		json = mem_strdup("{\"error\":\"no memory\"}");
	return (struct rendered){200, JSON_TYPE, http_body_new(json, strlen(json)), NULL};
}

static struct rendered
render_metrics(struct admin *admin, const struct snapshot *s)
{
	size_t len;
	char *text = metrics_text(s, &len);

	(void)admin;
	return (struct rendered){200, METRICS_TYPE, http_body_new(text, len), NULL};
}

static struct rendered
render_healthz(struct admin *admin, const struct snapshot *s)
{
	(void)admin, (void)s; /* that there is a snapshot is all */
	return (struct rendered){200, TEXT_TYPE, http_body_new(mem_strdup("ok\n"), 3), NULL};
}

static struct rendered
render_readyz(struct admin *admin, const struct snapshot *s)
{
	char *text = NULL;
	size_t len;
	FILE *out = mem_must(open_memstream(&text, &len));
	bool ready = snapshot_is_ready(s, out);

	(void)admin;
	if (ready)
		fputs("ready\n", out);
	fclose(out);
	return (struct rendered){ready ? 200 : 503, TEXT_TYPE, http_body_new(mem_must(text), len),
		NULL};
}

static struct rendered
render_status(struct admin *admin, const struct snapshot *s)
{
	return render_json(view_status(s, admin->started));
}

static struct rendered
render_peers(struct admin *admin, const struct snapshot *s)
{
	(void)admin;
	return render_json(view_peers(s));
}

static struct rendered
render_stats(struct admin *admin, const struct snapshot *s)
{
	(void)admin;
	return render_json(view_stats(s));
}

/* Not of a snapshot: they can be seen when the message loop does not turn. */
static struct rendered
render_events(struct admin *admin, const struct snapshot *s)
{
	(void)admin, (void)s;
	return render_json(view_events());
}

static struct rendered
render_page(struct admin *admin, const struct snapshot *s)
{
	char *text = mem_new(page_html_len);

	(void)s;
	memcpy(text, page_html, page_html_len);
	return (struct rendered){
		200, HTML_TYPE, http_body_new(text, page_html_len), admin->policy};
}

static struct rendered
render_config(struct admin *admin, const struct snapshot *s)
{
	(void)s;
	return render_json(view_text("config", admin->config_text));
}

static struct rendered
render_version(struct admin *admin, const struct snapshot *s)
{
	(void)admin, (void)s;
	return render_json(view_text("version", PACKAGE_VERSION));
}

/* What the broker says of a command: NULL, or why not. */
static bool
was_done(const char *why_not, char **text)
{
	*text = why_not != NULL ? mem_strdup(why_not) : NULL;
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
	return was_done(broker_drain_peer(admin->broker, peer_id_of(argument), admin->drain_timeout),
		text);
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
run_reload(struct admin *admin, const char *argument, char **text)
{
	(void)argument;
	return admin->hooks.reload(admin->hooks.arg, text);
}

/* The level is anybody's to change, at once. */
static bool
run_log_level(struct admin *admin, const char *argument, char **text)
{
	enum log_level level;

	(void)admin;
	if (!log_level_parse(argument, &level))
		return was_done("there is no such level; there are error, warning, notice, info, debug",
			text);
	log_set_level(level);
	return was_done(NULL, text);
}

enum { PAGE_METRICS = COMMAND_COUNT, PAGE_HEALTHZ, PAGE_READYZ, PAGE_STATUS };

static const struct handler handlers[PAGE_COUNT] = {
	[COMMAND_status] = {NEEDS_COUNTERS, render_status, NULL},
	[COMMAND_peers] = {NEEDS_PEERS, render_peers, NULL},
	[COMMAND_stats] = {NEEDS_COUNTERS, render_stats, NULL},
	[COMMAND_events] = {NEEDS_NOTHING, render_events, NULL},
	[COMMAND_kick] = {NEEDS_LOOP, NULL, run_kick},
	[COMMAND_drain] = {NEEDS_LOOP, NULL, run_drain},
	[COMMAND_pause] = {NEEDS_LOOP, NULL, run_pause},
	[COMMAND_resume] = {NEEDS_LOOP, NULL, run_resume},
	[COMMAND_reload] = {NEEDS_LOOP, NULL, run_reload},
	[COMMAND_log_level] = {NEEDS_NOTHING, NULL, run_log_level},
	[COMMAND_config] = {NEEDS_NOTHING, render_config, NULL},
	[COMMAND_version] = {NEEDS_NOTHING, render_version, NULL},
	[PAGE_METRICS] = {NEEDS_COUNTERS, render_metrics, NULL},
	[PAGE_HEALTHZ] = {NEEDS_COUNTERS, render_healthz, NULL},
	[PAGE_READYZ] = {NEEDS_COUNTERS, render_readyz, NULL},
	[PAGE_STATUS] = {NEEDS_NOTHING, render_page, NULL},
};

#define VIEW false
#define ACTION true
/* Whoever reaches the HTTP port may look, but not at the configuration. */
#define COMMAND_PAGE(name, word, action, argument, help)                                           \
	{COMMAND_PREFIX word, action, (action) || COMMAND_##name == COMMAND_config, argument,      \
		&handlers[COMMAND_##name]},

static const struct page pages[PAGE_COUNT] = {COMMANDS(COMMAND_PAGE)
	{"/metrics", false, false, NULL, &handlers[PAGE_METRICS]},
	{"/healthz", false, false, NULL, &handlers[PAGE_HEALTHZ]},
	{"/readyz", false, false, NULL, &handlers[PAGE_READYZ]},
	{"/", false, false, NULL, &handlers[PAGE_STATUS]},
};

/* The page at `path`, and where its argument begins, "" without one. NULL: there is none. */
static const struct page *
find_page(const char *path, const char **argument)
{
	for (size_t i = 0; i < PAGE_COUNT; i++) {
		size_t len = strlen(pages[i].path);

		if (strncmp(path, pages[i].path, len) != 0)
			continue;
		*argument = path + len;
		if (path[len] == '\0')
			return &pages[i];
		if (path[len] == '/' && pages[i].argument != NULL) {
			*argument += 1;
			return &pages[i];
		}
	}
	return NULL;
}

/* --- answers --------------------------------------------------------------------- */

static void
reply_and_free(struct http_request *r, int status, const char *type, char *text, const char *allow)
{
	struct http_body *body = http_body_new(text, strlen(text));

	http_reply(r, status, type, body, allow, NULL);
	http_body_unref(body);
}

/* For programs as JSON, where they ask for it. `page`: NULL when there is none. */
static void
refuse(struct http_request *r, const struct page *page, int status, const char *why)
{
	bool json = page != NULL && page->handler - handlers < COMMAND_COUNT;
	char *text = json ? view_text("error", why) : NULL;
	const char *allow = status != 405 || page == NULL ? NULL : page->post ? "POST" : "GET, HEAD";
	size_t len = strlen(why);

	if (text != NULL) {
		reply_and_free(r, status, JSON_TYPE, text, allow);
		return;
	}
	text = mem_new(len + 2);
	memcpy(text, why, len);
	text[len] = '\n';
	reply_and_free(r, status, TEXT_TYPE, text, allow);
}

static void
log_command(const struct page *page, const char *argument, const struct http_peer *who, bool done,
	const char *why)
{
	char what[2 * ARGUMENT_MAX], detail[256];

	log_event(LOG_LEVEL_NOTICE, "admin",
		"command=%s argument=%s uid=%ld pid=%ld result=%s%s%s",
		page->path + strlen(COMMAND_PREFIX), log_quote(what, sizeof(what), argument, strlen(argument)),
		(long)who->uid, (long)who->pid, done ? "done" : "refused", why != NULL ? " detail=" : "",
		why != NULL ? log_quote(detail, sizeof(detail), why, strlen(why)) : "");
}

/* A command came to its end. Frees `text`. */
static void
reply_command(struct http_request *r, const struct page *page, const char *argument,
	const struct http_peer *who, bool done, char *text)
{
	char *json;

	log_command(page, argument, who, done, text);
	if (done) {
		json = view_text("done", text != NULL ? text : page->path + strlen(COMMAND_PREFIX));
		reply_and_free(r, 200, JSON_TYPE,
			json != NULL ? json : mem_strdup("{\"done\":\"\"}"), NULL);
	} else {
		refuse(r, page, 409, text != NULL ? text : "refused");
	}
	free(text);
}

static void
reply_rendered(struct http_request *r, const struct rendered *answer)
{
	http_reply(r, answer->status, answer->type, answer->body, NULL, answer->policy);
}

/* --- on the message loop's thread ---------------------------------------------------- */

static struct snapshot *
take_snapshot(struct admin *admin, bool peers)
{
	struct snapshot *s = mem_try_new(sizeof(*s));

	if (s != NULL && snapshot_take(s, admin->broker, peers) &&
		admin->hooks.look(admin->hooks.arg, s))
		return s;
	snapshot_free(s);
	return NULL;
}

/* The turn is over: what was read has left, and the books are closed. */
static void
look_task_cb(struct task *task)
{
	struct look *look = list_entry(&task->node, struct look, task.node);

	look->taken = take_snapshot(look->admin, look->peers);
	mailbox_post(look->admin->inbox, &look->letter.node);
}

static void
on_order(void *arg, struct list *node)
{
	struct letter *letter = list_entry(node, struct letter, node);
	struct admin *admin = arg;
	struct command_letter *c;

	if (letter->kind == LETTER_LOOK) {
		struct look *look = list_entry(node, struct look, letter.node);

		loop_defer(admin->broker->loop, LOOP_LOOK, &look->task);
		return;
	}
	c = list_entry(node, struct command_letter, letter.node);
	c->done = c->page->handler->run(admin, c->argument, &c->text);
	mailbox_post(admin->inbox, node);
}

static bool
has_door(const struct admin *admin)
{
	return admin->doors[DOOR_HTTP].listener != NULL || admin->doors[DOOR_CONTROL].listener != NULL;
}

void
admin_set_config(struct admin *admin, const struct config *config)
{
	struct config_letter *c;
	size_t len;
	FILE *out;

	if (!has_door(admin)) /* nobody to show it to */
		return;
	c = mem_new(sizeof(*c));
	out = mem_must(open_memstream(&c->text, &len));
	admin->drain_timeout = config->broker.drain_timeout;
	config_dump(config, out);
	fclose(out);
	c->letter.kind = LETTER_CONFIG;
	list_init(&c->letter.node);
	mailbox_post(admin->inbox, &c->letter.node);
}

/* --- requests that wait ------------------------------------------------------------- */

static void
waiter_free(struct waiter *w)
{
	if (w->command != NULL)
		w->command->waiter = NULL;
	timer_stop(&w->timer);
	list_remove(&w->node);
	free(w);
}

static void
late_cb(struct timer *timer)
{
	struct waiter *w = list_entry(timer, struct waiter, timer);

	refuse(w->request, w->page, 503,
		w->command != NULL ? "the message loop has not answered; it may still do it"
				   : "the message loop has not turned for a second");
	waiter_free(w);
}

/* NULL without memory; the request is answered then. */
static struct waiter *
wait_for_loop(struct admin *admin, struct http_request *r, const struct page *page, int64_t ms)
{
	struct waiter *w = mem_try_new(sizeof(*w));

	if (w == NULL) {
		refuse(r, page, 503, "no memory");
		return NULL;
	}
	w->admin = admin;
	w->request = r;
	w->page = page;
	timer_init(&w->timer, admin->loop, late_cb);
	timer_set(&w->timer, ms);
	list_push(&admin->waiting, &w->node);
	return w;
}

/* --- snapshots ------------------------------------------------------------------------ */

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
reply_shown(struct look *look, struct http_request *r, const struct page *page)
{
	struct rendered *answer = &look->rendered[page->handler - handlers];

	if (look->shown == NULL) {
		refuse(r, page, 503, "no memory");
		return;
	}
	if (answer->body == NULL)
		*answer = page->handler->render(look->admin, look->shown);
	reply_rendered(r, answer);
}

static void
on_look(struct admin *admin, struct look *look)
{
	look->under_way = false;
	forget_shown(look);
	look->shown = look->taken;
	look->taken = NULL;
	look->shown_at = loop_now(admin->loop);
	list_each(node, tmp, &admin->waiting)
	{
		struct waiter *w = list_entry(node, struct waiter, node);

		if (w->command != NULL || &admin->looks[w->page->handler->needs] != look)
			continue;
		reply_shown(look, w->request, w->page);
		waiter_free(w);
	}
}

static void
show(struct admin *admin, struct look *look, struct http_request *r, const struct page *page)
{
	if (look->shown != NULL && loop_now(admin->loop) - look->shown_at < look->shown_for) {
		reply_shown(look, r, page);
		return;
	}
	if (wait_for_loop(admin, r, page, LATE_MS) == NULL || look->under_way)
		return;
	look->under_way = true;
	mailbox_post(admin->orders, &look->letter.node);
}

/* --- commands --------------------------------------------------------------------------- */

static void
command_free(struct command_letter *c)
{
	free(c->text);
	free(c);
}

static void
on_command_answered(struct admin *admin, struct command_letter *c)
{
	struct waiter *w = c->waiter;

	admin->commands--;
	/* whoever did something wants to see what came of it */
	for (size_t i = 0; i < LOOKS; i++)
		forget_shown(&admin->looks[i]);
	if (w != NULL) {
		reply_command(w->request, c->page, c->argument, &w->who, c->done, c->text);
		c->text = NULL;
		waiter_free(w);
	}
	command_free(c);
}

static void
send_command(struct admin *admin, struct http_request *r, const struct page *page,
	const char *argument, const struct http_peer *who)
{
	struct command_letter *c;
	struct waiter *w;

	if (admin->commands >= COMMANDS_MAX) {
		refuse(r, page, 503, "the message loop has many commands to do already");
		return;
	}
	w = wait_for_loop(admin, r, page, COMMAND_MS);
	if (w == NULL)
		return;
	c = mem_new(sizeof(*c));
	*c = (struct command_letter){.letter = {.kind = LETTER_COMMAND}, .page = page, .waiter = w};
	list_init(&c->letter.node);
	snprintf(c->argument, sizeof(c->argument), "%s", argument);
	w->command = c;
	w->who = *who;
	admin->commands++;
	mailbox_post(admin->orders, &c->letter.node);
}

/* --- the admin thread ---------------------------------------------------------------------- */

static void
on_letter(void *arg, struct list *node)
{
	struct letter *letter = list_entry(node, struct letter, node);
	struct admin *admin = arg;
	struct config_letter *c;

	switch (letter->kind) {
	case LETTER_LOOK:
		on_look(admin, list_entry(node, struct look, letter.node));
		break;
	case LETTER_COMMAND:
		on_command_answered(admin, list_entry(node, struct command_letter, letter.node));
		break;
	case LETTER_CONFIG:
		c = list_entry(node, struct config_letter, letter.node);
		free(admin->config_text);
		admin->config_text = c->text;
		free(c);
		break;
	case LETTER_STOP:
		loop_stop(admin->loop);
		break;
	}
}

/*
 * The file's mode let it in already; but a socket that was made more open than it should be, or
 * a descriptor that was handed on, is not enough.
 */
static bool
may_command(const struct door *door, const struct http_request *r, struct http_peer *who)
{
	return http_peer(r, who) && (who->uid == 0 || who->uid == geteuid() ||
					    http_peer_in_group(r, who, door->group));
}

static void
answer(struct admin *admin, struct http_request *r, const struct page *page, const char *argument,
	const struct http_peer *who)
{
	const struct handler *h = page->handler;
	struct rendered made;
	char *text = NULL;
	bool done;

	switch (h->needs) {
	case NEEDS_COUNTERS:
	case NEEDS_PEERS:
		show(admin, &admin->looks[h->needs], r, page);
		break;
	case NEEDS_LOOP:
		send_command(admin, r, page, argument, who);
		break;
	case NEEDS_NOTHING:
		if (h->run != NULL) {
			done = h->run(admin, argument, &text);
			reply_command(r, page, argument, who, done, text);
			break;
		}
		made = h->render(admin, NULL);
		reply_rendered(r, &made);
		http_body_unref(made.body);
		break;
	}
}

static void
on_request(void *arg, struct http_request *r)
{
	struct door *door = arg;
	bool control = door == &door->admin->doors[DOOR_CONTROL];
	struct http_peer who = {0};
	const char *argument = "";
	const struct page *page = find_page(http_path(r), &argument);

	if (control && !may_command(door, r, &who)) {
		log_event(LOG_LEVEL_WARNING, "control_refused", "uid=%ld pid=%ld", (long)who.uid,
			(long)who.pid);
		refuse(r, page, 403, "this user may not");
	} else if (page == NULL) {
		refuse(r, NULL, 404, "there is no such page");
	} else if (page->control_only && !control) {
		refuse(r, page, 403, "only over the control socket");
	} else if (page->post != http_is_post(r)) {
		refuse(r, page, 405, page->post ? "this wants a POST" : "this wants a GET");
	} else if (page->argument != NULL && argument[0] == '\0') {
		refuse(r, page, 400, "an argument is missing behind the path and a '/'");
	} else if (strlen(argument) >= ARGUMENT_MAX) {
		refuse(r, page, 400, "the argument is too long");
	} else {
		answer(door->admin, r, page, argument, &who);
	}
}

static void
on_turn(void *arg)
{
	struct admin *admin = arg;

	for (int i = 0; i < DOORS; i++)
		if (admin->doors[i].http != NULL)
			http_turn(admin->doors[i].http);
}

static void *
run_thread(void *arg)
{
	struct admin *admin = arg;

	admin->loop->on_turn = on_turn;
	admin->loop->on_turn_arg = admin;

	loop_run(admin->loop);
	return NULL;
}

/* --- life ----------------------------------------------------------------------------------- */

unsigned
admin_descriptors(const struct config_broker *c)
{
	return (c->control[0] != '\0' ? (unsigned)HTTP_CONNECTIONS : 0) +
		(c->http.text[0] != '\0' ? (unsigned)HTTP_CONNECTIONS : 0);
}

static bool
open_door(struct admin *admin, int which, const struct endpoint *e, char *error, size_t size)
{
	struct door *door = &admin->doors[which];

	door->admin = admin;
	door->side = (struct side){.loop = admin->loop, .opts = &admin->opts};
	door->listener = listener_new(&door->side, e, error, size);
	return door->listener != NULL;
}

static void
open_control(struct admin *admin, const char *path)
{
	struct endpoint e = {.kind = ENDPOINT_IPC};
	char error[256], quoted[256];

	if (path[0] == '\0')
		return;
	snprintf(e.host, sizeof(e.host), "%s", path);
	snprintf(e.text, sizeof(e.text), "ipc://%s", path);
	log_quote(quoted, sizeof(quoted), path, strlen(path));
	if (open_door(admin, DOOR_CONTROL, &e, error, sizeof(error)))
		log_event(LOG_LEVEL_NOTICE, "control_listening", "socket=%s", quoted);
	else
		log_event(LOG_LEVEL_WARNING, "control_off", "socket=%s error=\"%s\"", quoted, error);
}

static bool
open_http(struct admin *admin, const struct endpoint *e)
{
	char error[256];

	if (e->text[0] == '\0')
		return true;
	if (!open_door(admin, DOOR_HTTP, e, error, sizeof(error))) {
		log_event(LOG_LEVEL_ERROR, "bind_failed", "option=http endpoint=%s error=\"%s\"",
			e->text, error);
		return false;
	}
	log_event(LOG_LEVEL_NOTICE, "http_listening", "endpoint=%s",
		admin->doors[DOOR_HTTP].listener->text);
	return true;
}

static void
init_looks(struct admin *admin)
{
	for (int i = 0; i < LOOKS; i++) {
		struct look *look = &admin->looks[i];

		look->letter.kind = LETTER_LOOK;
		list_init(&look->letter.node);
		task_init(&look->task, look_task_cb);
		look->admin = admin;
		look->peers = i == LOOK_PEERS;
		look->shown_for = i == LOOK_PEERS ? PEERS_MS : COUNTERS_MS;
	}
}

struct admin *
admin_new(struct broker *broker, const struct config *config, const struct admin_hooks *hooks)
{
	struct admin *admin = mem_new(sizeof(*admin));

	admin->broker = broker;
	admin->hooks = *hooks;
	admin->opts = (struct side_opts){.backlog = BACKLOG, .ipc_mode = 0660};
	admin->stop.kind = LETTER_STOP;
	admin->started = clock_now_ms();
	list_init(&admin->stop.node);
	list_init(&admin->waiting);
	init_looks(admin);
	page_policy(admin->policy);
	if (config->broker.control[0] == '\0' && config->broker.http.text[0] == '\0')
		return admin;
	admin->loop = loop_new();
	if (admin->loop != NULL) {
		admin->orders = mailbox_new(broker->loop, on_order, admin);
		admin->inbox = mailbox_new(admin->loop, on_letter, admin);
	}
	if (admin->orders == NULL || admin->inbox == NULL) {
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"no descriptors: %s\"",
			strerror(errno));
		admin_free(admin);
		return NULL;
	}
	open_control(admin, config->broker.control);
	if (!open_http(admin, &config->broker.http)) {
		admin_free(admin);
		return NULL;
	}
	admin_set_config(admin, config);
	return admin;
}

void
admin_give_socket(struct admin *admin, uid_t uid, gid_t gid)
{
	const struct listener *l = admin->doors[DOOR_CONTROL].listener;

	if (l != NULL && chown(l->path, uid, gid) != 0)
		log_event(LOG_LEVEL_WARNING, "control_owner", "error=\"%s\"", strerror(errno));
}

static bool
serve_door(struct admin *admin, struct door *door)
{
	struct stat st;

	if (door->listener == NULL)
		return true;
	door->group = stat(door->listener->path, &st) == 0 ? st.st_gid : (gid_t)-1;
	door->http = http_new(admin->loop, door->listener->fd, on_request, door);
	return door->http != NULL;
}

/* Signals are the message loop's. */
static bool
start_thread(struct admin *admin)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&admin->thread, NULL, run_thread, admin);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		(void)pthread_setname_np(admin->thread, "bulkhead-admin");
	return error == 0;
}

bool
admin_start(struct admin *admin)
{
	bool ok = true;

	for (int i = 0; i < DOORS; i++)
		ok = serve_door(admin, &admin->doors[i]) && ok;
	if (has_door(admin) && ok)
		ok = admin->running = start_thread(admin);
	if (!ok)
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"cannot serve %s\"",
			"HTTP or the control socket");
	return ok;
}

static void
throw_away(struct mailbox *mailbox)
{
	struct list *node;

	while (mailbox != NULL && (node = mailbox_take(mailbox)) != NULL) {
		struct letter *letter = list_entry(node, struct letter, node);

		if (letter->kind == LETTER_CONFIG) {
			struct config_letter *c = list_entry(node, struct config_letter, letter.node);
			free(c->text);
			free(c);
		} else if (letter->kind == LETTER_COMMAND) {
			command_free(list_entry(node, struct command_letter, letter.node));
		}
	}
	mailbox_free(mailbox);
}

void
admin_free(struct admin *admin)
{
	if (admin == NULL)
		return;
	if (admin->running) {
		mailbox_post(admin->inbox, &admin->stop.node);
		pthread_join(admin->thread, NULL);
	}
	/* from here on there is one thread */
	while (!list_empty(&admin->waiting))
		waiter_free(list_entry(admin->waiting.next, struct waiter, node));
	for (int i = 0; i < DOORS; i++) {
		http_free(admin->doors[i].http);
		listener_free(admin->doors[i].listener);
	}
	throw_away(admin->orders);
	throw_away(admin->inbox);
	for (int i = 0; i < LOOKS; i++) {
		task_cancel(&admin->looks[i].task);
		snapshot_free(admin->looks[i].taken);
		forget_shown(&admin->looks[i]);
	}
	if (admin->loop != NULL)
		loop_free(admin->loop);
	free(admin->config_text);
	free(admin);
}
