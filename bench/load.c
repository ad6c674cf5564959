/*
 * load - a load generator for anything that stands between ZeroMQ clients and workers. It plays
 * both sides on one thread, checks every reply, and prints one line of JSON. bench/README.md has
 * the method.
 */
#include "peers.h"
#include "procfs.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define PROXIES_MAX 1024
#define SETTLE 1.5 /* seconds from when workers stop until the rate is measured again */
#define DRAIN_NS 5000000000ull
#define SILENCE_NS 2000000000ull
#define BOUND 0.95 /* from this share of a processor on, the generator is what is measured */
#define BOUND_LATE 0.01

static const char usage[] =
	"usage: load --frontend HOST:PORT --backend HOST:PORT [option...]\n"
	"\n"
	"  --frontend, --backend HOST:PORT  where the broker listens, numeric IPv4; given several\n"
	"                   times, the n-th of each belong together and peers are spread over them\n"
	"  --clients N      DEALER clients (10)\n"
	"  --workers N      DEALER workers that send back what they get (10)\n"
	"  --size BYTES     of each part (64)\n"
	"  --parts N        of each message (1)\n"
	"  --window N       requests that each client keeps in flight (100)\n"
	"  --rate R         requests per second, sent when they are due: open loop\n"
	"  --oneway         workers do not answer\n"
	"  --idle           connect, and be silent\n"
	"  --stall N        after the measured seconds N workers stop; 1.5 s later the rate is\n"
	"                   measured again, as long\n"
	"  --paired         what is measured is a byte relay: as many workers as clients, no\n"
	"                   routing ids\n"
	"  --warmup SECONDS before measuring (0.5)\n"
	"  --seconds SECONDS measured (2)\n"
	"  --pid PID        of the broker: its processor time and memory are measured too\n";

struct options {
	struct sockaddr_in frontends[PROXIES_MAX], backends[PROXIES_MAX];
	unsigned n_frontends, n_backends;
	unsigned clients, workers, parts, window, stall;
	size_t size;
	double rate, warmup, seconds;
	bool oneway, idle, paired;
	pid_t pid;
};

/* What the kernel tells at one moment. */
struct moment {
	uint64_t at, own_cpu, broker_cpu;
};

static void __attribute__((noreturn))
refuse(const char *what)
{
	fprintf(stderr, "load: %s; --help tells more\n", what);
	exit(1);
}

static double
number(const char *text, const char *option, double least)
{
	char *end;
	double value = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(value >= least)) {
		fprintf(stderr, "load: --%s: not a number of at least %g: %s\n", option, least, text);
		exit(1);
	}
	return value;
}

static struct sockaddr_in
address(const char *text)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	char host[64];

	if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
		refuse("an address is HOST:PORT");
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	if (inet_pton(AF_INET, host, &addr.sin_addr) != 1)
		refuse("a host is a numeric IPv4 address");
	addr.sin_port = htons((uint16_t)number(colon + 1, "frontend, --backend", 1));
	return addr;
}

static void
add_address(struct sockaddr_in *list, unsigned *n, const char *text)
{
	if (*n == PROXIES_MAX)
		refuse("too many addresses");
	list[(*n)++] = address(text);
}

static void
parse(int argc, char **argv, struct options *o)
{
	enum {
		FRONTEND = 1, BACKEND, CLIENTS, WORKERS, SIZE, PARTS, WINDOW, RATE, ONEWAY, IDLE,
		PAIRED, STALL, WARMUP, TIME, PID, HELP
	};
	static const struct option names[] = {
		{"frontend", 1, NULL, FRONTEND}, {"backend", 1, NULL, BACKEND},
		{"clients", 1, NULL, CLIENTS}, {"workers", 1, NULL, WORKERS},
		{"size", 1, NULL, SIZE}, {"parts", 1, NULL, PARTS}, {"window", 1, NULL, WINDOW},
		{"rate", 1, NULL, RATE}, {"oneway", 0, NULL, ONEWAY}, {"idle", 0, NULL, IDLE},
		{"paired", 0, NULL, PAIRED}, {"stall", 1, NULL, STALL}, {"warmup", 1, NULL, WARMUP},
		{"seconds", 1, NULL, TIME}, {"pid", 1, NULL, PID}, {"help", 0, NULL, HELP},
		{NULL, 0, NULL, 0},
	};
	int c, which;

	while ((c = getopt_long(argc, argv, "", names, &which)) != -1) {
		const char *name = c == '?' ? "" : names[which].name;

		switch (c) {
		case FRONTEND: add_address(o->frontends, &o->n_frontends, optarg); break;
		case BACKEND: add_address(o->backends, &o->n_backends, optarg); break;
		case CLIENTS: o->clients = (unsigned)number(optarg, name, 1); break;
		case WORKERS: o->workers = (unsigned)number(optarg, name, 0); break;
		case SIZE: o->size = (size_t)number(optarg, name, 0); break;
		case PARTS: o->parts = (unsigned)number(optarg, name, 1); break;
		case WINDOW: o->window = (unsigned)number(optarg, name, 1); break;
		case RATE: o->rate = number(optarg, name, 1); break;
		case ONEWAY: o->oneway = true; break;
		case IDLE: o->idle = true; break;
		case PAIRED: o->paired = true; break;
		case STALL: o->stall = (unsigned)number(optarg, name, 0); break;
		case WARMUP: o->warmup = number(optarg, name, 0); break;
		case TIME: o->seconds = number(optarg, name, 0.01); break;
		case PID: o->pid = (pid_t)number(optarg, name, 1); break;
		case HELP: fputs(usage, stdout); exit(0);
		default: exit(1);
		}
	}
	if (optind < argc)
		refuse("there are only options");
	if (o->n_frontends == 0 || o->n_frontends != o->n_backends)
		refuse("as many --frontend as --backend are needed, one at least");
	if (o->paired && o->clients != o->workers)
		refuse("--paired needs as many workers as clients");
	if (o->oneway && o->rate > 0)
		refuse("--oneway has no rate");
	if (o->stall > o->workers || (o->stall > 0 && (o->oneway || o->idle)))
		refuse("--stall is for workers that answer, and there must be as many");
}

static struct moment
moment(pid_t pid)
{
	struct timespec t;
	struct moment m = {.broker_cpu = pid > 0 ? procfs_cpu_ns(pid) : 0};

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	m.own_cpu = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	m.at = now_ns();
	return m;
}

/* `patient`: nothing is given up. A closed loop that stands still is to be seen as such. */
static void
turn_for(struct run *run, double seconds, bool patient)
{
	uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), looked = start;

	for (uint64_t now = start; now < end; now = now_ns()) {
		run_turn(run, 10);
		if (!patient && now - looked > SILENCE_NS / 5) {
			run_give_up(run, SILENCE_NS);
			looked = now;
		}
	}
}

/* Replies that are still on their way get a while; what does not come is lost. */
static void
drain(struct run *run)
{
	uint64_t end = now_ns() + DRAIN_NS;

	run->sending = false;
	if (run->mode == RUN_ONEWAY)
		return;
	while (run->outstanding > 0 && now_ns() < end)
		run_turn(run, 10);
	run_give_up(run, 0);
}

static const char *
mode_name(enum run_mode mode)
{
	static const char *const names[] = {"closed", "open", "oneway", "idle"};

	return names[mode];
}

static void
report_latency(const struct histogram *h)
{
	static const struct {
		const char *name;
		double quantile;
	} rows[] = {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}};

	printf(",\"latency_us\":{");
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		printf("\"%s\":%.1f,", rows[i].name,
			(double)histogram_quantile(h, rows[i].quantile) / 1e3);
	printf("\"max\":%.1f,\"mean\":%.1f}", (double)h->max / 1e3, histogram_mean(h) / 1e3);
}

static double
rate_with_a_stall(struct run *run, const struct options *o)
{
	uint64_t before, from;

	run_stall(run, o->stall);
	turn_for(run, SETTLE, true);
	before = run->messages;
	from = now_ns();
	turn_for(run, o->seconds, true);
	return (double)(run->messages - before) / ((double)(now_ns() - from) / 1e9);
}

/* In open loop the generator never sleeps: there it is late sends that tell. */
static bool
is_bound(const struct run *run, double own_share)
{
	if (run->mode == RUN_OPEN)
		return (double)run->late_sends > BOUND_LATE * (double)run->sends;
	return own_share >= BOUND;
}

struct result {
	struct moment from, to;
	uint64_t messages;
	double stalled_per_second; /* with workers that stopped */
	uint64_t rss_before, rss_after;
};

static void
report(const struct options *o, const struct run *run, const struct result *r)
{
	double wall = (double)(r->to.at - r->from.at);
	double own = (double)(r->to.own_cpu - r->from.own_cpu) / wall;
	double broker = (double)(r->to.broker_cpu - r->from.broker_cpu);

	printf("{\"mode\":\"%s\",\"clients\":%u,\"workers\":%u,\"size\":%zu,\"parts\":%u,\"window\":%u"
	       ",\"rate\":%g,\"seconds\":%.3f,\"messages\":%" PRIu64 ",\"per_second\":%.1f",
		mode_name(run->mode), o->clients, o->workers, o->size, o->parts, o->window, o->rate,
		wall / 1e9, r->messages, (double)r->messages / (wall / 1e9));
	if (run->mode == RUN_CLOSED || run->mode == RUN_OPEN)
		report_latency(&run->latency);
	printf(",\"lost\":%" PRIu64 ",\"wrong\":%" PRIu64 ",\"late_sends_us\":%.1f", run->lost,
		run->wrong, (double)run->late_max_ns / 1e3);
	if (o->stall > 0)
		printf(",\"stalled\":%u,\"stalled_per_second\":%.1f,\"messages_in_all\":%" PRIu64,
			o->stall, r->stalled_per_second, run->messages);
	printf(",\"generator_cpu\":%.3f,\"generator_bound\":%s", own,
		is_bound(run, own) ? "true" : "false");
	if (o->pid > 0)
		printf(",\"broker_cpu_us\":%.4f,\"broker_cpu\":%.3f,\"broker_rss_kb_before\":%" PRIu64
		       ",\"broker_rss_kb_after\":%" PRIu64,
			r->messages > 0 ? broker / 1e3 / (double)r->messages : 0, broker / wall,
			r->rss_before, r->rss_after);
	printf("}\n");
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int
main(int argc, char **argv)
{
	static struct options o = {
		.clients = 10, .workers = 10, .size = 64, .parts = 1, .window = 100, .warmup = .5,
		.seconds = 2,
	};
	static struct run run;
	struct result r = {0};

	parse(argc, argv, &o);
	raise_descriptor_limit();
	run.mode = o.idle ? RUN_IDLE : o.oneway ? RUN_ONEWAY : o.rate > 0 ? RUN_OPEN : RUN_CLOSED;
	run.n_clients = o.clients;
	run.n_workers = o.workers;
	run.window = o.window;
	run.rate = o.rate;
	run.paired = o.paired;
	run.frontends = o.frontends;
	run.backends = o.backends;
	run.n_proxies = o.n_frontends;
	image_init(&run.image, o.size, o.parts);

	r.rss_before = o.pid > 0 ? procfs_rss_kb(o.pid) : 0;
	run_connect(&run);
	run_start(&run);
	turn_for(&run, o.warmup, false);
	run_count_from_here(&run);
	r.from = moment(o.pid);
	turn_for(&run, o.seconds, false);
	r.to = moment(o.pid);
	r.messages = run.messages;
	r.rss_after = o.pid > 0 ? procfs_rss_kb(o.pid) : 0;
	if (o.stall > 0)
		r.stalled_per_second = rate_with_a_stall(&run, &o);
	drain(&run);
	report(&o, &run, &r);
	run_fini(&run);
	image_fini(&run.image);
	return 0;
}
