/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BOUND 0.95 /* from this share of a processor on, the generator is what is measured */
#define BOUND_LATE 0.01

#define ERROR_ROW(name, word, noun, rest) {#word, noun, rest},
static const struct {
	const char *word, *noun, *rest;
} errors[RUN_ERROR_COUNT] = {RUN_ERRORS(ERROR_ROW)};

static const struct {
	const char *name, *key;
	double quantile;
} quantiles[] = {
	{"p50", "p50", .5}, {"p90", "p90", .9}, {"p99", "p99", .99}, {"p99.9", "p999", .999}};

enum { QUANTILES = sizeof(quantiles) / sizeof(quantiles[0]) };

uint64_t
report_errors(const struct run *run)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < RUN_ERROR_COUNT; i++)
		sum += run->errors[i];
	return sum;
}

static bool
has_latencies(const struct run *run)
{
	return run->mode == RUN_CLOSED || run->mode == RUN_OPEN;
}

/* In open loop the generator need not sleep: there it is late sends that tell. */
static bool
is_bound(const struct run *run, double own_share)
{
	if (run->mode == RUN_OPEN)
		return (double)run->late_sends > BOUND_LATE * (double)run->sends;
	return own_share >= BOUND;
}

/* --- for people ----------------------------------------------------------- */

/* 1234567 as 1,234,567 */
static const char *
grouped(char out[32], double value)
{
	char digits[32];
	int n = snprintf(digits, sizeof(digits), "%.0f", value), at = 0;

	for (int i = 0; i < n; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			out[at++] = ',';
		out[at++] = digits[i];
	}
	out[at] = '\0';
	return out;
}

/* Nanoseconds with three digits and the unit that suits them. */
static const char *
duration(char out[32], double ns)
{
	const char *unit = ns < 1e6 ? "us" : ns < 1e9 ? "ms" : "s";
	double value = ns / (ns < 1e6 ? 1e3 : ns < 1e9 ? 1e6 : 1e9);

	snprintf(out, 32, "%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, unit);
	return out;
}

static void
print_side(
	FILE *out, unsigned n, const char *what, const struct target *targets, unsigned n_targets)
{
	fprintf(out, "%u %s%s at %s", n, what, n == 1 ? "" : "s", targets[0].text);
	if (n_targets > 1)
		fprintf(out, " and %u more", n_targets - 1);
}

static void
print_sides(FILE *out, const struct options *o)
{
	if (o->clients > 0)
		print_side(out, o->clients, "client", o->frontends, o->n_frontends);
	if (o->clients > 0 && o->workers > 0)
		fputs(", ", out);
	if (o->workers > 0)
		print_side(out, o->workers, "worker", o->backends, o->n_backends);
}

void
report_start(const struct options *o)
{
	print_sides(stderr, o);
	if (o->clients > 0 && o->rate > 0)
		fprintf(stderr, "; %g requests/s", o->rate);
	else if (o->clients > 0)
		fprintf(stderr, "; %u in flight each", o->window);
	if (o->count > 0)
		fprintf(stderr, ", %" PRIu64 " requests", o->count);
	else if (o->duration > 0)
		fprintf(stderr, ", %g s", o->duration);
	fputs(o->count > 0 || o->duration > 0 ? "\n" : ", until Ctrl-C\n", stderr);
}

void
report_from_here(struct progress *progress, const struct run *run)
{
	progress->last = now_ns();
	progress->messages = run->messages;
	memcpy(progress->errors, run->errors, sizeof(progress->errors));
}

void
report_progress(struct progress *progress, const struct run *run)
{
	uint64_t now = now_ns();
	double rate = (double)(run->messages - progress->messages) / (double)(now - progress->last);
	char text[32];

	fprintf(stderr, "%4.0f s %12s/s", (double)(now - progress->from) / 1e9,
		grouped(text, rate * 1e9));
	if (run->recent.count > 0) {
		fprintf(stderr, "   p50 %s",
			duration(text, (double)histogram_quantile(&run->recent, .5)));
		fprintf(stderr, "   p99 %s",
			duration(text, (double)histogram_quantile(&run->recent, .99)));
		fprintf(stderr, "   max %s", duration(text, (double)run->recent.max));
	}
	for (unsigned i = 0; i < RUN_ERROR_COUNT; i++)
		if (run->errors[i] > progress->errors[i])
			fprintf(stderr, "   %s %" PRIu64, errors[i].word,
				run->errors[i] - progress->errors[i]);
	fputc('\n', stderr);
	report_from_here(progress, run);
}

static void
print_latencies(const struct histogram *h)
{
	char text[32];

	if (h->count == 0) {
		puts("latency   unknown: no reply came");
		return;
	}
	fputs("latency   ", stdout);
	for (unsigned i = 0; i < QUANTILES; i++)
		printf("%s %s, ", quantiles[i].name,
			duration(text, (double)histogram_quantile(h, quantiles[i].quantile)));
	printf("max %s\n", duration(text, (double)h->max));
}

static void
print_errors(const struct run *run)
{
	const char *before = "errors    ";
	char text[32];

	if (report_errors(run) == 0) {
		puts("errors    none");
		return;
	}
	for (unsigned i = 0; i < RUN_ERROR_COUNT; i++) {
		if (run->errors[i] == 0)
			continue;
		printf("%s%s %s%s %s\n", before, grouped(text, (double)run->errors[i]),
			errors[i].noun, run->errors[i] == 1 ? "" : "s", errors[i].rest);
		before = "          ";
	}
}

/* Warn of anything that makes the figures less reliable than they seem. */
static void
print_doubts(const struct run *run, double own_share)
{
	if (run->late_replies > 0)
		printf("late      %" PRIu64 " of the replies came after the time-out\n",
			run->late_replies);
	if (run->errors[RUN_ERROR_WRONG] > 0 && run->n_clients > 0 && run->n_workers > 0)
		puts("note      somebody else's worker answered: stop it, or leave out -b");
	if (!is_bound(run, own_share))
		return;
	if (run->mode == RUN_OPEN)
		printf("note      %.1f %% of the requests left late: their window was full, or "
		       "this "
		       "program had no time\n",
			100 * (double)run->late_sends / (double)run->sends);
	else
		puts("note      this program used a whole processor: the broker may be faster");
}

void
report_summary(const struct options *o, const struct run *run, const struct result *r)
{
	double wall = (double)(r->to.at - r->from.at);
	double per_second = (double)r->messages / wall * 1e9;
	const char *what = run->mode == RUN_SERVE ? "requests served"
		: run->mode == RUN_ONEWAY         ? "messages"
						  : "round trips";
	char text[32];

	print_sides(stdout, o);
	printf("\nrate      %s/s: ", grouped(text, per_second));
	printf("%s %s in %.2f s", grouped(text, (double)r->messages), what, wall / 1e9);
	if (run->mode != RUN_SERVE)
		printf(", %.1f MB/s each way", per_second * (double)o->size * o->parts / 1e6);
	putchar('\n');
	if (has_latencies(run))
		print_latencies(&run->latency);
	if (run->outstanding > 0)
		printf("in flight %" PRIu64 " request%s at the end\n", run->outstanding,
			run->outstanding == 1 ? "" : "s");
	print_errors(run);
	print_doubts(run, (double)(r->to.own_cpu - r->from.own_cpu) / wall);
}

/* --- for programs --------------------------------------------------------- */

static const char *
mode_name(enum run_mode mode)
{
	static const char *const names[] = {"closed", "open", "serve", "oneway", "idle"};

	return names[mode];
}

/* An endpoint has no quote, but a file's name may have anything. */
static void
put_string(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			printf("\\u%04x", (unsigned char)*text);
		else
			putchar(*text);
	}
	putchar('"');
}

static void
put_targets(const char *key, const struct target *targets, unsigned n)
{
	printf(",\"%s\":[", key);
	for (unsigned i = 0; i < n; i++) {
		if (i > 0)
			putchar(',');
		put_string(targets[i].text);
	}
	putchar(']');
}

static void
put_latencies(const struct histogram *h)
{
	fputs(",\"latency_us\":{", stdout);
	for (unsigned i = 0; i < QUANTILES; i++)
		printf("\"%s\":%.1f,", quantiles[i].key,
			(double)histogram_quantile(h, quantiles[i].quantile) / 1e3);
	printf("\"max\":%.1f,\"mean\":%.1f}", (double)h->max / 1e3, histogram_mean(h) / 1e3);
}

static void
put_errors(const struct run *run)
{
	fputs(",\"errors\":{", stdout);
	for (unsigned i = 0; i < RUN_ERROR_COUNT; i++)
		printf("%s\"%s\":%" PRIu64, i > 0 ? "," : "", errors[i].word, run->errors[i]);
	putchar('}');
}

static void
put_broker(const struct result *r, double wall)
{
	double cpu = (double)(r->to.broker_cpu - r->from.broker_cpu);

	printf(",\"broker_cpu_us\":%.4f,\"broker_cpu\":%.3f,\"broker_rss_kb_before\":%" PRIu64
	       ",\"broker_rss_kb_after\":%" PRIu64,
		r->messages > 0 ? cpu / 1e3 / (double)r->messages : 0, cpu / wall, r->rss_before,
		r->rss_after);
}

void
report_json(const struct options *o, const struct run *run, const struct result *r)
{
	double wall = (double)(r->to.at - r->from.at);
	double own = (double)(r->to.own_cpu - r->from.own_cpu) / wall;

	printf("{\"mode\":\"%s\"", mode_name(run->mode));
	put_targets("frontends", o->frontends, o->n_frontends);
	put_targets("backends", o->backends, o->n_backends);
	printf(",\"clients\":%u,\"workers\":%u,\"size\":%zu,\"parts\":%u,\"window\":%u,\"rate\":%g",
		o->clients, o->workers, o->size, o->parts, o->window, o->rate);
	printf(",\"seconds\":%.3f,\"messages\":%" PRIu64 ",\"per_second\":%.1f", wall / 1e9,
		r->messages, (double)r->messages / (wall / 1e9));
	if (has_latencies(run))
		put_latencies(&run->latency);
	printf(",\"requests\":%" PRIu64 ",\"replies\":%" PRIu64 ",\"in_flight\":%" PRIu64
	       ",\"late_replies\":%" PRIu64,
		run->requests, run->replies, run->outstanding, run->late_replies);
	put_errors(run);
	printf(",\"interrupted\":%s,\"late_sends_us\":%.1f", r->interrupted ? "true" : "false",
		(double)run->late_max_ns / 1e3);
	if (o->stall > 0)
		printf(",\"stalled\":%u,\"stalled_per_second\":%.1f,\"messages_in_all\":%" PRIu64,
			o->stall, r->stalled_per_second, run->messages);
	printf(",\"generator_cpu\":%.3f,\"generator_bound\":%s", own,
		is_bound(run, own) ? "true" : "false");
	if (o->pid > 0)
		put_broker(r, wall);
	puts("}");
}
