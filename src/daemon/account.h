/* SPDX-License-Identifier: MIT */
/*
 * The user and group that the daemon changes to when it is started as root.
 */
#ifndef BULKHEAD_DAEMON_ACCOUNT_H
#define BULKHEAD_DAEMON_ACCOUNT_H

#include <stdbool.h>

#include "daemon/config.h"
#include "net/sockfile.h"

struct account {
	const char *user;            /* its name, for its supplementary groups */
	struct sockfile_owner owner; /* not given: stay who we are */
};

/*
 * Look up `user` and `group` of the configuration, which must outlive the account. The files of
 * Unix sockets belong to them from the first moment on. False, logged: there is no such account;
 * it has been removed since the configuration was checked.
 */
bool account_find(struct account *account, const struct config_broker *config);

/* Become it, for good. False, logged, if that fails. */
bool account_become(const struct account *account);

#endif
