#include "ctl/args.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SOCKET RUNSTATEDIR "/bulkhead/control.sock"

enum { INTERVAL_MS = 1000, INTERVAL_MAX = 3600 };

#define VIEW false
#define ACTION true
#define CTL_ROW(name, word, action, argument, member, help) {word, action, argument, member, help},

const struct ctl_command ctl_commands[CTL_COMMANDS] = {
	COMMANDS(CTL_ROW){"top", VIEW, NULL, NULL,
		"the peers, those in trouble and those with most queued first; redraws"},
};

static void
usage(FILE *out)
{
	fputs("usage: bulkheadctl [-s SOCKET] [-j] COMMAND [ARGUMENT]\n"
	      "\n"
	      "Asks the broker, over its control socket.\n"
	      "\n",
		out);
	for (int i = 0; i < CTL_COMMANDS; i++) {
		const struct ctl_command *c = &ctl_commands[i];
		char words[32];

		snprintf(words, sizeof(words), "%s %s", c->word,
			c->argument != NULL ? c->argument : "");
		fprintf(out, "  %-16s %s\n", words, c->help);
	}
	fputs("\n"
	      "  -s, --socket SOCKET    default: " DEFAULT_SOCKET "\n"
	      "  -j, --json             print what the broker says, for programs\n"
	      "  -i, --interval SECONDS between two redraws of top; default: 1\n"
	      "  -V, --version          print the version, and exit\n"
	      "  -h, --help             print this; behind a command, what that does; and exit\n"
	      "\n"
	      "Exit status: 0 done, 1 refused, 2 no daemon. See bulkheadctl(1).\n",
		out);
}

static void
command_usage(const struct ctl_command *c, FILE *out)
{
	fprintf(out, "usage: bulkheadctl [-s SOCKET] [-j] %s%s%s\n\n%s\n", c->word,
		c->argument != NULL ? " " : "", c->argument != NULL ? c->argument : "", c->help);
}

static int
find_command(const char *word)
{
	for (int i = 0; i < CTL_COMMANDS; i++)
		if (strcmp(ctl_commands[i].word, word) == 0)
			return i;
	return -1;
}

/* Seconds, with or without a fraction. */
static bool
parse_interval(const char *text, int *ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end != '\0' || !(seconds >= 0.1) || seconds > INTERVAL_MAX)
		return false;
	*ms = (int)(seconds * 1000);
	return true;
}

static enum args_result
wrong(FILE *err, const char *what, const char *which)
{
	fprintf(err, "bulkheadctl: %s%s%s%s\nTry bulkheadctl --help.\n", what,
		which != NULL ? " \"" : "", which != NULL ? which : "", which != NULL ? "\"" : "");
	return ARGS_WRONG;
}

/* The words behind the options. */
static enum args_result
parse_words(struct args *args, char **words, bool help, FILE *out, FILE *err)
{
	const struct ctl_command *c;

	if (words[0] == NULL) {
		if (!help)
			return wrong(err, "a command is missing", NULL);
		usage(out);
		return ARGS_DONE;
	}
	args->command = find_command(words[0]);
	if (args->command < 0)
		return wrong(err, "there is no command", words[0]);
	c = &ctl_commands[args->command];
	if (help) {
		command_usage(c, out);
		return ARGS_DONE;
	}
	if (c->argument != NULL && words[1] == NULL)
		return wrong(err, "an argument is missing:", c->argument);
	args->argument = words[1];
	words += c->argument != NULL ? 2 : 1;
	if (words[0] != NULL)
		return wrong(err, "unexpected argument", words[0]);
	if (args->argument != NULL && args->argument[0] == '\0')
		return wrong(err, "the argument is empty:", c->argument);
	return ARGS_RUN;
}

enum args_result
args_parse(struct args *args, int argc, char **argv, FILE *out, FILE *err)
{
	static const struct option longs[] = {{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'}, {"interval", required_argument, NULL, 'i'},
		{"version", no_argument, NULL, 'V'}, {"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}};
	bool help = false;
	int option;

	*args = (struct args){.socket = DEFAULT_SOCKET, .interval_ms = INTERVAL_MS, .command = -1};
	opterr = 0;
	optind = 0; /* glibc: from the start, also when called again */
	while ((option = getopt_long(argc, argv, ":s:ji:Vh", longs, NULL)) != -1) {
		switch (option) {
		case 's':
			args->socket = optarg;
			break;
		case 'j':
			args->json = true;
			break;
		case 'i':
			if (!parse_interval(optarg, &args->interval_ms))
				return wrong(
					err, "not a number of seconds from 0.1 to 3600:", optarg);
			break;
		case 'V':
			fputs("bulkheadctl " PACKAGE_VERSION "\n", out);
			return ARGS_DONE;
		case 'h':
			help = true;
			break;
		case ':':
			return wrong(err, "an argument is missing behind", argv[optind - 1]);
		default:
			return wrong(err, "unknown option", argv[optind - 1]);
		}
	}
	return parse_words(args, argv + optind, help, out, err);
}
