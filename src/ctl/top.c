/* SPDX-License-Identifier: MIT */
#include "ctl/top.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/histogram.h"
#include "base/mem.h"
#include "base/sides.h"
#include "ctl/ask.h"
#include "ctl/show.h"

/* Switch to the alternate screen and hide the cursor; and back. */
#define SCREEN_ON "\033[?1049h\033[?25l"
#define SCREEN_OFF "\033[?25h\033[?1049l"
#define HOME "\033[H"
#define CLEAR_LINE \
	"\033[K" /* printed before the text: after a full line it would clear the last letter */
#define TO_SCREEN_END "\033[J"

enum { HEAD_LINES = 5, KEY_LINES = 1 };

/* A peer at the last sample: its counts, and its rates then. */
struct before {
	int64_t id, requests, replies;
	double requests_rate, replies_rate; /* below 0: not known yet */
};

struct row {
	const json_t *peer;
	int trouble;
	int64_t blocked_ms, held, unanswered;
	double requests, replies; /* a second; below 0: not known yet */
};

/* Sums over all proxies. */
struct totals {
	int64_t at; /* ms, on the broker's clock; 0: no sample yet */
	int64_t requests, replies, dropped;
	int64_t unanswered, clients, workers, suspects, draining;
	int64_t forward[HISTOGRAM_BUCKETS], answers[HISTOGRAM_BUCKETS];
	double bounds[HISTOGRAM_BUCKETS]; /* seconds; as show_bound has them */
};

struct sample {
	json_t *status, *peers, *stats;
};

struct top {
	const struct args *args;
	bool terminal;
	struct screen screen;
	struct before *before; /* by id */
	size_t before_count;
	int64_t before_at;               /* 0: there was no sample */
	struct totals last, before_last; /* the last two samples that differ */
};

/* --- rows ----------------------------------------------------------------- */

static int
by_id(const void *a, const void *b)
{
	int64_t x = ((const struct before *)a)->id, y = ((const struct before *)b)->id;

	return (x > y) - (x < y);
}

/* Peers in trouble first, then the slowest and the fullest; ties are broken by traffic. */
static int
by_trouble(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->trouble != y->trouble)
		return y->trouble - x->trouble;
	if (x->blocked_ms != y->blocked_ms)
		return x->blocked_ms < y->blocked_ms ? 1 : -1;
	if (x->held != y->held)
		return x->held < y->held ? 1 : -1;
	if (x->unanswered != y->unanswered)
		return x->unanswered < y->unanswered ? 1 : -1;
	if (x->requests + x->replies != y->requests + y->replies)
		return x->requests + x->replies < y->requests + y->replies ? 1 : -1;
	return show_number(x->peer, "id") < show_number(y->peer, "id") ? -1 : 1;
}

static int
trouble_of(const json_t *peer)
{
	static const char *const worst_first[] = {"poisoned", "suspect", "stalled", "silent"};
	enum { KINDS = sizeof(worst_first) / sizeof(worst_first[0]) };
	const char *state = show_state(peer);

	for (int i = 0; i < KINDS; i++)
		if (strcmp(state, worst_first[i]) == 0)
			return KINDS + 1 - i;
	return strcmp(state, "ready") != 0;
}

/* The broker's figures are up to half a second old: two samples may be the same. */
static void
set_rates(const struct top *top, struct row *row, int64_t now)
{
	struct before key = {.id = show_number(row->peer, "id")}, *b = NULL;
	double seconds = (double)(now - top->before_at) / 1000;

	row->requests = row->replies = -1;
	if (top->before_at != 0)
		b = bsearch(&key, top->before, top->before_count, sizeof(key), by_id);
	if (b == NULL)
		return;
	if (now == top->before_at) {
		row->requests = b->requests_rate;
		row->replies = b->replies_rate;
	} else if (now > top->before_at) {
		row->requests = (double)(show_requests(row->peer) - b->requests) / seconds;
		row->replies = (double)(show_replies(row->peer) - b->replies) / seconds;
	}
}

static struct row
make_row(const struct top *top, const json_t *peer, int64_t now)
{
	struct row row = {.peer = peer, .trouble = trouble_of(peer)};

	row.blocked_ms = show_number(peer, "blocked_ms");
	row.held = show_number(peer, "queued_bytes") + show_number(peer, "waiting_bytes") +
		show_number(peer, "part_bytes");
	row.unanswered = show_number(peer, "outstanding");
	set_rates(top, &row, now);
	return row;
}

static void
remember(struct top *top, const struct row *rows, size_t count, int64_t now)
{
	top->before_count = count;
	top->before = mem_resize(top->before, (count + 1) * sizeof(*top->before));
	for (size_t i = 0; i < count; i++) {
		const json_t *p = rows[i].peer;

		top->before[i] = (struct before){show_number(p, "id"), show_requests(p),
			show_replies(p), rows[i].requests, rows[i].replies};
	}
	qsort(top->before, top->before_count, sizeof(*top->before), by_id);
	top->before_at = now;
}

/* --- all proxies ---------------------------------------------------------- */

static void
add_histogram(const json_t *histogram, int64_t *counts, double *bounds)
{
	json_t *bucket;
	size_t i;

	json_array_foreach(json_object_get(histogram, "buckets"), i, bucket)
	{
		const json_t *le = json_object_get(bucket, "le");

		if (i >= HISTOGRAM_BUCKETS)
			break;
		counts[i] += show_number(bucket, "count");
		bounds[i] = json_is_real(le) ? json_real_value(le) : i > 0 ? -bounds[i - 1] : 0;
	}
}

static void
add_proxy(struct totals *t, const json_t *proxy)
{
	const json_t *f = json_object_get(proxy, side_name(PROXY_FRONTEND)),
		     *b = json_object_get(proxy, side_name(PROXY_BACKEND));
	const json_t *workers = json_object_get(b, "connections");

	t->requests += show_number(b, "received");
	t->replies += show_number(f, "received");
	t->dropped += show_number(f, "dropped") + show_number(b, "dropped");
	t->unanswered += show_number(b, "outstanding");
	t->clients += show_number(json_object_get(f, "connections"), "ready");
	t->workers += show_number(workers, "ready");
	t->suspects += show_number(workers, "suspect");
	t->draining += show_number(workers, "draining");
	add_histogram(json_object_get(f, "forward_seconds"), t->forward, t->bounds);
	add_histogram(json_object_get(b, "forward_seconds"), t->forward, t->bounds);
	add_histogram(json_object_get(proxy, "answer_seconds"), t->answers, t->bounds);
}

static struct totals
total(const json_t *stats)
{
	struct totals t = {.at = show_number(stats, "clock_ms")};
	json_t *proxy;
	size_t i;

	json_array_foreach(json_object_get(stats, "proxies"), i, proxy)
	{
		add_proxy(&t, proxy);
	}
	return t;
}

/* The upper bound of the bucket with the 99th percentile since `before`; 0: there is none. */
static double
p99(const int64_t *now, const int64_t *before, const double *bounds)
{
	int64_t count = 0, seen = 0;

	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		count += now[i] - before[i];
	for (int i = 0; i < HISTOGRAM_BUCKETS && count > 0; i++) {
		seen += now[i] - before[i];
		if ((double)seen >= 0.99 * (double)count)
			return bounds[i];
	}
	return 0;
}

/* --- drawing -------------------------------------------------------------- */

static const char *
rate(char out[SHOW_MAX], double value)
{
	return value < 0 ? "-" : show_count(out, value);
}

static void
add_row(struct table *t, const struct row *r)
{
	char text[SHOW_MAX], id[SHOW_ID_MAX + 1];

	table_add(t, "%" PRId64, show_number(r->peer, "id"));
	table_add(t, "%s", show_text(r->peer, "proxy"));
	table_add(t, "%s", show_text(r->peer, "side"));
	table_add(t, "%s", show_address(r->peer));
	table_add(t, "%s", show_routing_id(id, r->peer));
	table_add(t, "%s", show_state(r->peer));
	table_add(t, "%" PRId64, r->unanswered);
	table_add(t, "%s", rate(text, r->requests));
	table_add(t, "%s", rate(text, r->replies));
	table_add(t, "%" PRId64, show_number(r->peer, "queued") + show_number(r->peer, "waiting"));
	table_add(t, "%s", show_bytes(text, (double)r->held));
	table_add(t, "%s", r->blocked_ms > 0 ? show_ms(text, r->blocked_ms) : "-");
	table_add(t, "%s", show_ms(text, show_number(r->peer, "idle_ms")));
	table_style(t, show_style(r->peer));
}

static void
draw_rows(const struct row *rows, size_t count, const struct screen *screen, size_t most)
{
	static const struct table_column columns[] = {{"ID", true, TABLE_WHOLE, 0},
		{"PROXY", false, TABLE_CUT_END, 6}, {"SIDE", false, TABLE_WHOLE, TABLE_LATE},
		{"ADDRESS", false, TABLE_CUT_START, 0}, {"ROUTING ID", false, TABLE_CUT_END, 5},
		{"STATE", false, TABLE_WHOLE, 0}, {"UNANSWERED", true, TABLE_WHOLE, 0},
		{"REQ/S", true, TABLE_WHOLE, 1}, {"REPLY/S", true, TABLE_WHOLE, 1},
		{"QUEUED", true, TABLE_WHOLE, 2}, {"HELD", true, TABLE_WHOLE, 4},
		{"BLOCKED", true, TABLE_WHOLE, 3}, {"IDLE", true, TABLE_WHOLE, 7},
		{NULL, false, TABLE_WHOLE, 0}};
	struct table t;

	table_init(&t, columns);
	t.steady = true;
	for (size_t i = 0; i < count && i < most; i++)
		add_row(&t, &rows[i]);
	table_print(&t, screen, most);
	table_fini(&t);
	if (count > most)
		fprintf(screen->out, "%sand %zu more\n", screen->begin, count - most);
}

/* Print a line, cut to the screen's width; `style` may be NULL. */
static void __attribute__((format(printf, 3, 4)))
draw_line(const struct screen *screen, const char *style, const char *fmt, ...)
{
	bool styled = screen->color && style != NULL;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (screen->width > 0 && screen->width < strlen(text))
		snprintf(text + screen->width - 1, 2, "~");
	fprintf(screen->out, "%s%s%s%s\n", screen->begin, styled ? style : "", text,
		styled ? STYLE_NONE : "");
}

static void
draw_state(const struct top *top, const struct sample *sample)
{
	bool ready = json_is_true(json_object_get(sample->status, "ready"));
	const json_t *why = json_object_get(sample->status, "not_ready");
	const char *first = json_string_value(json_array_get(why, 0));
	char uptime[SHOW_MAX];

	draw_line(&top->screen, ready ? STYLE_TITLE : STYLE_BAD, "bulkhead %s, %s %s%s%s",
		show_text(sample->status, "version"), show_text(sample->status, "state"),
		show_ms(uptime,
			(int64_t)(json_real_value(
					  json_object_get(sample->status, "uptime_seconds")) *
				1000)),
		ready ? ", ready" : ", NOT READY: ",
		ready                   ? ""
			: first != NULL ? first
					: "-");
}

static const char *
plural(int64_t count)
{
	return count == 1 ? "" : "s";
}

/* Per second between two samples; below 0: there is no earlier one. */
static double
rate_of(const struct totals *now, const struct totals *last, int64_t count)
{
	if (last->at == 0 || now->at <= last->at)
		return -1;
	return (double)count * 1000 / (double)(now->at - last->at);
}

/* Since the last sample; before the second one, the times are since the broker's start. */
static void
draw_traffic(const struct screen *screen, const struct totals *now, const struct totals *last)
{
	char requests[SHOW_MAX], replies[SHOW_MAX], forward[SHOW_MAX], answers[SHOW_MAX];

	draw_line(screen, NULL, "%s requests/s, %s replies/s; p99: in the broker %s, at workers %s",
		rate(requests, rate_of(now, last, now->requests - last->requests)),
		rate(replies, rate_of(now, last, now->replies - last->replies)),
		show_bound(forward, p99(now->forward, last->forward, now->bounds)),
		show_bound(answers, p99(now->answers, last->answers, now->bounds)));
}

static void
draw_troubles(const struct screen *screen, const struct totals *now, const struct totals *last)
{
	double lost = rate_of(now, last, now->dropped - last->dropped);
	char suspects[64] = "", draining[64] = "", text[SHOW_MAX];

	if (now->suspects > 0)
		snprintf(suspects, sizeof(suspects), ", %" PRId64 " suspect", now->suspects);
	if (now->draining > 0)
		snprintf(draining, sizeof(draining), ", %" PRId64 " draining", now->draining);
	draw_line(screen,
		now->workers == 0                       ? STYLE_BAD
			: now->suspects > 0 || lost > 0 ? STYLE_WARN
							: NULL,
		"%" PRId64 " client%s, %" PRId64 " worker%s ready%s%s; %" PRId64
		" unanswered, %" PRId64 " dropped (%s/s)",
		now->clients, plural(now->clients), now->workers, plural(now->workers), suspects,
		draining, now->unanswered, now->dropped, rate(text, lost));
}

static void
draw_head(const struct top *top, const struct sample *sample, const struct totals *now,
	const struct totals *last, size_t count)
{
	char used[SHOW_MAX], limit[SHOW_MAX];

	draw_state(top, sample);
	draw_traffic(&top->screen, now, last);
	draw_troubles(&top->screen, now, last);
	draw_line(&top->screen, NULL, "%zu connection%s, memory %s of %s", count,
		plural((int64_t)count),
		show_bytes(used, (double)show_number(sample->status, "memory_bytes")),
		show_bytes(limit, (double)show_number(sample->status, "memory_limit")));
	draw_line(&top->screen, NULL, "%s", "");
}

/* The rows that fit, with a line that counts the others and one for the cursor. */
static size_t
rows_that_fit(const struct top *top, size_t count, size_t lines)
{
	enum { OTHERS = HEAD_LINES + 1 + KEY_LINES + 1 };

	if (!top->terminal)
		return count;
	if (lines <= OTHERS + 1)
		return 1;
	return count <= lines - OTHERS ? count : lines - OTHERS - 1;
}

static void
draw(struct top *top, const struct sample *sample)
{
	const json_t *peers = json_object_get(sample->peers, "peers");
	int64_t at = show_number(sample->peers, "clock_ms");
	struct totals now = total(sample->stats);
	size_t count = json_array_size(peers), lines = 0, i;
	struct row *rows = mem_new_array(count + 1, sizeof(*rows));
	json_t *p;

	json_array_foreach(peers, i, p)
	{
		rows[i] = make_row(top, p, at);
	}
	qsort(rows, count, sizeof(*rows), by_trouble);
	table_terminal(STDOUT_FILENO, &top->screen.width, &lines);
	if (top->terminal)
		fputs(HOME, stdout);
	/* if the sample is the same as the last one, show the difference of the two before again */
	if (now.at != top->last.at) {
		top->before_last = top->last;
		top->last = now;
	}
	draw_head(top, sample, &now, &top->before_last, count);
	draw_rows(rows, count, &top->screen, rows_that_fit(top, count, lines));
	if (top->terminal)
		draw_line(&top->screen, STYLE_FAINT, "q quits, space refreshes; every %.3gs",
			(double)top->args->interval_ms / 1000);
	if (top->terminal)
		fputs(TO_SCREEN_END, stdout);
	(void)fflush(stdout);
	remember(top, rows, count, at);
	free(rows);
}

/* --- sampling ------------------------------------------------------------- */

static int
sample_and_draw(struct top *top)
{
	const char *before = top->terminal ? SCREEN_OFF : "";
	struct sample sample = {0};
	int status = ask(top->args, COMMAND_status, before, &sample.status);

	if (status == CTL_DONE)
		status = ask(top->args, COMMAND_stats, before, &sample.stats);
	if (status == CTL_DONE)
		status = ask(top->args, COMMAND_peers, before, &sample.peers);
	if (status == CTL_DONE)
		draw(top, &sample);
	json_decref(sample.status);
	json_decref(sample.stats);
	json_decref(sample.peers);
	return status;
}

/* True when top should end: q, the end of the input, or a signal. */
static bool
wait_for_key(int signals, int ms)
{
	struct pollfd fds[] = {
		{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	struct signalfd_siginfo info;
	char key;

	if (poll(fds, 2, ms) <= 0)
		return false;
	if (fds[1].revents != 0)
		return read(signals, &info, sizeof(info)) == sizeof(info) &&
			info.ssi_signo != SIGWINCH;
	return fds[0].revents != 0 &&
		(read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q');
}

static int
run(struct top *top, int signals)
{
	int status;

	do
		status = sample_and_draw(top);
	while (status == CTL_DONE && !wait_for_key(signals, top->args->interval_ms));
	return status;
}

static int
run_on_terminal(struct top *top)
{
	struct termios saved, raw;
	bool keyboard = tcgetattr(STDIN_FILENO, &saved) == 0;
	sigset_t set;
	int signals, status;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (keyboard) {
		raw = saved;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	fputs(SCREEN_ON, stdout);
	status = run(top, signals);
	fputs(SCREEN_OFF, stdout);
	(void)fflush(stdout);
	if (keyboard)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	close(signals);
	return status;
}

int
top(const struct args *args)
{
	bool terminal = isatty(STDOUT_FILENO) == 1;
	struct top t = {.args = args,
		.terminal = terminal,
		.screen = {stdout, 0, args_color(args), terminal ? CLEAR_LINE : ""}};
	int status = t.terminal ? run_on_terminal(&t) : sample_and_draw(&t);

	free(t.before);
	return ask_flush(status);
}
