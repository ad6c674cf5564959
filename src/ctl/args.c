/* SPDX-License-Identifier: MIT */
#include "ctl/args.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/words.h"

#define DEFAULT_SOCKET RUNSTATEDIR "/bulkhead/control.sock"

enum { INTERVAL_MS = 1000, INTERVAL_MAX = 3600 };

#define CTL_ROW(name, word, kind, argument, member, help) \
	{word, (kind) == COMMAND_ACTION, argument, member, help},

const struct ctl_command ctl_commands[CTL_COMMANDS] = {
	COMMANDS(CTL_ROW){"top", false, NULL, NULL,
		"the peers, redrawn: first those in trouble and those with most queued"},
	{"help", false, "[COMMAND]", NULL, "print this help, or that of a command"},
};

static void
usage(FILE *out)
{
	fputs("usage: bulkheadctl [-s SOCKET] [-j] COMMAND [ARGUMENT]\n"
	      "\n"
	      "Sends a command to the broker over its control socket. Begin with status.\n"
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
	      "  -j, --json             print the broker's answer as JSON\n"
	      "  -i, --interval SECONDS time between two redraws of top; default: 1\n"
	      "      --color[=WHEN]     auto, always or never; default: auto, on a terminal\n"
	      "                         unless NO_COLOR is set\n"
	      "  -V, --version          print the version, and exit\n"
	      "  -h, --help             print this help, or that of a command; and exit\n"
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

/* Parse seconds, which may have a fraction. */
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

/* How far a word is from what was typed; a word that begins with it is near. */
static unsigned
distance(const char *typed, const char *word)
{
	size_t len = strlen(typed);

	if (len >= 2 && strncmp(typed, word, len) == 0)
		return 1;
	return word_distance(typed, word);
}

static enum args_result
wrong_command(FILE *err, const char *typed)
{
	const size_t len = strlen(typed);
	const unsigned too_far = (len < 3 ? 1 : (unsigned)len / 3) + 1;
	unsigned least = too_far, d;
	const char *before = ", did you mean ";

	fprintf(err, "bulkheadctl: there is no command \"%s\"", typed);
	for (int i = 0; i < CTL_COMMANDS; i++) {
		d = distance(typed, ctl_commands[i].word);
		if (d < least)
			least = d;
	}
	for (int i = 0; i < CTL_COMMANDS && least < too_far; i++) {
		if (distance(typed, ctl_commands[i].word) > least)
			continue;
		fprintf(err, "%s\"%s\"", before, ctl_commands[i].word);
		before = " or ";
	}
	fprintf(err, "%s\nTry bulkheadctl --help.\n", before[1] == 'o' ? "?" : "");
	return ARGS_WRONG;
}

static enum args_result
wrong_argument(FILE *err, const struct ctl_command *c, const char *how)
{
	const char *where = strcmp(c->argument, "PEER") == 0
		? "an id, as bulkheadctl peers shows them"
		: strcmp(c->argument, "PROXY") == 0 ? "a name, as bulkheadctl status shows them"
						    : "one of error, warning, notice, info, debug";

	fprintf(err, "bulkheadctl: the argument %s: %s %s takes %s\nTry bulkheadctl %s --help.\n",
		how, c->word, c->argument, where, c->word);
	return ARGS_WRONG;
}

static enum args_result
help_on(const char *word, FILE *out, FILE *err)
{
	int command = word != NULL ? find_command(word) : CTL_HELP;

	if (command < 0)
		return wrong_command(err, word);
	if (command == CTL_HELP)
		usage(out);
	else
		command_usage(&ctl_commands[command], out);
	return ARGS_DONE;
}

/* Parse the words after the options. */
static enum args_result
parse_words(struct args *args, char **words, bool help, FILE *out, FILE *err)
{
	const struct ctl_command *c;

	if (words[0] == NULL && !help) {
		fputs("bulkheadctl: a command is missing\n\n", err);
		usage(err);
		return ARGS_WRONG;
	}
	if (help)
		return help_on(words[0], out, err);
	args->command = find_command(words[0]);
	if (args->command < 0)
		return wrong_command(err, words[0]);
	c = &ctl_commands[args->command];
	args->argument = words[1];
	if (args->command == CTL_HELP && (words[1] == NULL || words[2] == NULL))
		return help_on(words[1], out, err);
	if (c->argument != NULL && words[1] == NULL)
		return wrong_argument(err, c, "is missing");
	words += c->argument != NULL ? 2 : 1;
	if (words[0] != NULL)
		return wrong(err, "unexpected argument", words[0]);
	if (args->argument != NULL && args->argument[0] == '\0')
		return wrong_argument(err, c, "is empty");
	return ARGS_RUN;
}

static bool
parse_color(const char *when, enum args_color *color)
{
	static const char *const names[] = {"auto", "always", "never"};

	*color = COLOR_ALWAYS;
	if (when == NULL)
		return true;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(when, names[i]) != 0)
			continue;
		*color = (enum args_color)i;
		return true;
	}
	return false;
}

bool
args_color(const struct args *args)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if (args->color != COLOR_AUTO)
		return args->color == COLOR_ALWAYS;
	return isatty(STDOUT_FILENO) == 1 && (no == NULL || no[0] == '\0') && term != NULL &&
		strcmp(term, "dumb") != 0;
}

enum args_result
args_parse(struct args *args, int argc, char **argv, FILE *out, FILE *err)
{
	enum { COLOR = 256 };
	static const struct option longs[] = {{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'}, {"interval", required_argument, NULL, 'i'},
		{"color", optional_argument, NULL, COLOR}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
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
		case COLOR:
			if (!parse_color(optarg, &args->color))
				return wrong(err, "--color is auto, always or never, not", optarg);
			break;
		case 'V':
			fputs("bulkheadctl " PACKAGE_VERSION "\n", out);
			return ARGS_DONE;
		case 'h':
			help = true;
			break;
		case ':':
			return wrong(err, "an argument is missing after", argv[optind - 1]);
		default:
			return wrong(err, "unknown option", argv[optind - 1]);
		}
	}
	return parse_words(args, argv + optind, help, out, err);
}
