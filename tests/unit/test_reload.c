/* SPDX-License-Identifier: MIT */
/*
 * A reload in slices: many proxies in many turns, and interrupted wherever that is possible.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "broker/broker_impl.h"
#include "daemon/reload.h"
#include "unit.h"

enum { MANY = 2000, CONFIG_MAX = 1 << 20 };

/* A daemon without its signals and its admin side. */
struct world {
	char path[32];
	struct loop *loop;
	struct broker *broker;
	struct systemd systemd;
	struct running running;
	struct config *config;
};

static void
write_config(const struct world *w, const char *text)
{
	FILE *f = fopen(w->path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

/* Reload at once. The report, to be freed. */
static char *
reload_all(struct world *w)
{
	struct reload *rl = reload_new(&w->running, w->config);
	struct config *next;
	struct reload_summary summary;

	ck_assert(!reload_step(rl, NULL));
	next = reload_end(rl, &summary);
	ck_assert_ptr_nonnull(next);
	ck_assert_ptr_nonnull(summary.report);
	config_free(w->config);
	w->config = next;
	return summary.report;
}

#define MINIMAL "[frontend a]\nconnect = ipc://@none\n[backend a]\nconnect = ipc://@none\n"

/* The running configuration is `text`. */
static void
world_init(struct world *w, const char *text)
{
	struct config_errors found;
	int fd;

	*w = (struct world){.path = "/tmp/test_reload.XXXXXX"};
	fd = mkstemp(w->path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_ge(sodium_init(), 0);
	log_set_level(LOG_LEVEL_ERROR);
	w->loop = loop_new();
	w->broker = broker_new(w->loop, 1 << 30);
	systemd_init(&w->systemd, w->loop);
	running_init(&w->running, w->loop, w->broker, &w->systemd);
	write_config(w, MINIMAL);
	w->config = config_load(w->path, &found);
	ck_assert_ptr_nonnull(w->config);
	/* a reload adds its only proxy */
	ck_assert(!config_free_step(w->config, NULL));
	idmap_fini(&w->config->by_name);
	idmap_init(&w->config->by_name);
	write_config(w, text);
	free(reload_all(w));
}

/* Its connections end, as at a stop. */
static void
stop_cb(struct timer *timer)
{
	struct loop *loop = timer->loop;

	if (loop->connections == 0)
		loop_stop(loop);
	else
		timer_set(timer, 1);
}

static void
world_fini(struct world *w)
{
	struct timer timer;

	running_stop(&w->running);
	for (size_t i = 0; i < w->broker->count * PROXY_SIDES; i++)
		proxy_close_side(w->broker->proxies[i / PROXY_SIDES], i % PROXY_SIDES, false);
	timer_init(&timer, w->loop, stop_cb);
	timer_set(&timer, 1);
	loop_run(w->loop);
	running_fini(&w->running);
	systemd_fini(&w->systemd);
	broker_free(w->broker);
	loop_free(w->loop);
	config_free(w->config);
	unlink(w->path);
}

/* --- many ----------------------------------------------------------------- */

static char *
many(size_t count, unsigned send_hwm)
{
	char *text = malloc(CONFIG_MAX), *end = text;

	ck_assert_ptr_nonnull(text);
	end += sprintf(end, MINIMAL);
	for (size_t i = 0; i < count; i++)
		end += sprintf(end,
			"[frontend p%zu]\nconnect = ipc://@none\nsend_hwm = %u\n"
			"[backend p%zu]\nconnect = ipc://@none\n",
			i, send_hwm, i);
	ck_assert_int_lt(end - text, CONFIG_MAX);
	return text;
}

struct watcher {
	struct task task;
	struct world *world;
	struct reload *reload;
	unsigned turns;
	size_t most_added, most_closed;
};

/* Listening endpoints. */
static size_t
listening(const struct running *r)
{
	const struct list *const heads[] = {&r->proxies, &r->draining_proxies};
	size_t n = 0;

	for (int i = 0; i < 2; i++)
		for (const struct list *outer = heads[i]->next; outer != heads[i];
			outer = outer->next) {
			const struct list *endpoints =
				&list_entry(outer, struct running_proxy, node)->endpoints;

			for (const struct list *e = endpoints->next; e != endpoints; e = e->next)
				n += list_entry(e, struct running_endpoint, node)->listener != NULL;
		}
	return n;
}

/* As the daemon does it, once in each turn. */
static void
watcher_task_cb(struct task *task)
{
	struct watcher *watcher = list_entry(&task->node, struct watcher, task.node);
	struct slice slice = slice_begin();
	struct broker *b = watcher->world->broker;
	size_t before = b->count, open = listening(&watcher->world->running), closed;
	bool more = reload_step(watcher->reload, &slice);

	watcher->turns++;
	closed = open - listening(&watcher->world->running);
	if (open > 0 && closed > watcher->most_closed)
		watcher->most_closed = closed;
	if (b->count - before > watcher->most_added)
		watcher->most_added = b->count - before;
	if (more)
		loop_defer(b->loop, LOOP_RESUME, task);
	else
		loop_stop(b->loop);
}

static void
reload_in_turns(struct world *w, struct watcher *watcher, struct reload_summary *summary)
{
	struct config *next;

	*watcher = (struct watcher){.world = w, .reload = reload_new(&w->running, w->config)};
	task_init(&watcher->task, watcher_task_cb);
	loop_defer(w->loop, LOOP_RESUME, &watcher->task);
	w->loop->stopping = false;
	loop_run(w->loop);
	w->loop->stopping = false;
	next = reload_end(watcher->reload, summary);
	ck_assert_ptr_nonnull(next);
	config_free(w->config);
	w->config = next;
}

static size_t
lines_of(const char *text)
{
	size_t n = 0;

	for (; (text = strchr(text, '\n')) != NULL; text++)
		n++;
	return n;
}

/* A turn adds and changes few of them: its work is bounded, however many there are. */
START_TEST(many_proxies_in_many_turns)
{
	char *text = many(MANY, 7), *other = many(MANY, 8);
	struct reload_summary summary;
	struct watcher watcher;
	struct world w;

	world_init(&w, MINIMAL);
	write_config(&w, text);
	reload_in_turns(&w, &watcher, &summary);
	ck_assert_uint_eq(w.broker->count, MANY + 1);
	ck_assert_uint_eq(lines_of(summary.report), 3 * MANY);
	ck_assert_uint_eq(summary.changes, 3 * MANY);
	ck_assert_uint_le(watcher.most_added, SLICE_UNITS / 40);
	ck_assert_uint_ge(watcher.turns, 150);
	free(summary.report);

	write_config(&w, other);
	reload_in_turns(&w, &watcher, &summary);
	ck_assert_uint_eq(lines_of(summary.report), MANY);
	ck_assert_uint_ge(watcher.turns, 30);
	free(summary.report);
	for (size_t i = 0; i < w.broker->count; i++)
		ck_assert(w.broker->proxies[i]->name[0] == 'a' ||
			w.broker->proxies[i]->opts[PROXY_FRONTEND].side.send_hwm == 8);
	world_fini(&w);
	free(text);
	free(other);
}
END_TEST

/* One proxy that listens on many endpoints is removed; closing them is most of it. */
START_TEST(many_endpoints_in_many_turns)
{
	enum { BINDS = 400 };
	char *text = malloc(CONFIG_MAX), *end = text;
	struct reload_summary summary;
	struct watcher watcher;
	struct world w;

	ck_assert_ptr_nonnull(text);
	end += sprintf(end, MINIMAL "[backend gone]\nconnect = ipc://@none\n[frontend gone]\n");
	for (int i = 0; i < BINDS; i++)
		end += sprintf(end, "bind = ipc://@rl-many-%ld-%d\n", (long)getpid(), i);
	world_init(&w, text);
	ck_assert_uint_eq(listening(&w.running), BINDS);
	write_config(&w, MINIMAL);
	reload_in_turns(&w, &watcher, &summary);
	ck_assert_uint_eq(listening(&w.running), 0);
	ck_assert_uint_eq(summary.changes, BINDS + 2);
	ck_assert_uint_gt(watcher.most_closed, 0);
	ck_assert_uint_le(watcher.most_closed, SLICE_UNITS / 40);
	free(summary.report);
	world_fini(&w);
	free(text);
}
END_TEST

/* --- broken off ----------------------------------------------------------- */

#define BEFORE \
	"[frontend a]\nbind = ipc://@rl-a\nbind = ipc://@rl-swap\n" \
	"[backend a]\nbind = ipc://@rl-b\n" \
	"[frontend gone]\nbind = ipc://@rl-gone\n[backend gone]\nbind = ipc://@rl-other\n"
#define AFTER \
	"[frontend a]\nbind = ipc://@rl-a\nbind = ipc://@rl-more\nsend_hwm = 7\n" \
	"[backend a]\nbind = ipc://@rl-b\nbind = ipc://@rl-swap\nconnect = ipc://@none\n" \
	"[frontend new]\nbind = ipc://@rl-new\n[backend new]\nbind = ipc://@rl-other\n"

/* All listening endpoints, in order. */
static void
describe(const struct world *w, struct text *out)
{
	list_each(outer, tmp, &((struct world *)(uintptr_t)w)->running.proxies) {
		struct running_proxy *p = list_entry(outer, struct running_proxy, node);

		text_add(out, "%s %d\n", p->proxy->name, (int)p->proxy->opts[0].side.send_hwm);
		list_each(node, tmp2, &p->endpoints) {
			struct running_endpoint *e =
				list_entry(node, struct running_endpoint, node);

			ck_assert(e->started && !e->marked);
			text_add(out, "%d %s %d\n", e->side, e->spec.text, e->listener != NULL);
		}
	}
}

/* Runs that many of the smallest steps of a reload, and aborts it. True: it was not over. */
static bool
break_off_after(struct world *w, unsigned steps)
{
	struct reload *rl = reload_new(&w->running, w->config);
	struct slice least = {SLICE_UNITS, 0};
	bool more = true;
	struct config *next;
	struct reload_summary summary;

	for (unsigned i = 0; i < steps && more; i++, least.left = SLICE_UNITS)
		more = reload_step(rl, &least);
	next = reload_end(rl, &summary);
	free(summary.report);
	if (next != NULL) {
		config_free(w->config);
		w->config = next;
	}
	return more;
}

/*
 * Before anything is applied, nothing changes: the same endpoints and proxies, and the next reload
 * succeeds. Afterwards, the daemon can still stop.
 */
START_TEST(broken_off_anywhere)
{
	unsigned steps = 0, unchanged = 0;
	bool more = true;

	ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr)); /* each is an error in the log */
	for (; more; steps++) {
		struct text before = {0}, after = {0};
		struct world w;

		world_init(&w, BEFORE);
		describe(&w, &before);
		write_config(&w, AFTER);
		more = break_off_after(&w, steps);
		if (more && w.broker->count == 2 &&
			w.broker->proxies[0]->opts[PROXY_FRONTEND].side.send_hwm != 7) {
			describe(&w, &after);
			ck_assert_str_eq(before.bytes, after.bytes);
			free(reload_all(&w));
			ck_assert_uint_eq(w.broker->count, 3); /* one of them drains */
			unchanged++;
		}
		world_fini(&w);
		text_fini(&before);
		text_fini(&after);
	}
	/*
	 * it has that many: lines and settings read, changes compared, prepared, told; and applied
	 */
	ck_assert_uint_ge(unchanged, 50);
	ck_assert_uint_ge(steps - unchanged, 20);
}
END_TEST

UNIT_MAIN("reload", tcase_set_timeout(tc, 120), tcase_add_test(tc, many_proxies_in_many_turns),
	tcase_add_test(tc, many_endpoints_in_many_turns), tcase_add_test(tc, broken_off_anywhere))
