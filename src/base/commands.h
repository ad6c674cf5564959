/* SPDX-License-Identifier: MIT */
/*
 * The commands of the control socket, in one place: the daemon answers them, bulkheadctl asks.
 */
#ifndef BULKHEAD_BASE_COMMANDS_H
#define BULKHEAD_BASE_COMMANDS_H

/*
 * name in C, word, VIEW or ACTION, argument or NULL, the member that its answer (JSON) has, what
 * it does in one line
 */
#define COMMANDS(X) \
	X(status, "status", VIEW, NULL, "proxies", \
		"what the broker is doing: state, proxies, endpoints") \
	X(peers, "peers", VIEW, NULL, "peers", \
		"every connection, with its state and what is queued") \
	X(stats, "stats", VIEW, NULL, "proxies", "every counter of every proxy and side") \
	X(events, "events", VIEW, NULL, "events", "the last events of the log") \
	X(kick, "kick", ACTION, "PEER", "done", "close the connection with this id") \
	X(drain, "drain", ACTION, "PEER", "done", \
		"give the peer nothing new, let it finish what it has, then close it") \
	X(pause, "pause", ACTION, "PROXY", "done", \
		"stop reading requests from the proxy's frontend") \
	X(resume, "resume", ACTION, "PROXY", "done", \
		"read requests from the proxy's frontend again") \
	X(reload, "reload", ACTION, NULL, "done", \
		"read the configuration anew and apply what changed") \
	X(log_level, "log-level", ACTION, "LEVEL", "done", \
		"log this much from now on: error, warning, notice, info or debug") \
	X(config, "config", VIEW, NULL, "config", "the effective configuration") \
	X(version, "version", VIEW, NULL, "version", "the daemon's version")

#define COMMAND_ENUM(name, word, kind, argument, member, help) COMMAND_##name,
enum command { COMMANDS(COMMAND_ENUM) COMMAND_COUNT };
#undef COMMAND_ENUM

/* So long a reload may take until it is answered, seconds: all others take a fraction of that. */
enum { COMMAND_RELOAD_S = 20 };

/* The path of a command is this and its word; of one with an argument, '/' and that, too. */
#define COMMAND_PREFIX "/api/"

#endif
