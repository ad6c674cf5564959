/* SPDX-License-Identifier: MIT */
/*
 * One request over the control socket, and its answer. Blocks, for some seconds at most.
 */
#ifndef BULKHEAD_CTL_CLIENT_H
#define BULKHEAD_CTL_CLIENT_H

#include <stddef.h>

enum client_result {
	CLIENT_ANSWERED, /* whatever the answer is */
	CLIENT_DENIED,   /* the socket is not ours to use */
	CLIENT_NO_DAEMON /* nobody is there, or does not answer as a broker does */
};

struct client_answer {
	int status;       /* of HTTP */
	char *body;       /* NUL terminated; free with client_answer_fini */
	char error[1024]; /* when there is none: why, and in a line of its own what to do */
};

/*
 * Ask for `word`, with `argument` or NULL; `action`: by POST. Fills *answer in any case, for
 * client_answer_fini.
 */
enum client_result client_ask(struct client_answer *answer, const char *socket, const char *word,
	const char *argument, int action);

void client_answer_fini(struct client_answer *answer);

#endif
