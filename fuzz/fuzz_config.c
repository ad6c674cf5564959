/*
 * The ini file: any bytes give a configuration or errors, and a configuration
 * that was printed is good again.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config.h"
#include "fuzz.h"

static struct config *
load(const void *data, size_t len, FILE *err)
{
	int fd = memfd_create("ini", 0);
	struct config *c;
	char path[64];

	assert(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	c = config_load(path, err);
	close(fd);
	return c;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *errors = NULL, *text = NULL;
	size_t errors_len = 0, text_len = 0;
	FILE *err = open_memstream(&errors, &errors_len), *out;
	struct config *c = load(data, len, err), *again;

	fflush(err);
	assert((c == NULL) == (errors_len > 0));
	if (c != NULL) {
		out = open_memstream(&text, &text_len);
		config_dump(c, out);
		fclose(out);
		again = load(text, text_len, err);
		assert(again != NULL);
		config_free(again);
		config_free(c);
	}
	fclose(err);
	free(errors);
	free(text);
	return 0;
}
