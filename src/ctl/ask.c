/* SPDX-License-Identifier: MIT */
#include "ctl/ask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/client.h"
#include "ctl/show.h"

static bool
has_member(const json_t *answer, const char *member)
{
	const json_t *value = json_object_get(answer, member);

	return json_is_array(value) || json_is_string(value);
}

/* The exit status; prints an error unless it is CTL_DONE. */
static int
judge(const struct ctl_command *c, const char *before, int status, const json_t *answer)
{
	if (status == 200 && has_member(answer, c->member))
		return CTL_DONE;
	fprintf(stderr, "%sbulkheadctl: ", before);
	if (status == 200) {
		/* do not show an empty table */
		fputs("the answer is not a broker's\n", stderr);
		return CTL_NO_DAEMON;
	}
	if (has_member(answer, "error"))
		fprintf(stderr, "refused: %.*s\n", show_len(show_text(answer, "error")),
			show_text(answer, "error"));
	else
		fprintf(stderr, "refused: status %d\n", status);
	return CTL_REFUSED;
}

/* The broker's answer, even if it refused; NULL: there was none, or it was not a broker's JSON. */
static json_t *
question(const struct args *args, int command, const char *before, int *status)
{
	const struct ctl_command *c = &ctl_commands[command];
	struct client_answer a;
	enum client_result result =
		client_ask(&a, args->socket, c->word, args->argument, c->action);
	json_t *answer;

	if (result != CLIENT_ANSWERED) {
		fprintf(stderr, "%sbulkheadctl: %s\n", before, a.error);
		*status = result == CLIENT_NO_DAEMON ? CTL_NO_DAEMON : CTL_REFUSED;
		return NULL;
	}
	answer = json_loads(a.body, 0, NULL);
	client_answer_fini(&a);
	*status = judge(c, before, a.status, answer);
	if (*status != CTL_NO_DAEMON)
		return answer;
	json_decref(answer);
	return NULL;
}

int
ask(const struct args *args, int command, const char *before, json_t **out)
{
	int status;

	*out = question(args, command, before, &status);
	if (*out != NULL && status != CTL_DONE) {
		json_decref(*out);
		*out = NULL;
	}
	return status;
}

int
ask_flush(int status)
{
	/* only ferror() knows of errors before the last flush */
	const char *why = fflush(stdout) != 0 ? strerror(errno)
		: ferror(stdout)              ? "not everything could be written"
					      : NULL;

	if (why == NULL)
		return status;
	fprintf(stderr, "bulkheadctl: stdout: %s\n", why);
	return CTL_REFUSED;
}

int
ask_and_show(const struct args *args)
{
	struct screen screen = {.out = stdout, .color = args_color(args), .begin = ""};
	size_t lines;
	int status;
	json_t *answer = question(args, args->command, "", &status);

	if (answer == NULL)
		return status;
	table_terminal(STDOUT_FILENO, &screen.width, &lines);
	if (args->json) {
		json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
		putchar('\n');
	} else if (status == CTL_DONE) {
		show_answer(args->command, answer, &screen);
	}
	json_decref(answer);
	return ask_flush(status);
}
