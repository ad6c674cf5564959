/* SPDX-License-Identifier: MIT */
#include "admin/metrics.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn.h"

/* What a row prints, and where. */
struct scrape {
	FILE *out;
	const char *name;
	size_t offset; /* the row's */
	const struct snapshot *s;
	const struct process *process;
};

/* --- how a row prints ----------------------------------------------------- */

/* Names of proxies are letters, digits, '_', '.' and '-': nothing to escape. */
#define SIDE_LABELS "proxy=\"%s\",side=\"%s\""

static void
print_side_value(const struct scrape *m, const struct proxy_view *p, int i)
{
	uint64_t value;

	memcpy(&value, (const char *)&p->side[i].counters + m->offset, sizeof(value));
	fprintf(m->out, "%s{" SIDE_LABELS "} %" PRIu64 "\n", m->name, p->name, side_name(i), value);
}

static void
print_dropped(const struct scrape *m, const struct proxy_view *p, int i)
{
	for (int r = 0; r < DROP_REASON_COUNT; r++)
		fprintf(m->out, "%s{" SIDE_LABELS ",reason=\"%s\"} %" PRIu64 "\n", m->name, p->name,
			side_name(i), drop_reason_name((enum drop_reason)r),
			p->side[i].counters.dropped[r]);
}

static void
print_closed(const struct scrape *m, const struct proxy_view *p, int i)
{
	for (int r = 0; r < CLOSE_REASON_COUNT; r++)
		fprintf(m->out, "%s{" SIDE_LABELS ",reason=\"%s\"} %" PRIu64 "\n", m->name, p->name,
			side_name(i), close_reason_name((enum close_reason)r),
			p->side[i].counters.closed_by[r]);
}

/* A closed one is freed before a snapshot is taken. */
static void
print_peers(const struct scrape *m, const struct proxy_view *p, int i)
{
	for (int state = 0; state < CONN_CLOSED; state++)
		fprintf(m->out, "%s{" SIDE_LABELS ",state=\"%s\"} %" PRIu32 "\n", m->name, p->name,
			side_name(i), conn_state_name((enum conn_state)state),
			p->side[i].in_state[state]);
	fprintf(m->out, "%s{" SIDE_LABELS ",state=\"suspect\"} %" PRIu32 "\n", m->name, p->name,
		side_name(i), p->side[i].suspects);
	fprintf(m->out, "%s{" SIDE_LABELS ",state=\"draining\"} %" PRIu32 "\n", m->name, p->name,
		side_name(i), p->side[i].draining);
}

static void
print_histogram(const struct scrape *m, const struct histogram *h, const char *labels)
{
	const char *comma = labels[0] != '\0' ? "," : "";
	const char *open = labels[0] != '\0' ? "{" : "", *close = labels[0] != '\0' ? "}" : "";
	uint64_t sum = 0;

	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
		sum += h->bucket[i];
		fprintf(m->out, "%s_bucket{%s%sle=\"%.9g\"} %" PRIu64 "\n", m->name, labels, comma,
			(double)histogram_bound(i) / 1e9, sum);
	}
	fprintf(m->out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", m->name, labels, comma,
		histogram_count(h));
	fprintf(m->out, "%s_sum%s%s%s %.9f\n", m->name, open, labels, close,
		(double)h->sum_ns / 1e9);
	fprintf(m->out, "%s_count%s%s%s %" PRIu64 "\n", m->name, open, labels, close,
		histogram_count(h));
}

static void
print_forward(const struct scrape *m, const struct proxy_view *p, int i)
{
	char labels[128];

	snprintf(labels, sizeof(labels), SIDE_LABELS, p->name, side_name(i));
	print_histogram(m, &p->side[i].forward, labels);
}

static void
print_answers(const struct scrape *m)
{
	char labels[128];

	for (size_t i = 0; i < m->s->proxy_count; i++) {
		const struct proxy_view *p = &m->s->proxies[i];
		snprintf(labels, sizeof(labels), SIDE_LABELS, p->name, side_name(PROXY_BACKEND));
		print_histogram(m, &p->answers, labels);
	}
}

static void
print_paused(const struct scrape *m)
{
	for (size_t i = 0; i < m->s->proxy_count; i++)
		fprintf(m->out, "%s{proxy=\"%s\"} %d\n", m->name, m->s->proxies[i].name,
			m->s->proxies[i].paused);
}

static void
print_lag(const struct scrape *m)
{
	print_histogram(m, &m->s->loop.lag, "");
}

static void
print_number(const struct scrape *m, const char *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	fprintf(m->out, "%s %" PRIu64 "\n", m->name, value);
}

static void
print_of_snapshot(const struct scrape *m)
{
	print_number(m, (const char *)m->s + m->offset);
}

static void
print_of_process(const struct scrape *m)
{
	print_number(m, (const char *)m->process + m->offset);
}

static void
print_build(const struct scrape *m)
{
	fprintf(m->out, "%s{version=\"%s\"} 1\n", m->name, PACKAGE_VERSION);
}

static void
print_cpu(const struct scrape *m)
{
	fprintf(m->out, "%s %.2f\n", m->name, m->process->cpu_seconds);
}

static void
print_start(const struct scrape *m)
{
	fprintf(m->out, "%s %.2f\n", m->name, m->process->start_seconds);
}

/* --- the table ------------------------------------------------------------ */

#define KIND_COUNTER "counter"
#define KIND_GAUGE "gauge"
#define KIND_HISTOGRAM "histogram"
#define COUNTER_ROW(field, kind, metric, text) \
	{.name = (metric), \
		.type = KIND_##kind, \
		.help = (text), \
		.offset = offsetof(struct counters, field), \
		.print_side = print_side_value},
/* Numbers of 64 bits: a field of the snapshot, or of what is known about the process. */
#define FROM_SNAPSHOT(field) .offset = offsetof(struct snapshot, field), .print = print_of_snapshot
#define FROM_PROCESS(field) .offset = offsetof(struct process, field), .print = print_of_process

/* A row prints for each side of each proxy, or once. A row without a name is left out. */
static const struct metric {
	const char *name; /* without its prefix "bulkhead_"; process_... has none */
	const char *type;
	const char *help;
	size_t offset; /* of a number; see above */
	void (*print_side)(const struct scrape *, const struct proxy_view *, int side);
	void (*print)(const struct scrape *);
} metrics[] = {
	COUNTERS(COUNTER_ROW){.name = "messages_dropped_total",
		.type = KIND_COUNTER,
		.help = "Messages dropped, by reason",
		.print_side = print_dropped},
	{.name = "connections_closed_total",
		.type = KIND_COUNTER,
		.help = "Connections closed, by reason",
		.print_side = print_closed},
	{.name = "peers",
		.type = KIND_GAUGE,
		.help = "Connections, by state; one that is suspect or draining is not ready",
		.print_side = print_peers},
	{.name = "forward_seconds",
		.type = KIND_HISTOGRAM,
		.help = "Time of a message in the broker, from its last byte in to its last byte "
			"out",
		.print_side = print_forward},
	{.name = "answer_seconds",
		.type = KIND_HISTOGRAM,
		.help = "Time from when a worker was chosen to its answer, in whole milliseconds",
		.print = print_answers},
	{.name = "paused",
		.type = KIND_GAUGE,
		.help = "1: an operator paused the proxy's frontend",
		.print = print_paused},
	{.name = "loop_lag_seconds",
		.type = KIND_HISTOGRAM,
		.help = "Time of one turn of the event loop: for so long a peer that is ready may "
			"wait",
		.print = print_lag},
	{.name = "memory_bytes",
		.type = KIND_GAUGE,
		.help = "What all queues cost together, bytes",
		FROM_SNAPSHOT(loop.memory_bytes)},
	{.name = "memory_limit_bytes",
		.type = KIND_GAUGE,
		.help = "The option memory_limit",
		FROM_SNAPSHOT(loop.memory_limit)},
	{.name = "free_buffer_bytes",
		.type = KIND_GAUGE,
		.help = "Buffers that are kept for reuse, bytes: not in use, and not in "
			"memory_bytes",
		FROM_SNAPSHOT(loop.free_buffer_bytes)},
	{.name = "admin_starts_total",
		.type = KIND_COUNTER,
		.help = "Starts of the admin process: the first, and one each time that it ended",
		FROM_SNAPSHOT(admin_starts)},
	{.name = "last_good_config",
		.type = KIND_GAUGE,
		.help = "Whether the broker runs with the last good configuration, because its "
			"file has errors",
		FROM_SNAPSHOT(last_good)},
	{.name = "build_info",
		.type = KIND_GAUGE,
		.help = "1, with the version as a label",
		.print = print_build},
	{.name = "process_cpu_seconds_total",
		.type = KIND_COUNTER,
		.help = "User and system time spent",
		.print = print_cpu},
	{.name = "process_start_time_seconds",
		.type = KIND_GAUGE,
		.help = "When the process started, in seconds since 1970",
		.print = print_start},
	{.name = "process_virtual_memory_bytes",
		.type = KIND_GAUGE,
		.help = "Size of the address space",
		FROM_PROCESS(virtual_bytes)},
	{.name = "process_resident_memory_bytes",
		.type = KIND_GAUGE,
		.help = "Memory in use",
		FROM_PROCESS(resident_bytes)},
	{.name = "process_open_fds",
		.type = KIND_GAUGE,
		.help = "Open descriptors",
		FROM_PROCESS(open_fds)},
	{.name = "process_max_fds",
		.type = KIND_GAUGE,
		.help = "How many there may be",
		FROM_SNAPSHOT(max_fds)},
};

enum { METRIC_COUNT = sizeof(metrics) / sizeof(metrics[0]) };

static void
full_name(const struct metric *m, char out[64])
{
	snprintf(out, 64, "%s%s", strncmp(m->name, "process_", 8) == 0 ? "" : "bulkhead_", m->name);
}

static void
print_sides(const struct metric *m, const struct scrape *from)
{
	for (size_t i = 0; i < from->s->proxy_count; i++)
		for (int side = 0; side < PROXY_SIDES; side++)
			m->print_side(from, &from->s->proxies[i], side);
}

/* The text of a stream, which is closed; NULL, and the text is freed, if a write failed. */
static char *
closed(FILE *out, char **text)
{
	bool failed = ferror(out) != 0;

	if (fclose(out) == 0 && !failed)
		return *text;
	free(*text);
	return NULL;
}

char *
metrics_text(const struct snapshot *s, const struct process *process, size_t *len)
{
	struct scrape from = {.s = s, .process = process};
	char *text = NULL, name[64];

	from.out = open_memstream(&text, len);
	if (from.out == NULL)
		return NULL;
	from.name = name;
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const struct metric *m = &metrics[i];

		if (m->name == NULL)
			continue;
		full_name(m, name);
		from.offset = m->offset;
		fprintf(from.out, "# HELP %s %s\n# TYPE %s %s\n", name, m->help, name, m->type);
		if (m->print_side != NULL)
			print_sides(m, &from);
		else
			m->print(&from);
	}
	return closed(from.out, &text);
}

void
metrics_list(FILE *out)
{
	char name[64];

	for (size_t i = 0; i < METRIC_COUNT; i++) {
		if (metrics[i].name == NULL)
			continue;
		full_name(&metrics[i], name);
		fprintf(out, "%s\n", name);
	}
}
