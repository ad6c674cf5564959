/* SPDX-License-Identifier: MIT */
/*
 * bulkheadctl's command line.
 */
#ifndef BULKHEAD_CTL_ARGS_H
#define BULKHEAD_CTL_ARGS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/commands.h"

/* After the daemon's commands, those of bulkheadctl itself. */
enum { CTL_TOP = COMMAND_COUNT, CTL_HELP, CTL_COMMANDS };

enum args_color { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

struct ctl_command {
	const char *word;
	bool action;          /* it changes something */
	const char *argument; /* NULL: none */
	const char *member; /* that the broker's answer must have; NULL: not a command of its own */
	const char *help;
};

extern const struct ctl_command ctl_commands[CTL_COMMANDS];

struct args {
	const char *socket;
	bool json;
	enum args_color color;
	int interval_ms; /* of top */
	int command;     /* enum command, or CTL_TOP */
	const char *argument;
};

enum args_result {
	ARGS_RUN,
	ARGS_DONE, /* help or version was printed */
	ARGS_WRONG /* an error was printed */
};

/*
 * Should stdout be coloured? Without --color, if it is a terminal, unless it is a dumb one or
 * NO_COLOR (https://no-color.org) is set.
 */
bool args_color(const struct args *args);

/* Parse the command line. Help goes to `out`, errors to `err`. */
enum args_result args_parse(struct args *args, int argc, char **argv, FILE *out, FILE *err);

#endif
