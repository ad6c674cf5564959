/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/admin_impl.h"
#include "admin/blob.h"
#include "base/commands.h"
#include "base/log.h"

/* Turn the answer of the broker, NULL or why not, into that of a command. */
static bool
outcome(const char *why_not, char **text)
{
	*text = why_not != NULL ? strdup(why_not) : NULL;
	return why_not == NULL;
}

/* 0, an id that no connection has, if the argument is not a number. */
static uint64_t
peer_id_of(const char *argument)
{
	char *end;
	uint64_t id = strtoull(argument, &end, 10);

	return argument[0] >= '0' && argument[0] <= '9' && *end == '\0' ? id : 0;
}

static bool
run_kick(struct admin *admin, const char *argument, char **text)
{
	return outcome(broker_kick(admin->broker, peer_id_of(argument)), text);
}

static bool
run_drain(struct admin *admin, const char *argument, char **text)
{
	return outcome(
		broker_drain_peer(admin->broker, peer_id_of(argument), admin->drain_timeout), text);
}

static bool
run_pause(struct admin *admin, const char *argument, char **text)
{
	return outcome(broker_pause(admin->broker, argument, true), text);
}

static bool
run_resume(struct admin *admin, const char *argument, char **text)
{
	return outcome(broker_pause(admin->broker, argument, false), text);
}

static bool
run_log_level(struct admin *admin, const char *argument, char **text)
{
	enum log_level level;

	(void)admin;
	if (!log_level_parse(argument, &level))
		return outcome(
			"unknown log level; use error, warning, notice, info or debug", text);
	log_set_level(level);
	return outcome(NULL, text);
}

/*
 * What each command does. True: done, *text may be a report. False: *text says why not. It is
 * freed with free().
 */
static const struct {
	const char *word;
	bool (*run)(struct admin *admin, const char *argument, char **text);
} commands[COMMAND_COUNT] = {
	[COMMAND_kick] = {"kick", run_kick},
	[COMMAND_drain] = {"drain", run_drain},
	[COMMAND_pause] = {"pause", run_pause},
	[COMMAND_resume] = {"resume", run_resume},
	[COMMAND_reload] = {"reload", NULL}, /* run_reload */
	[COMMAND_log_level] = {"log-level", run_log_level},
};

/* A report of several lines as one line in which nothing has to be escaped, for the log. */
static const char *
one_line(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text != '\0' && n + 3 < size; text++) {
		if (*text == '\n' && text[1] == '\0')
			break;
		if (*text == '\n')
			out[n++] = ';';
		out[n++] = (char)(*text == '\n' ? ' ' : *text == '"' ? '\'' : *text);
	}
	out[n] = '\0';
	return out;
}

static void
log_command(const struct channel_message *m, bool done, const char *why)
{
	char what[2 * CHANNEL_ARGUMENT_MAX], detail[256], line[320];
	/* the report of a reload quotes the configuration */
	void (*log)(enum log_level, const char *, const char *, ...) =
		m->command == COMMAND_reload ? log_secret_event : log_event;

	log(LOG_LEVEL_NOTICE, "admin",
		"command=%s argument=%s uid=%" PRId64 " pid=%" PRId64 " result=%s%s%s",
		commands[m->command].word,
		log_quote(what, sizeof(what), m->argument, strlen(m->argument)), m->uid, m->pid,
		done ? "done" : "refused", why != NULL ? " detail=" : "",
		why != NULL ? log_quote(detail, sizeof(detail), line,
				      strlen(one_line(line, sizeof(line), why)))
			    : "");
}

/* `text`: a report, or why not; NULL: neither. */
static void
answer_command(struct admin *admin, const struct channel_message *m, bool done, const char *text)
{
	struct channel_message answer = {.kind = CHANNEL_ANSWER, .number = m->number, .done = done};
	struct iovec bytes = {(char *)(uintptr_t)text, text != NULL ? strlen(text) : 0};
	int fd = text != NULL ? blob_new(&bytes, 1) : -1;

	log_command(m, done, text);
	keeper_send(&admin->keeper, &answer, &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
	/* show the effect at once */
	admin_expire_snapshots(admin);
}

/* It takes a while: the answer follows. */
static void
run_reload(struct admin *admin, const struct channel_message *m)
{
	struct pending_reload *pending = &admin->reloads[admin->reload_count];

	if (admin->reload_count == ADMIN_RELOADS_MAX) {
		answer_command(admin, m, false, "too many reloads pending");
		return;
	}
	*pending = (struct pending_reload){admin->hooks.reload(admin->hooks.arg), *m};
	if (pending->number == 0)
		answer_command(admin, m, false, "the daemon is stopping");
	else
		admin->reload_count++;
}

void
admin_reloaded(struct admin *admin, uint64_t number, bool done, const char *text)
{
	unsigned left = 0;

	for (unsigned i = 0; i < admin->reload_count; i++) {
		if (admin->reloads[i].number == number)
			answer_command(admin, &admin->reloads[i].command, done, text);
		else
			admin->reloads[left++] = admin->reloads[i];
	}
	admin->reload_count = left;
}

void
admin_run_command(struct admin *admin, const struct channel_message *m)
{
	char *text = NULL;
	bool done;

	if (m->command == COMMAND_reload) {
		run_reload(admin, m);
		return;
	}
	if (commands[m->command].run == NULL) /* it only shows something: not for us */
		return;
	done = commands[m->command].run(admin, m->argument, &text);
	answer_command(admin, m, done, text);
	free(text);
}
