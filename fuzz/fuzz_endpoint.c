/*
 * Endpoint strings: what was parsed and printed must parse to the same again,
 * and whatever can be dialled can be bound.
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1);
	struct endpoint a, b;

	if (len > 0)
		memcpy(text, data, len);
	text[len] = '\0';
	if (endpoint_parse(&a, text, true) == NULL) {
		assert(strlen(a.host) > 0 && strlen(a.text) <= len);
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
	free(text);
	return 0;
}
