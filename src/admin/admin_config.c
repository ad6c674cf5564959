/* SPDX-License-Identifier: MIT */
/*
 * The configuration as it is shown: two blobs, which every new admin process gets.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "admin/admin_impl.h"
#include "admin/blob.h"
#include "base/log.h"

void
admin_send_config(struct admin *admin)
{
	const struct channel_message m = {.kind = CHANNEL_CONFIG};
	const int fds[] = {admin->config_fd, admin->hosts_fd};

	if (admin->config_fd >= 0)
		keeper_send(&admin->keeper, &m, fds, 2);
}

static void
replace(int *fd, int by)
{
	if (*fd >= 0)
		close(*fd);
	*fd = by;
}

void
admin_add_config(struct admin *admin, const char *text, size_t len)
{
	/* nobody to show it to, or a part of it failed already */
	if (admin->events_fd < 0 || admin->next_error != 0)
		return;
	if (text == NULL) {
		admin->next_error = ENOMEM;
		return;
	}
	if (admin->next_fd < 0)
		admin->next_fd = blob_new(NULL, 0);
	if (admin->next_fd < 0 || !blob_add(admin->next_fd, text, len))
		admin->next_error = errno;
}

/* Replace both the configuration and the names, or neither. */
static bool
take_config(struct admin *admin, const char *http_hosts)
{
	struct iovec names = {(char *)(uintptr_t)http_hosts, strlen(http_hosts)};
	int hosts = -1;

	if (admin->next_error == 0 && (hosts = blob_new(&names, 1)) < 0)
		admin->next_error = errno;
	if (admin->next_error != 0)
		return false;
	replace(&admin->config_fd, admin->next_fd);
	replace(&admin->hosts_fd, hosts);
	admin->next_fd = -1;
	return true;
}

void
admin_set_config(struct admin *admin, const char *http_hosts, int64_t drain_timeout)
{
	admin->drain_timeout = drain_timeout;
	if (admin->events_fd < 0)
		return;
	admin_warn_if_exposed(admin);
	if (take_config(admin, http_hosts))
		admin_send_config(admin);
	else
		log_event(LOG_LEVEL_WARNING, "config_not_shown", "error=\"%s\"",
			strerror(admin->next_error));
	replace(&admin->next_fd, -1);
	admin->next_error = 0;
}

void
admin_free_config(struct admin *admin)
{
	replace(&admin->config_fd, -1);
	replace(&admin->hosts_fd, -1);
	replace(&admin->next_fd, -1);
}
