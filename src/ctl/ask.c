#include "ctl/ask.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/client.h"
#include "ctl/show.h"

/* The answer as the broker gave it, refusals included. *status: what to exit with. */
static json_t *
question(const struct args *args, int command, const char *before, int *status)
{
	const struct ctl_command *c = &ctl_commands[command];
	struct client_answer a;
	enum client_result result =
		client_ask(&a, args->socket, c->word, args->argument, c->action);
	json_t *answer = NULL;

	if (result != CLIENT_ANSWERED) {
		fprintf(stderr, "%sbulkheadctl: %s\n", before, a.error);
		*status = result == CLIENT_DENIED ? CTL_REFUSED : CTL_NO_DAEMON;
		return NULL;
	}
	answer = json_loads(a.body, 0, NULL);
	if (answer == NULL) {
		fprintf(stderr, "%sbulkheadctl: the answer is not a broker's\n", before);
		*status = CTL_NO_DAEMON;
	} else {
		*status = a.status == 200 ? CTL_DONE : CTL_REFUSED;
	}
	client_answer_fini(&a);
	return answer;
}

static void
complain(const json_t *answer, const char *before)
{
	fprintf(stderr, "%sbulkheadctl: refused: %s\n", before, show_text(answer, "error"));
}

int
ask(const struct args *args, int command, const char *before, json_t **out)
{
	int status;

	*out = question(args, command, before, &status);
	if (*out != NULL && status != CTL_DONE) {
		complain(*out, before);
		json_decref(*out);
		*out = NULL;
	}
	return status;
}

static int
flushed(int status)
{
	if (fflush(stdout) == 0)
		return status;
	perror("bulkheadctl: stdout");
	return CTL_REFUSED;
}

int
ask_and_show(const struct args *args)
{
	size_t columns, lines;
	int status;
	json_t *answer = question(args, args->command, "", &status);

	if (answer == NULL)
		return status;
	table_terminal(STDOUT_FILENO, &columns, &lines);
	if (status != CTL_DONE)
		complain(answer, "");
	if (args->json) {
		json_dumpf(answer, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (status == CTL_DONE) {
		show_answer(args->command, answer, stdout, columns);
	}
	json_decref(answer);
	return flushed(status);
}
