/* SPDX-License-Identifier: MIT */
/*
 * Files of Unix sockets, in directories that may belong to a user who is not trusted, above all to
 * the user that we become after we were root. A name there may be another file at any time, so no
 * name is trusted twice: files are created with their final owner and mode, and a file that must be
 * changed later is opened, checked, and changed through its descriptor.
 */
#ifndef BULKHEAD_NET_SOCKFILE_H
#define BULKHEAD_NET_SOCKFILE_H

#include <stdbool.h>
#include <sys/types.h>

/* The owner of the files; if none is given, they are ours. */
struct sockfile_owner {
	bool given;
	uid_t uid; /* -1: ours */
	gid_t gid; /* -1: ours */
};

/*
 * Lock the directory of `path` against other brokers that bind, replace or remove a file there.
 * Returns the lock, or -1: the directory cannot be read (*wrong is NULL: go on without a lock), or
 * another process has kept it locked for long (*wrong says so). The lock ends with the process,
 * however that ends.
 */
int sockfile_lock(const char *path, const char **wrong);
void sockfile_unlock(int lock);

/* Would sockfile_lock have to wait for another process now? */
bool sockfile_is_locked(const char *path);

/*
 * Between these two calls, bind(2) creates files with this mode and owner. `as_ours`: the owner may
 * not create files there; then the file is ours, nobody may use it yet, and sockfile_give must
 * follow.
 */
struct sockfile_maker {
	mode_t mask;
	bool switched;
	bool as_ours;
};
struct sockfile_maker sockfile_begin(const struct sockfile_owner *owner, mode_t mode, bool as_ours);
void sockfile_end(const struct sockfile_maker *maker);

/* Give a file that was just created with `as_ours` its owner and mode. 0 or -errno. */
int sockfile_give(const char *path, const struct sockfile_owner *owner, mode_t mode);

/* Change the mode if `path` is still the file dev, ino. 0 or -errno. */
int sockfile_set_mode(const char *path, dev_t dev, ino_t ino, mode_t mode);

#endif
