/*
 * Endpoint strings: what was parsed and printed must parse to the same again.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "net/endpoint.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1);
	struct endpoint a, b;

	if (len > 0)
		memcpy(text, data, len);
	text[len] = '\0';
	endpoint_parse(&a, text, false);
	if (endpoint_parse(&a, text, true) == NULL) {
		assert(endpoint_parse(&b, a.text, true) == NULL);
		assert(strcmp(a.text, b.text) == 0 && a.port == b.port && a.kind == b.kind);
	}
	free(text);
	return 0;
}
