/* SPDX-License-Identifier: MIT */
#include "daemon/last_good.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define NEW ".new" /* suffix of the next copy while it is written */
#define USE ".use" /* suffix of the mark of a failed start: the next one uses the copy */

static bool
beside(const struct last_good *lg, const char *suffix, char out[PATH_MAX])
{
	int len = snprintf(out, PATH_MAX, "%s%s", lg->path, suffix);

	if (len < PATH_MAX)
		return true;
	errno = ENAMETOOLONG;
	return false;
}

/* A new file with access for us alone. Replaces an old one, follows no link. -1: errno. */
static int
create(const struct last_good *lg, const char *suffix, char out[PATH_MAX])
{
	if (!beside(lg, suffix, out) || (unlink(out) != 0 && errno != ENOENT))
		return -1;
	return open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* --- start ---------------------------------------------------------------- */

/* Why the copy cannot be trusted, or NULL. errno == ENOENT: there is no copy. */
static const char *
why_not(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return strerror(errno);
	errno = 0;
	if (!S_ISREG(st.st_mode))
		return "not a regular file";
	if (st.st_uid != geteuid())
		return "it belongs to another user";
	return (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 ? "other users can write to it" : NULL;
}

static struct config *
load_copy(const struct last_good *lg, const char *file, FILE *err)
{
	const char *wrong = why_not(lg->path);
	struct config_errors errors;
	struct config *config = NULL;
	char *path;

	if (wrong != NULL && errno == ENOENT)
		fprintf(err, "%s: there is no last good configuration yet\n", lg->path);
	else if (wrong != NULL)
		fprintf(err, "%s: the last good configuration is not used: %s\n", lg->path, wrong);
	else {
		config = config_load(lg->path, &errors);
		config_errors_print(&errors, lg->path, err);
		config_errors_fini(&errors);
	}
	if (config == NULL)
		return NULL;
	path = mem_must(mem_try_strdup(file));
	free(config->path);
	config->path = path;
	return config;
}

/* True if the last start failed. If not, leave a mark, so that the next start knows of this one. */
static bool
has_failed_before(const struct last_good *lg)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	if (beside(lg, USE, path) && lstat(path, &st) == 0)
		return true;
	fd = create(lg, USE, path);
	if (fd >= 0)
		close(fd);
	return fd < 0; /* without a mark no start would ever use the copy */
}

struct config *
last_good_load(struct last_good *lg, const char *file, int line, FILE *err, bool *again)
{
	struct config *config;
	struct stat st;

	*again = false;
	if (stat(file, &st) != 0 && (errno == ENOENT || errno == ENOTDIR))
		return NULL;
	config = load_copy(lg, file, err);
	if (config == NULL)
		return NULL;
	if (has_failed_before(lg)) {
		lg->in_use = true;
		lg->line = line;
		return config;
	}
	fprintf(err,
		"%s: not started because of these errors; the next start uses the last good "
		"configuration, %s\n",
		file, lg->path);
	config_free(config);
	*again = true;
	return NULL;
}

/* --- while it runs -------------------------------------------------------- */

static bool
write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

/*
 * The copy is not synced to the disk, since the loop would wait for that. After a power failure it
 * may be empty, and an empty file is not a valid configuration.
 */
static bool
write_copy(const struct last_good *lg, const struct text *source)
{
	char path[PATH_MAX];
	int fd = create(lg, NEW, path), saved;
	bool ok;

	if (fd < 0)
		return false;
	ok = write_all(fd, source->bytes, source->len);
	saved = errno;
	close(fd);
	if (ok && rename(path, lg->path) == 0)
		return true;
	if (ok)
		saved = errno;
	(void)unlink(path);
	errno = saved;
	return false;
}

static void
keep(const struct last_good *lg, struct config *config)
{
	char path[256];

	errno = ENOMEM;
	if (lg->path != NULL && (config->source.no_memory || !write_copy(lg, &config->source)))
		log_event(LOG_LEVEL_WARNING, "last_good_not_kept", "copy=%s error=\"%s\"",
			log_quote(path, sizeof(path), lg->path, strlen(lg->path)), strerror(errno));
	text_fini(&config->source);
}

static void
log_in_use(const struct last_good *lg, const char *file)
{
	char copy[256], path[256], date[32] = "-";
	struct stat st;
	struct tm tm;

	if (stat(lg->path, &st) == 0 && gmtime_r(&st.st_mtime, &tm) != NULL)
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
	log_event(LOG_LEVEL_WARNING, "last_good_in_use",
		"file=%s line=%d copy=%s of=%s detail=\"the file has mistakes; correct them, then "
		"reload\"",
		log_quote(path, sizeof(path), file, strlen(file)), lg->line,
		log_quote(copy, sizeof(copy), lg->path, strlen(lg->path)), date);
}

void
last_good_started(struct last_good *lg, struct config *config)
{
	char path[PATH_MAX];

	if (lg->in_use) {
		log_in_use(lg, config->path);
		text_fini(&config->source);
	} else {
		keep(lg, config);
	}
	/* remove the mark: the next bad start fails again before one uses the copy */
	if (lg->path != NULL && beside(lg, USE, path))
		(void)unlink(path);
}

void
last_good_reloaded(struct last_good *lg, struct config *config)
{
	char path[256];

	if (lg->in_use)
		log_event(LOG_LEVEL_NOTICE, "last_good_over", "file=%s",
			log_quote(path, sizeof(path), config->path, strlen(config->path)));
	lg->in_use = false;
	keep(lg, config);
}
