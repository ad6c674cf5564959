/* SPDX-License-Identifier: MIT */
/*
 * The ini file: any bytes give a configuration or errors, each a line with the
 * file's name that a terminal can show; a configuration that was printed is the
 * same again. What is read in slices, however small, is what is read at once.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config.h"
#include "fuzz.h"

struct written {
	char *p;
	size_t len;
};

static void
load_in_slices(const char *path, const struct config *whole, const struct written *errors)
{
	struct config_reader *reader = config_reader_new(path);
	struct slice least = {SLICE_UNITS, 0};
	struct config *c;
	struct config_errors found;
	struct text text = {0};

	while (config_reader_step(reader, &least))
		least.left = SLICE_UNITS;
	c = config_reader_end(reader, &found);
	config_errors_write(&found, path, &text);
	config_errors_fini(&found);
	assert((c == NULL) == (whole == NULL) && text.len == errors->len);
	assert(text.len == 0 || memcmp(text.bytes, errors->p, text.len) == 0);
	text_fini(&text);
	config_free(c);
}

static struct config *
load(const void *data, size_t len, struct written *errors)
{
	int fd = memfd_create("ini", MFD_CLOEXEC);
	FILE *err = open_memstream(&errors->p, &errors->len);
	struct config *c;
	char path[64], *next;
	struct config_errors found;
	int n;

	assert(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	n = snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	c = config_load(path, &found);
	config_errors_print(&found, path, err);
	fclose(err);
	load_in_slices(path, c, errors);
	close(fd);
	assert((c == NULL) == (errors->len > 0));
	assert((c == NULL) == (config_errors_count(&found) > 0));
	config_errors_fini(&found);
	for (size_t i = 0; i < errors->len; i++)
		assert((errors->p[i] >= ' ' && errors->p[i] < 0x7f) || errors->p[i] == '\n');
	for (char *line = errors->p; *line != '\0'; line = next) {
		assert(strncmp(line, path, (size_t)n) == 0 && line[n] == ':');
		next = strchr(line, '\n');
		assert(next != NULL); /* no message without an end */
		next++;
	}
	return c;
}

static struct written
dump(const struct config *c)
{
	struct written text;
	FILE *out = open_memstream(&text.p, &text.len);

	config_dump(c, out);
	fclose(out);
	assert(strlen(text.p) == text.len);
	return text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct written errors, errors_again, once, twice;
	struct config *c = load(data, len, &errors), *again;

	free(errors.p);
	if (c == NULL)
		return 0;
	once = dump(c);
	again = load(once.p, once.len, &errors_again);
	assert(again != NULL);
	twice = dump(again);
	assert(once.len == twice.len && memcmp(once.p, twice.p, once.len) == 0);
	free(errors_again.p);
	free(once.p);
	free(twice.p);
	config_free(again);
	config_free(c);
	return 0;
}
