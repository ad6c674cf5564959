/* SPDX-License-Identifier: MIT */
/*
 * Endpoint strings: what was parsed and printed must parse to the same again,
 * whatever can be dialled can be bound, and two that clash do so both ways.
 */
#include "fuzz.h"
#include "net/endpoint.h"

static void
check_same(const struct endpoint *a, const struct endpoint *b)
{
	assert(strcmp(a->text, b->text) == 0 && strcmp(a->host, b->host) == 0);
	assert(a->kind == b->kind && a->port == b->port);
	assert(a->any_host == b->any_host && a->any_port == b->any_port);
	assert(a->bracketed == b->bracketed);
}

static void
check_text(const char *text)
{
	struct endpoint a, b;

	if (endpoint_parse(&a, text, true) == NULL) {
		assert(strlen(a.host) > 0 && strlen(a.text) <= strlen(text));
		assert((a.port != 0) == (a.kind == ENDPOINT_TCP && !a.any_port));
		assert(endpoint_parse(&b, a.text, true) == NULL);
		check_same(&a, &b);
	}
	if (endpoint_parse(&b, text, false) == NULL) {
		assert(endpoint_parse(&a, text, true) == NULL);
		check_same(&a, &b);
		assert(!b.any_host && !b.any_port && b.kind != ENDPOINT_FD);
		assert(endpoint_parse(&a, b.text, false) == NULL);
		check_same(&a, &b);
	}
}

static void
check_pair(const char *first, const char *second)
{
	struct endpoint a, b;

	if (endpoint_parse(&a, first, true) != NULL)
		return;
	/* the same place cannot be bound twice, any free port can */
	assert(endpoint_clash(&a, &a) == (a.kind != ENDPOINT_TCP || !a.any_port));
	if (endpoint_parse(&b, second, true) != NULL)
		return;
	assert(endpoint_clash(&a, &b) == endpoint_clash(&b, &a));
	assert(a.kind == b.kind || !endpoint_clash(&a, &b));
	assert(a.port == b.port || !endpoint_clash(&a, &b));
}

/* One text, or two with a space between them. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1), *space;

	if (len > 0)
		memcpy(text, data, len);
	text[len] = '\0';
	check_text(text);
	space = strchr(text, ' ');
	if (space != NULL) {
		*space = '\0';
		check_text(text);
		check_text(space + 1);
		check_pair(text, space + 1);
	} else {
		check_pair(text, "");
	}
	free(text);
	return 0;
}
