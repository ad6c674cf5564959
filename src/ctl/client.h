/* SPDX-License-Identifier: MIT */
/*
 * One request over the control socket, and its answer. Blocks for some seconds at most.
 */
#ifndef BULKHEAD_CTL_CLIENT_H
#define BULKHEAD_CTL_CLIENT_H

#include <stdbool.h>

enum client_result {
	CLIENT_ANSWERED, /* by the broker, even if it refused */
	CLIENT_DENIED,   /* this user may not use the socket */
	CLIENT_TOO_LONG, /* the argument is; nothing was sent */
	CLIENT_NO_DAEMON /* nobody listens, or what answers is not a broker */
};

struct client_answer {
	int status;       /* of HTTP */
	char *body;       /* NUL terminated; free with client_answer_fini */
	char error[1024]; /* unless CLIENT_ANSWERED: why, and on a second line what to do */
};

/*
 * Send the command `word` with `argument`, which may be NULL, over the control socket at `socket`;
 * an `action` goes by POST. Fills *answer whatever the result; end it with client_answer_fini.
 */
enum client_result client_ask(struct client_answer *answer, const char *socket, const char *word,
	const char *argument, bool action);

/* Free what client_ask put into the answer. */
void client_answer_fini(struct client_answer *answer);

#endif
