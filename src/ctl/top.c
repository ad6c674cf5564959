#include "ctl/top.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "ctl/ask.h"
#include "ctl/show.h"

/* The other screen, and no cursor; back to the first. */
#define SCREEN_ON "\033[?1049h\033[?25l"
#define SCREEN_OFF "\033[?25h\033[?1049l"
#define HOME "\033[H"
#define TO_LINE_END "\033[K"
#define TO_SCREEN_END "\033[J"

enum { HEAD_LINES = 4 };

/* What a peer had at the last look. */
struct before {
	int64_t id, in, out;
};

struct row {
	const json_t *peer;
	int trouble;
	int64_t blocked_ms, held, unanswered;
	double in, out; /* messages a second; below 0: not known yet */
};

struct look {
	json_t *status, *peers;
	int64_t at; /* ms */
};

struct top {
	const struct args *args;
	bool terminal;
	struct before *before; /* by id */
	size_t before_count;
	int64_t before_at; /* 0: there is none */
};

/* --- rows ----------------------------------------------------------------------- */

static int
by_id(const void *a, const void *b)
{
	int64_t x = ((const struct before *)a)->id, y = ((const struct before *)b)->id;

	return (x > y) - (x < y);
}

/* The slowest and the fullest first; of those that are alike, the busiest. */
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
	if (x->in + x->out != y->in + y->out)
		return x->in + x->out < y->in + y->out ? 1 : -1;
	return show_number(x->peer, "id") < show_number(y->peer, "id") ? -1 : 1;
}

static int
trouble_of(const json_t *peer)
{
	const char *state = show_text(peer, "state");

	if (strcmp(show_text(peer, "poison"), "poisoned") == 0)
		return 3;
	if (strcmp(state, "stalled") == 0)
		return 2;
	return strcmp(state, "ready") != 0;
}

static struct row
make_row(const struct top *top, const json_t *peer, int64_t now)
{
	struct row row = {.peer = peer, .trouble = trouble_of(peer), .in = -1, .out = -1};
	struct before key = {.id = show_number(peer, "id")}, *b = NULL;

	row.blocked_ms = show_number(peer, "blocked_ms");
	row.held = show_number(peer, "queued_bytes") + show_number(peer, "waiting_bytes") +
		show_number(peer, "part_bytes");
	row.unanswered = show_number(peer, "outstanding");
	if (top->before_at != 0)
		b = bsearch(&key, top->before, top->before_count, sizeof(key), by_id);
	if (b != NULL && now > top->before_at) {
		double seconds = (double)(now - top->before_at) / 1000;
		row.in = (double)(show_number(peer, "messages_in") - b->in) / seconds;
		row.out = (double)(show_number(peer, "messages_out") - b->out) / seconds;
	}
	return row;
}

static void
remember(struct top *top, const json_t *peers, int64_t now)
{
	json_t *p;
	size_t i;

	top->before_count = json_array_size(peers);
	top->before = mem_resize(top->before, (top->before_count + 1) * sizeof(*top->before));
	json_array_foreach(peers, i, p) {
		top->before[i] = (struct before){show_number(p, "id"), show_number(p, "messages_in"),
			show_number(p, "messages_out")};
	}
	qsort(top->before, top->before_count, sizeof(*top->before), by_id);
	top->before_at = now;
}

/* --- drawing ----------------------------------------------------------------------- */

static const char *
rate(char out[SHOW_MAX], double value)
{
	return value < 0 ? "-" : show_count(out, value);
}

static void
draw_rows(const struct row *rows, size_t count, FILE *out, size_t width, size_t most, const char *end)
{
	static const struct table_column columns[] = {{"ID", true, false, 0}, {"PROXY", false, true, 5},
		{"SIDE", false, false, 2}, {"ADDRESS", false, true, 1}, {"ROUTING ID", false, true, 6},
		{"STATE", false, false, 0}, {"POISON", false, false, 4}, {"BLOCKED", true, false, 0},
		{"QUEUED", true, false, 0}, {"HELD", true, false, 0}, {"IN/S", true, false, 0},
		{"OUT/S", true, false, 0}, {"UNANSWERED", true, false, 7}, {"IDLE", true, false, 3},
		{NULL, false, false, 0}};
	char text[SHOW_MAX];
	struct table t;

	table_init(&t, columns);
	for (size_t i = 0; i < count && i < most; i++) {
		const struct row *r = &rows[i];

		table_add(&t, "%" PRId64, show_number(r->peer, "id"));
		table_add(&t, "%s", show_text(r->peer, "proxy"));
		table_add(&t, "%s", show_text(r->peer, "side"));
		table_add(&t, "%s", show_text(r->peer, "address"));
		table_add(&t, "%s", show_text(r->peer, "routing_id"));
		table_add(&t, "%s", show_text(r->peer, "state"));
		table_add(&t, "%s", show_text(r->peer, "poison"));
		table_add(&t, "%s", r->blocked_ms > 0 ? show_ms(text, r->blocked_ms) : "-");
		table_add(&t, "%" PRId64, show_number(r->peer, "queued") + show_number(r->peer, "waiting"));
		table_add(&t, "%s", show_bytes(text, (double)r->held));
		table_add(&t, "%s", rate(text, r->in));
		table_add(&t, "%s", rate(text, r->out));
		table_add(&t, "%" PRId64, show_number(r->peer, "outstanding"));
		table_add(&t, "%s", show_ms(text, show_number(r->peer, "idle_ms")));
	}
	table_print(&t, out, width, most, end);
	table_fini(&t);
}

static void
draw_head(const struct top *top, const struct look *look, const struct row *rows, size_t count,
	FILE *out, const char *end)
{
	char used[SHOW_MAX], limit[SHOW_MAX], in[SHOW_MAX], uptime[SHOW_MAX];
	double messages = 0;
	bool known = false;

	for (size_t i = 0; i < count; i++) {
		known = known || rows[i].in >= 0;
		messages += rows[i].in > 0 ? rows[i].in : 0;
	}
	fprintf(out, "bulkhead %s, %s for %s%s%s\n", show_text(look->status, "version"),
		show_text(look->status, "state"),
		show_ms(uptime,
			(int64_t)(json_real_value(json_object_get(look->status, "uptime_seconds")) * 1000)),
		json_is_true(json_object_get(look->status, "ready")) ? "" : ", NOT READY", end);
	fprintf(out, "%zu connections, memory %s of %s, %s messages/s in%s\n%s\n", count,
		show_bytes(used, (double)show_number(look->status, "memory_bytes")),
		show_bytes(limit, (double)show_number(look->status, "memory_limit")),
		known ? show_count(in, messages) : "-", end, top->terminal ? TO_LINE_END : "");
}

static void
draw(struct top *top, const struct look *look)
{
	const json_t *peers = json_object_get(look->peers, "peers");
	const char *end = top->terminal ? TO_LINE_END : "";
	size_t count = json_array_size(peers), columns = 0, lines = 0, i;
	struct row *rows = mem_new_array(count + 1, sizeof(*rows));
	json_t *p;

	json_array_foreach(peers, i, p) {
		rows[i] = make_row(top, p, look->at);
	}
	qsort(rows, count, sizeof(*rows), by_trouble);
	table_terminal(STDOUT_FILENO, &columns, &lines);
	if (top->terminal)
		fputs(HOME, stdout);
	draw_head(top, look, rows, count, stdout, end);
	draw_rows(rows, count, stdout, columns,
		lines > HEAD_LINES ? lines - HEAD_LINES - 1 : top->terminal ? 1 : count, end);
	if (top->terminal)
		fputs(TO_SCREEN_END, stdout);
	(void)fflush(stdout);
	free(rows);
	remember(top, peers, look->at);
}

/* --- looking ------------------------------------------------------------------------- */

static int
look_and_draw(struct top *top)
{
	const char *before = top->terminal ? SCREEN_OFF : "";
	struct look look = {.at = clock_now_ms()};
	int status = ask(top->args, COMMAND_status, before, &look.status);

	if (status == CTL_DONE)
		status = ask(top->args, COMMAND_peers, before, &look.peers);
	if (status == CTL_DONE)
		draw(top, &look);
	json_decref(look.status);
	json_decref(look.peers);
	return status;
}

/* True when it is over: q, the end of the input, or a signal that ends. */
static bool
wait_for_key(int signals, int ms)
{
	struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	struct signalfd_siginfo info;
	char key;

	if (poll(fds, 2, ms) <= 0)
		return false;
	if (fds[1].revents != 0)
		return read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo != SIGWINCH;
	return fds[0].revents != 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q');
}

static int
run(struct top *top, int signals)
{
	int status;

	do
		status = look_and_draw(top);
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
	struct top t = {.args = args, .terminal = isatty(STDOUT_FILENO) == 1};
	int status = t.terminal ? run_on_terminal(&t) : look_and_draw(&t);

	free(t.before);
	return ask_flush(status);
}
