/* SPDX-License-Identifier: MIT */
/*
 * The inside of the service, for its files alone: service.c (start and life), reloading.c,
 * stopping.c, stats_log.c.
 */
#ifndef BULKHEAD_DAEMON_SERVICE_IMPL_H
#define BULKHEAD_DAEMON_SERVICE_IMPL_H

#include "admin/admin.h"
#include "broker/broker.h"
#include "daemon/account.h"
#include "daemon/last_good.h"
#include "daemon/pace.h"
#include "daemon/reload.h"
#include "daemon/running.h"
#include "daemon/slice.h"
#include "daemon/status.h"
#include "daemon/systemd.h"
#include "net/log_watch.h"
#include "net/loop.h"

/*
 *  RUNNING --signal--> DRAINING --answered or late--> CLOSING_BACKENDS
 *     --gone--> CLOSING_FRONTENDS --gone--> the loop stops
 *  A second signal closes everything at once from any of them.
 */
enum service_state { RUNNING, DRAINING, CLOSING_BACKENDS, CLOSING_FRONTENDS, STOPPING_NOW };

/*
 * A reload that is under way: its own work, and, once it is applied, giving the new configuration
 * to the admin process and freeing the old one.
 */
enum reload_stage { RELOAD_NONE, RELOAD_BEGINS, RELOAD_RUNS, RELOAD_SHOWS, RELOAD_FREES };

struct service {
	const struct config *config; /* in use */
	struct config *first;        /* that we started with, the caller's */
	struct config *reloaded;     /* the one in use, if it came from a reload: then it is ours */
	int verbose;
	struct last_good last_good;
	struct loop *loop;
	struct log_watch log_watch;
	struct broker *broker;
	struct account account;
	struct systemd systemd;
	struct running running;
	struct status status;
	struct admin *admin;
	struct signal_watch *signals[5];
	struct timer drain_timer;
	struct task stats_task, stats_more_task;
	struct timer stats_timer; /* runs while they wait for the log's reader */
	struct pace stats_pace;
	bool stats_again; /* asked for while they were being logged: log them once more */
	enum reload_stage reload_stage;
	struct task reload_task;
	struct timer reload_timer; /* runs while it waits for the log's reader */
	struct pace pace;
	struct reload *reload;  /* while it runs */
	uint64_t reload_number; /* of the last one that began */
	bool reload_again;      /* another one was asked for meanwhile */
	unsigned reload_slices;
	struct reload_summary summary; /* of one that was applied or has failed */
	struct config *replaced;       /* the configuration that it replaced, if that is ours */
	size_t shown;                  /* parts of the configuration: [broker], and proxies */
	int64_t drain_due, drain_log_due;
	enum service_state state;
};

/* The log level that the configuration and the command line ask for. */
void service_set_log_level(const struct service *s);

/* --- reloading.c ---------------------------------------------------------- */

void service_init_reload(struct service *s);

/*
 * Begin a reload, or another one after the one that is under way: its file may have been changed
 * since that one read it. Returns its number; 0: the daemon is stopping.
 */
uint64_t service_ask_for_reload(struct service *s);

/* The daemon stops. What is applied is completed, everything else is taken back. */
void service_break_off_reload(struct service *s);

/*
 * Give the admin side the configuration to show, part by part: [broker], then each proxy. False:
 * that was all of it. Without memory it keeps showing the old one, and logs that.
 */
bool service_show_config(struct service *s, struct slice *slice);

/* --- stopping.c ----------------------------------------------------------- */

void service_init_stop(struct service *s);

/* Stop listening and dialling, and let the peers finish until drain_timeout. */
void service_begin_drain(struct service *s);

/* Close everything at once. */
void service_stop_now(struct service *s);

/* --- stats_log.c ---------------------------------------------------------- */

void service_init_stats(struct service *s);
void service_fini_stats(struct service *s);

/* Log all counters at the end of this turn, when what was read has left; in slices. */
void service_log_stats(struct service *s);

#endif
