/*
 * The ini file: any bytes give a configuration or errors, each a line with the
 * file's name that a terminal can show; a configuration that was printed is the
 * same again.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/config.h"
#include "fuzz.h"

struct text {
	char *p;
	size_t len;
};

static struct config *
load(const void *data, size_t len, struct text *errors)
{
	int fd = memfd_create("ini", MFD_CLOEXEC);
	FILE *err = open_memstream(&errors->p, &errors->len);
	struct config *c;
	char path[64], *next;
	int n;

	assert(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	n = snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	c = config_load(path, err);
	close(fd);
	fclose(err);
	assert((c == NULL) == (errors->len > 0));
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

static struct text
dump(const struct config *c)
{
	struct text text;
	FILE *out = open_memstream(&text.p, &text.len);

	config_dump(c, out);
	fclose(out);
	assert(strlen(text.p) == text.len);
	return text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct text errors, errors_again, once, twice;
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
