/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: bulkhead-bench -f ENDPOINT [-b ENDPOINT] [option...]\n"
	"       bulkhead-bench -b ENDPOINT [option...]\n"
	"\n"
	"Sends requests to what listens at a frontend, answers those that come from a backend, or\n"
	"does both, and tells rates, latencies and errors.\n"
	"\n"
	"  -f, --frontend ENDPOINT  where clients connect; may be repeated\n"
	"  -b, --backend ENDPOINT   where workers connect that send back what they get; may be "
	"repeated\n"
	"  -c, --clients N          default: 10\n"
	"  -w, --workers N          default: 10\n"
	"  -i, --window N           requests that each client keeps in flight; default: 10;\n"
	"                           with --rate at most, default: 1000\n"
	"  -r, --rate N             requests per second of all clients, sent when they are due\n"
	"  -s, --size BYTES         of a request, or of each of its parts; default: 64; K, M "
	"known\n"
	"  -p, --parts N            of a request; default: 1\n"
	"  -d, --duration SECONDS   default: 5; 0, and of workers alone: until Ctrl-C\n"
	"  -n, --count N            requests in all, instead of a duration\n"
	"  -t, --timeout SECONDS    a request without a reply is given up; default: 5\n"
	"  -e, --echo               replies must be what was sent; with -b they must be anyway\n"
	"      --warmup SECONDS     before measuring; default: 0.5, with --count 0\n"
	"  -j, --json               print one object, for programs\n"
	"  -q, --quiet              no line each second\n"
	"  -V, --version            print the version, and exit\n"
	"  -h, --help               print this, and exit\n"
	"\n"
	"For bench/ in the sources, whose README.md explains them: --bare, --oneway, --idle, "
	"--paired,\n"
	"--stall N, --spin, --pid PID.\n"
	"\n"
	"Exit status: 0 every request was answered, 1 there were errors, 2 wrong usage, 3 no "
	"connection.\n"
	"See bulkhead-bench(1).\n";

enum { LONG_ONLY = 256, WARMUP, BARE, ONEWAY, IDLE, PAIRED, STALL, SPIN, PID };

static const struct option names[] = {
	{"frontend", required_argument, NULL, 'f'},
	{"backend", required_argument, NULL, 'b'},
	{"clients", required_argument, NULL, 'c'},
	{"workers", required_argument, NULL, 'w'},
	{"window", required_argument, NULL, 'i'},
	{"rate", required_argument, NULL, 'r'},
	{"size", required_argument, NULL, 's'},
	{"parts", required_argument, NULL, 'p'},
	{"duration", required_argument, NULL, 'd'},
	{"count", required_argument, NULL, 'n'},
	{"timeout", required_argument, NULL, 't'},
	{"echo", no_argument, NULL, 'e'},
	{"warmup", required_argument, NULL, WARMUP},
	{"json", no_argument, NULL, 'j'},
	{"quiet", no_argument, NULL, 'q'},
	{"version", no_argument, NULL, 'V'},
	{"help", no_argument, NULL, 'h'},
	{"bare", no_argument, NULL, BARE},
	{"oneway", no_argument, NULL, ONEWAY},
	{"idle", no_argument, NULL, IDLE},
	{"paired", no_argument, NULL, PAIRED},
	{"stall", required_argument, NULL, STALL},
	{"spin", no_argument, NULL, SPIN},
	{"pid", required_argument, NULL, PID},
	{NULL, 0, NULL, 0},
};

enum { PEERS_DEFAULT = 10 };
enum { PEERS_MAX = 1000000, WINDOW_MAX = 1000000, PARTS_MAX = 100000, SECONDS_MAX = 1000000000 };
#define SIZE_MAX_BYTES (1ull << 30)
#define MEMORY_MAX (4ull << 30)
#define COUNT_MAX 1e15

static bool __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bulkhead-bench: ", stderr);
	vfprintf(stderr, format, args);
	fputs("\nTry bulkhead-bench --help.\n", stderr);
	va_end(args);
	return false;
}

static const char *
name_of(int option)
{
	const struct option *name = names;

	while (name->val != option)
		name++;
	return name->name;
}

static bool
number(double *out, int option, double least, double most)
{
	char *end;
	double value = strtod(optarg, &end);

	if (end == optarg || *end != '\0' || !(value >= least && value <= most))
		return complain("--%s: not a number from %.10g to %.10g: \"%s\"", name_of(option),
			least, most, optarg);
	*out = value;
	return true;
}

static bool
whole(uint64_t *out, int option, double least, double most)
{
	double value = 0;

	if (!number(&value, option, least, most))
		return false;
	if (value != (double)(uint64_t)value)
		return complain("--%s: not a whole number: \"%s\"", name_of(option), optarg);
	*out = (uint64_t)value;
	return true;
}

static bool
whole_unsigned(unsigned *out, int option, double least, double most)
{
	uint64_t value = 0;

	if (!whole(&value, option, least, most))
		return false;
	*out = (unsigned)value;
	return true;
}

static bool
size(size_t *out)
{
	char *end;
	double value = strtod(optarg, &end);
	uint64_t unit = *end == 'K' ? 1u << 10 : *end == 'M' ? 1u << 20 : 1;

	if (end != optarg && (*end == 'K' || *end == 'M'))
		end += strcmp(end + 1, "iB") == 0 ? 3 : 1;
	value *= (double)unit;
	if (end == optarg || *end != '\0' || !(value >= 0 && value <= (double)SIZE_MAX_BYTES))
		return complain("--size: not a number of bytes up to 1024M: \"%s\"", optarg);
	*out = (size_t)value;
	return true;
}

static bool
add_target(struct target *list, unsigned *n)
{
	const char *error;

	if (*n == TARGETS_MAX)
		return complain("too many endpoints: %u is the limit", TARGETS_MAX);
	error = target_init(&list[*n], optarg);
	if (error != NULL)
		return complain("\"%s\": %s", optarg, error);
	++*n;
	return true;
}

/* Options that only bench/ uses. */
static bool
take_special(struct options *o, int option)
{
	uint64_t pid = 0;

	switch (option) {
	case BARE:
		return o->bare = true;
	case ONEWAY:
		return o->oneway = true;
	case IDLE:
		return o->idle = true;
	case PAIRED:
		return o->paired = true;
	case SPIN:
		return o->spin = true;
	case STALL:
		return whole_unsigned(&o->stall, option, 0, PEERS_MAX);
	default:
		if (!whole(&pid, option, 1, 1 << 30))
			return false;
		o->pid = (pid_t)pid;
		return true;
	}
}

static bool
take(struct options *o, int option)
{
	switch (option) {
	case 'f':
		return add_target(o->frontends, &o->n_frontends);
	case 'b':
		return add_target(o->backends, &o->n_backends);
	case 'c':
		return whole_unsigned(&o->clients, option, 1, PEERS_MAX);
	case 'w':
		return whole_unsigned(&o->workers, option, 1, PEERS_MAX);
	case 'i':
		return whole_unsigned(&o->window, option, 1, WINDOW_MAX);
	case 'r':
		return number(&o->rate, option, 0.001, 1e9);
	case 's':
		return size(&o->size);
	case 'p':
		return whole_unsigned(&o->parts, option, 1, PARTS_MAX);
	case 'd':
		return number(&o->duration, option, 0, SECONDS_MAX);
	case 'n':
		return whole(&o->count, option, 1, COUNT_MAX);
	case 't':
		return number(&o->timeout, option, 0.001, SECONDS_MAX);
	case WARMUP:
		return number(&o->warmup, option, 0, SECONDS_MAX);
	case 'e':
		return o->echo = true;
	case 'j':
		return o->json = true;
	case 'q':
		return o->quiet = true;
	default:
		return take_special(o, option);
	}
}

/* Defaults that depend on other options. */
static void
complete(struct options *o)
{
	if (o->n_frontends > 0 && o->clients == 0)
		o->clients = PEERS_DEFAULT;
	if (o->n_backends > 0 && o->workers == 0)
		o->workers = PEERS_DEFAULT;
	if (o->window == 0)
		o->window = o->rate > 0 ? 1000 : 10;
	if (o->warmup < 0)
		o->warmup = o->count > 0 || o->clients == 0 ? 0 : 0.5;
	if (o->duration < 0)
		o->duration = o->count > 0 || o->clients == 0 ? 0 : 5;
}

static bool
check(const struct options *o)
{
	if (o->n_frontends == 0 && o->n_backends == 0)
		return complain(
			"--frontend or --backend is missing: where does the broker listen?");
	if (o->n_frontends == 0 && o->clients > 0)
		return complain("--clients need a --frontend");
	if (o->n_backends == 0 && o->workers > 0)
		return complain("--workers need a --backend");
	if (o->clients == 0 && (o->rate > 0 || o->count > 0))
		return complain("--rate and --count are for clients, which need a --frontend");
	if (o->count > 0 && o->duration > 0)
		return complain("--count and --duration exclude each other");
	if (o->count > 0 && o->warmup > 0)
		return complain("--count has no --warmup: every request counts");
	if ((double)o->size * o->parts > (double)MEMORY_MAX)
		return complain("a request of this --size and these --parts is larger than 4 GiB");
	if ((double)o->clients * o->window > 1e8)
		return complain(
			"so many --clients with so large a --window are over 100 million requests");
	if (o->bare && o->workers == 0 && !o->echo)
		return complain(
			"--bare needs --echo, or workers: how else is a reply to be known?");
	if (o->paired && o->clients != o->workers)
		return complain("--paired needs as many workers as clients");
	if (o->oneway && (o->rate > 0 || o->clients == 0 || o->workers == 0))
		return complain("--oneway needs both sides, and has no --rate");
	if (o->stall > o->workers || (o->stall > 0 && (o->oneway || o->idle)))
		return complain("--stall is for workers that answer, and there must be as many");
	return true;
}

enum options_result
options_parse(struct options *o, int argc, char **argv)
{
	int option;

	memset(o, 0, sizeof(*o));
	o->size = 64;
	o->parts = 1;
	o->timeout = 5;
	o->duration = o->warmup = -1;
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":f:b:c:w:i:r:s:p:d:n:t:ejqVh", names, NULL)) !=
		-1) {
		if (option == 'h' || option == 'V') {
			fputs(option == 'h' ? usage : "bulkhead-bench " PACKAGE_VERSION "\n",
				stdout);
			return OPTIONS_DONE;
		}
		if (option == ':') {
			complain("an argument is missing after \"%s\"", argv[optind - 1]);
			return OPTIONS_WRONG;
		}
		if (option == '?') {
			complain("unknown option \"%s\"", argv[optind - 1]);
			return OPTIONS_WRONG;
		}
		if (!take(o, option))
			return OPTIONS_WRONG;
	}
	if (optind < argc) {
		complain("unexpected argument \"%s\": an endpoint follows -f or -b", argv[optind]);
		return OPTIONS_WRONG;
	}
	complete(o);
	return check(o) ? OPTIONS_RUN : OPTIONS_WRONG;
}
