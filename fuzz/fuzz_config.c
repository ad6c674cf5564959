/*
 * The ini file: any bytes give a configuration or errors that a terminal can
 * show, and a configuration that was printed is the same again.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static char *
print(const struct config *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	config_dump(c, out);
	fclose(out);
	assert(strlen(text) == len);
	return text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *errors = NULL, *first, *second;
	size_t errors_len = 0;
	FILE *err = open_memstream(&errors, &errors_len);
	struct config *c = load(data, len, err), *again;

	fflush(err);
	assert((c == NULL) == (errors_len > 0));
	for (size_t i = 0; i < errors_len; i++)
		assert((errors[i] >= ' ' && errors[i] < 0x7f) || errors[i] == '\n');
	if (c != NULL) {
		first = print(c);
		again = load(first, strlen(first), err);
		assert(again != NULL);
		second = print(again);
		assert(strcmp(first, second) == 0);
		config_free(again);
		config_free(c);
		free(first);
		free(second);
	}
	fclose(err);
	free(errors);
	return 0;
}
