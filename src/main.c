/* SPDX-License-Identifier: MIT */
/*
 * The command line, and nothing else.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "admin/server.h"
#include "base/mem.h"
#include "daemon/config.h"
#include "daemon/last_good.h"
#include "daemon/service.h"

#define DEFAULT_CONFIG SYSCONFDIR "/bulkhead/bulkhead.ini"

static void
usage(FILE *out)
{
	fputs("usage: bulkhead [-c FILE] [--last-good FILE] [-t] [--dump-config] [-v] [-V] [-h]\n"
	      "\n"
	      "Bulkhead, a message broker for ZeroMQ clients and workers. Runs in the\n"
	      "foreground and logs to stderr.\n"
	      "\n"
	      "  -c, --config FILE   read this configuration; default:\n"
	      "                      " DEFAULT_CONFIG "\n"
	      "      --last-good FILE\n"
	      "                      keep a copy of the configuration here; when a start\n"
	      "                      fails for mistakes in it, the next one uses the copy\n"
	      "  -t, --test          check the configuration, print every error, and exit\n"
	      "      --dump-config   print the effective configuration, and exit\n"
	      "  -v, --verbose       log more; may be repeated\n"
	      "  -V, --version       print the version, and exit\n"
	      "  -h, --help          print this, and exit\n"
	      "\n"
	      "Signals: SIGTERM and SIGINT stop after what was accepted is answered, a second\n"
	      "one at once; SIGHUP reads the configuration again; SIGUSR1 logs every counter.\n"
	      "See bulkhead(8) and bulkhead.ini(5).\n",
		out);
}

/* A broken pipe or a full disk must not look like success. */
static int
flushed(int status)
{
	/* what was lost before the last flush is known to ferror() alone */
	const char *why = fflush(stdout) != 0 ? strerror(errno)
		: ferror(stdout)              ? "not all of it was written"
					      : NULL;

	if (why == NULL)
		return status;
	fprintf(stderr, "bulkhead: stdout: %s\n", why);
	return EXIT_CONFIG;
}

static const char *
plural(size_t count)
{
	return count == 1 ? "" : "s";
}

static void
test_passed(const char *path, size_t warnings)
{
	printf("%s: the configuration is good", path);
	if (warnings > 0)
		printf(", with %zu warning%s", warnings, plural(warnings));
	putchar('\n');
}

static void
test_failed(const char *path, size_t errors)
{
	fprintf(stderr, "%s: %zu error%s\n", path, errors, plural(errors));
}

/* Returns their number. */
static size_t
print_warnings(const struct config *config)
{
	struct config_errors warnings;
	size_t count;

	config_warnings(config, &warnings);
	config_errors_print(&warnings, config->path, stderr);
	count = config_errors_count(&warnings);
	config_errors_fini(&warnings);
	return count;
}

/* What the command line asks for. */
struct command {
	const char *path;
	bool test, dump;
	int verbose;
	struct last_good last_good;
};

/* Returns false if the program ends with *status at once. */
static bool
parse_args(int argc, char **argv, struct command *c, int *status)
{
	enum { DUMP = 256, LAST_GOOD };
	static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
		{"test", no_argument, NULL, 't'}, {"dump-config", no_argument, NULL, DUMP},
		{"last-good", required_argument, NULL, LAST_GOOD},
		{"verbose", no_argument, NULL, 'v'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(argc, argv, "c:tvVh", longs, NULL)) != -1) {
		switch (option) {
		case 'c':
			c->path = optarg;
			break;
		case 't':
			c->test = true;
			break;
		case DUMP:
			c->dump = true;
			break;
		case LAST_GOOD:
			c->last_good.path = optarg;
			break;
		case 'v':
			c->verbose++;
			break;
		case 'V':
			puts("bulkhead " PACKAGE_VERSION);
			*status = flushed(EXIT_CLEAN);
			return false;
		case 'h':
			usage(stdout);
			*status = flushed(EXIT_CLEAN);
			return false;
		default:
			fputs("Try bulkhead --help.\n", stderr);
			*status = EXIT_CONFIG;
			return false;
		}
	}
	if (optind == argc)
		return true;
	fprintf(stderr, "bulkhead: unexpected argument \"%s\"\nTry bulkhead --help.\n",
		argv[optind]);
	*status = EXIT_CONFIG;
	return false;
}

/* The configuration, or the last good one. NULL: the program ends with *status. */
static struct config *
load(struct command *c, int *status)
{
	struct config_errors errors;
	struct config *config = config_load(c->path, &errors);
	bool again = false;

	config_errors_print(&errors, c->path, stderr);
	if (config == NULL && c->test)
		test_failed(c->path, config_errors_count(&errors));
	if (config == NULL && !c->test && !c->dump && c->last_good.path != NULL)
		config = last_good_load(
			&c->last_good, c->path, config_errors_line(&errors), stderr, &again);
	config_errors_fini(&errors);
	*status = again ? EXIT_LAST_GOOD : EXIT_CONFIG;
	return config;
}

int
main(int argc, char **argv)
{
	struct command command = {.path = DEFAULT_CONFIG};
	struct config *config;
	size_t warnings = 0;
	int status;

	signal(SIGXFSZ, SIG_IGN); /* a full file is an error of the write, and told */
	if (server_is_wanted(argv))
		return server_run();
	if (!parse_args(argc, argv, &command, &status))
		return status;
	mem_setup();
	config = load(&command, &status);
	if (config == NULL)
		return status;
	if (!command.dump)
		warnings = print_warnings(config);
	if (command.dump)
		config_dump(config, stdout);
	else if (command.test)
		test_passed(command.path, warnings);
	status = command.dump || command.test
		? flushed(EXIT_CLEAN)
		: service_run(config, command.verbose, command.last_good);
	config_free(config);
	return status;
}
