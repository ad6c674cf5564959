/* SPDX-License-Identifier: MIT */
#include "net/sockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_TRIES = 100, LOCK_PAUSE_NS = 5000000 };

/* --- one broker at a time ------------------------------------------------- */

static int
open_directory(const char *path)
{
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	const char *slash = strrchr(path, '/');
	int len = slash != NULL && slash > path ? (int)(slash - path) : 1;

	snprintf(directory, sizeof(directory), "%.*s", len, slash != NULL ? path : ".");
	return open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int
sockfile_lock(const char *path, const char **wrong)
{
	const struct timespec pause = {0, LOCK_PAUSE_NS};
	int fd = open_directory(path);

	*wrong = NULL;
	if (fd < 0)
		return -1;
	/* it is held only for a few system calls */
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		if (errno != EWOULDBLOCK)
			break; /* a file system without locks */
		(void)nanosleep(&pause, NULL);
		if (i == LOCK_TRIES - 1)
			*wrong = "another process keeps the directory locked";
	}
	close(fd);
	return -1;
}

void
sockfile_unlock(int lock)
{
	if (lock >= 0)
		close(lock);
}

bool
sockfile_is_locked(const char *path)
{
	int fd = open_directory(path);
	bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;

	sockfile_unlock(fd);
	return locked;
}

/* --- made as it should be ------------------------------------------------- */

struct sockfile_maker
sockfile_begin(const struct sockfile_owner *owner, mode_t mode, bool as_ours)
{
	struct sockfile_maker m = {.as_ours = as_ours};

	m.mask = umask(as_ours ? 0777 : ~mode & 0777);
	m.switched = owner->given && !as_ours && geteuid() == 0;
	if (m.switched && owner->gid != (gid_t)-1)
		(void)setfsgid(owner->gid);
	if (m.switched && owner->uid != (uid_t)-1)
		(void)setfsuid(owner->uid);
	return m;
}

void
sockfile_end(const struct sockfile_maker *m)
{
	if (m->switched) {
		(void)setfsuid(geteuid());
		(void)setfsgid(getegid());
	}
	umask(m->mask);
}

/* --- changed through its descriptor --------------------------------------- */

/* Opens the socket of this name, not the target of a link. */
static int
open_socket(const char *path, struct stat *st)
{
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), error;

	if (fd < 0)
		return -errno;
	error = fstat(fd, st) != 0 ? errno : S_ISSOCK(st->st_mode) ? 0 : ENOTSOCK;
	if (error == 0)
		return fd;
	close(fd);
	return -error;
}

static int
change_mode(int fd, mode_t mode)
{
	char name[64];

	/*
	 * fchmod does not take an O_PATH descriptor, and fchmodat with AT_EMPTY_PATH needs Linux
	 * 6.6
	 */
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return chmod(name, mode) == 0 ? 0 : -errno;
}

int
sockfile_give(const char *path, const struct sockfile_owner *owner, mode_t mode)
{
	struct stat st = {0};
	int fd = open_socket(path, &st), error = 0;

	if (fd < 0)
		return fd;
	/*
	 * it must be ours and without any permission, unlike a socket that was moved here meanwhile
	 */
	if (st.st_uid != geteuid() || (st.st_mode & 07777) != 0 || st.st_nlink != 1)
		error = -EPERM;
	if (error == 0)
		error = change_mode(fd, mode);
	if (error == 0 && owner->given && geteuid() == 0 &&
		fchownat(fd, "", owner->uid, owner->gid, AT_EMPTY_PATH) != 0)
		error = -errno;
	close(fd);
	return error;
}

int
sockfile_set_mode(const char *path, dev_t dev, ino_t ino, mode_t mode)
{
	struct stat st = {0};
	int fd = open_socket(path, &st), error = -ESTALE;

	if (fd < 0)
		return fd;
	if (st.st_dev == dev && st.st_ino == ino)
		error = change_mode(fd, mode);
	close(fd);
	return error;
}
