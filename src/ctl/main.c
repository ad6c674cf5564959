/* SPDX-License-Identifier: MIT */
/*
 * bulkheadctl: sends the broker a command over its control socket.
 */
#include <signal.h>
#include <stdio.h>

#include "ctl/args.h"
#include "ctl/ask.h"
#include "ctl/top.h"

int
main(int argc, char **argv)
{
	struct args args;

	signal(SIGXFSZ, SIG_IGN); /* then a write to a full file fails, and the error is reported */
	switch (args_parse(&args, argc, argv, stdout, stderr)) {
	case ARGS_DONE:
		return ask_flush(CTL_DONE);
	case ARGS_WRONG:
		return CTL_REFUSED;
	case ARGS_RUN:
		break;
	}
	if (args.command != CTL_TOP)
		return ask_and_show(&args);
	if (!args.json)
		return top(&args);
	args.command = COMMAND_peers; /* JSON needs no order */
	return ask_and_show(&args);
}
