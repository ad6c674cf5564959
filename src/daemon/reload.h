/*
 * Reload: the file is read and checked whole, new endpoints are bound, and only when all of that
 * went well the difference is applied.
 */
#ifndef BULKHEAD_DAEMON_RELOAD_H
#define BULKHEAD_DAEMON_RELOAD_H

#include "daemon/config.h"
#include "daemon/running.h"

/*
 * Read now->path again and apply what changed of proxies, endpoints and their options; those of
 * [broker] are left to the caller. Returns the configuration that holds from now on (config_free;
 * `now` is the caller's as before), or NULL when nothing was changed because something is wrong.
 * Either way *report (free) is text: a line for each change, or for each error. Changes and errors
 * are logged as well.
 */
struct config *reload_run(struct running *running, const struct config *now, char **report);

#endif
