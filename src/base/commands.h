/* SPDX-License-Identifier: MIT */
/*
 * The commands of the control socket, in one place: bulkheadctl sends them, the daemon answers.
 */
#ifndef BULKHEAD_BASE_COMMANDS_H
#define BULKHEAD_BASE_COMMANDS_H

enum command_access {
	COMMAND_VIEW,   /* shows something that anyone who can reach the HTTP port may see, too */
	COMMAND_SECRET, /* shows something over the control socket alone */
	COMMAND_ACTION  /* changes something: POST, over the control socket alone */
};

/*
 * name in C, word, enum command_access, argument or NULL, the member that its answer (JSON) has,
 * what it does in one line
 */
#define COMMANDS(X) \
	X(status, "status", COMMAND_VIEW, NULL, "proxies", \
		"what the broker is doing: state, proxies, endpoints") \
	X(peers, "peers", COMMAND_VIEW, NULL, "peers", \
		"every connection, with its state and what is queued") \
	X(stats, "stats", COMMAND_VIEW, NULL, "proxies", "every counter of every proxy and side") \
	X(events, "events", COMMAND_VIEW, NULL, "events", "the last events of the log") \
	X(kick, "kick", COMMAND_ACTION, "PEER", "done", "close the connection with this id") \
	X(drain, "drain", COMMAND_ACTION, "PEER", "done", \
		"give the peer nothing new, let it finish what it has, then close it") \
	X(pause, "pause", COMMAND_ACTION, "PROXY", "done", \
		"stop reading requests from the proxy's frontend") \
	X(resume, "resume", COMMAND_ACTION, "PROXY", "done", \
		"read requests from the proxy's frontend again") \
	X(reload, "reload", COMMAND_ACTION, NULL, "done", \
		"reload the configuration file and apply what changed") \
	X(log_level, "log-level", COMMAND_ACTION, "LEVEL", "done", \
		"log this much from now on: error, warning, notice, info or debug") \
	X(config, "config", COMMAND_SECRET, NULL, "config", "the effective configuration") \
	X(version, "version", COMMAND_VIEW, NULL, "version", "the daemon's version")

#define COMMAND_ENUM(name, word, kind, argument, member, help) COMMAND_##name,
enum command { COMMANDS(COMMAND_ENUM) COMMAND_COUNT };
#undef COMMAND_ENUM

/* How long a reload may take until it is answered, in seconds; the others take a fraction of it. */
enum { COMMAND_RELOAD_S = 20 };

/* The path of a command is this, its word, and, if it takes an argument, '/' and the argument. */
#define COMMAND_PREFIX "/api/"

#endif
