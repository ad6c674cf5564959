/* SPDX-License-Identifier: MIT */
/*
 * Files of Unix sockets, in directories that may belong to somebody who is not trusted: above all
 * to the user that we become, when we are still root. A name there may be another file at any time,
 * so no name is trusted twice: files are made with their final owner and mode, and what has to be
 * changed later is opened, looked at, and changed through its descriptor.
 */
#ifndef BULKHEAD_NET_SOCKFILE_H
#define BULKHEAD_NET_SOCKFILE_H

#include <stdbool.h>
#include <sys/types.h>

/* Whose the files are; as long as it is not given, they are ours. */
struct sockfile_owner {
	bool given;
	uid_t uid; /* -1: ours */
	gid_t gid; /* -1: ours */
};

/*
 * The directory of `path`, locked against other brokers that bind, replace or remove a file there.
 * -1: not locked, since it cannot be read (*wrong is NULL: go on without), or since somebody has
 * locked it for long (*wrong says so). Nothing is left behind of a lock, however we end.
 */
int sockfile_lock(const char *path, const char **wrong);
void sockfile_unlock(int lock);

/* Would sockfile_lock have to wait for another process just now? */
bool sockfile_is_locked(const char *path);

/*
 * Between these two, bind(2) makes files with this mode and owner. `as_ours`: the owner has no
 * right to make files there; then the file is ours, nobody may use it yet, and sockfile_give
 * follows.
 */
struct sockfile_maker {
	mode_t mask;
	bool switched;
	bool as_ours;
};
struct sockfile_maker sockfile_begin(const struct sockfile_owner *owner, mode_t mode, bool as_ours);
void sockfile_end(const struct sockfile_maker *maker);

/* Give the file that was just made with `as_ours` its owner and mode. 0 or -errno. */
int sockfile_give(const char *path, const struct sockfile_owner *owner, mode_t mode);

/* Change the mode, if that is still the file dev, ino. 0 or -errno. */
int sockfile_set_mode(const char *path, dev_t dev, ino_t ino, mode_t mode);

#endif
