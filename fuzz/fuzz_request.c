/* SPDX-License-Identifier: MIT */
/*
 * HTTP requests: whole and byte by byte gives the same, and what is taken fits its limits. And what
 * stands in Host: what means us by its name still does with a port, and in capitals.
 */
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>

#include "admin/hosts.h"
#include "admin/pages.h"
#include "admin/request.h"
#include "fuzz.h"

static void
check_taken(const struct request_head *r, const char *data, size_t len, size_t used)
{
	const char *argument = NULL;

	assert(used <= len && used <= REQUEST_HEAD_MAX && data[used - 1] == '\n');
	assert(r->path[0] == '/' && strlen(r->path) < REQUEST_PATH_MAX);
	assert(strpbrk(r->path, " ?#\r\n\t") == NULL);
	assert(strlen(r->host) < REQUEST_HOST_MAX && strpbrk(r->host, "\r\n") == NULL);
	assert(r->has_host || r->host[0] == '\0');
	assert(r->body <= REQUEST_BODY_MAX && r->minor <= 9);
	if (page_find(r->path, &argument) != NULL)
		assert(argument >= r->path && argument <= r->path + strlen(r->path));
}

static bool
means_us(const char *host, bool (*is_mine)(const struct sockaddr_storage *))
{
	struct sockaddr_storage local = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&local;

	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return hosts_mean_us(host, &local, "broker.example b", is_mine);
}

static bool
nobody(const struct sockaddr_storage *address)
{
	assert(address->ss_family == AF_INET || address->ss_family == AF_INET6);
	return false;
}

static void
check_host(const char *host)
{
	char other[REQUEST_HOST_MAX + 8];
	size_t len = strlen(host);

	if (!means_us(host, nobody))
		return;
	assert(host[0] == '[' || strncasecmp(host, "localhost", 9) == 0 ||
		strncmp(host, "127.0.0.1", 9) == 0 ||
		strncasecmp(host, "broker.example", 14) == 0 ||
		tolower((unsigned char)host[0]) == 'b');
	for (size_t i = 0; i <= len; i++)
		other[i] = (char)toupper((unsigned char)host[i]);
	assert(means_us(other, NULL));
	if (host[0] != '[' && strchr(host, ':') == NULL) {
		snprintf(other, sizeof(other), "%s:9464", host);
		assert(means_us(other, NULL));
		snprintf(other, sizeof(other), "x%s", host);
		assert(!means_us(other, NULL));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct request_head whole, part;
	size_t used = 0, used_part = 0, seen = 0, at = 0;
	int status, got = REQUEST_MORE;
	char *text;

	if (len == 0)
		return 0;
	text = (char *)exact_copy(data, len);
	status = request_parse(&whole, text, len, &seen, &used);
	seen = 0;
	while (got == REQUEST_MORE && at < len)
		got = request_parse(&part, text, ++at, &seen, &used_part);
	/* whole, it may be found too long where a part was good */
	if (len <= REQUEST_HEAD_MAX) {
		assert(got == status);
		assert(memcmp(&whole, &part, sizeof(whole)) == 0);
	}
	if (got == REQUEST_WHOLE) {
		check_taken(&part, text, len, used_part);
		check_host(part.host);
	}
	free(text);
	return 0;
}
