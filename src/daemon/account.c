/* SPDX-License-Identifier: MIT */
#include "daemon/account.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

bool
account_find(struct account *account, const struct config_broker *c)
{
	struct passwd *user = c->user[0] != '\0' ? getpwnam(c->user) : NULL;
	struct group *group = c->group[0] != '\0' ? getgrnam(c->group) : NULL;
	struct sockfile_owner *owner = &account->owner;

	*account = (struct account){.user = c->user};
	if (c->user[0] == '\0' && c->group[0] == '\0')
		return true;
	if (geteuid() != 0) {
		log_event(LOG_LEVEL_NOTICE, "user_ignored", "detail=\"not started as root\"");
		return true;
	}
	if ((c->user[0] != '\0' && user == NULL) || (c->group[0] != '\0' && group == NULL)) {
		log_event(LOG_LEVEL_ERROR, "start_failed", "error=\"no such user or group\"");
		return false;
	}
	*owner = (struct sockfile_owner){true, (uid_t)-1, (gid_t)-1};
	if (user != NULL) {
		owner->uid = user->pw_uid;
		owner->gid = user->pw_gid;
	}
	if (group != NULL)
		owner->gid = group->gr_gid;
	return true;
}

bool
account_become(const struct account *account)
{
	const struct sockfile_owner *to = &account->owner;
	bool has_user = to->uid != (uid_t)-1;

	if (!to->given)
		return true;
	if ((has_user ? initgroups(account->user, to->gid) : setgroups(1, &to->gid)) != 0 ||
		setgid(to->gid) != 0 || (has_user && setuid(to->uid) != 0)) {
		log_event(LOG_LEVEL_ERROR, "start_failed",
			"error=\"cannot change user or group: %s\"", strerror(errno));
		return false;
	}
	return true;
}
