/* SPDX-License-Identifier: MIT */
#include "net/resolver.h"

#include <event2/dns.h>
#include <event2/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ADDRESSES_MAX = 32 };

struct resolver {
	struct loop *loop;
	struct evdns_base *dns;
	struct evdns_getaddrinfo_request *request;
	void (*cb)(void *arg, const struct resolved *list, int count, const char *error);
	void *arg;
	struct task done_task;
	struct resolved list[ADDRESSES_MAX];
	int count;
	const char *error;
};

/* A task, because evdns must not be freed from inside its callback. */
static void
done_task_cb(struct task *task)
{
	struct resolver *r = list_entry(&task->node, struct resolver, done_task.node);

	if (r->dns != NULL)
		evdns_base_free(r->dns, 0);
	if (r->cb != NULL)
		r->cb(r->arg, r->list, r->count, r->error);
	free(r);
}

static void
addrinfo_cb(int result, struct evutil_addrinfo *list, void *arg)
{
	struct resolver *r = arg;

	r->request = NULL;
	for (struct evutil_addrinfo *i = list; i != NULL && r->count < ADDRESSES_MAX;
		i = i->ai_next) {
		struct resolved *a = &r->list[r->count++];
		memcpy(&a->addr, i->ai_addr, i->ai_addrlen);
		a->len = (socklen_t)i->ai_addrlen;
	}
	if (list != NULL)
		evutil_freeaddrinfo(list);
	if (r->count == 0)
		r->error = result != 0 ? evutil_gai_strerror(result) : "no address";
	loop_defer(r->loop, LOOP_RESUME, &r->done_task);
}

/* If resolv.conf names no server, the one on this machine is meant: resolv.conf(5). */
static bool
ask_localhost(struct evdns_base *dns)
{
	return evdns_base_nameserver_ip_add(dns, "127.0.0.1") == 0 &&
		evdns_base_count_nameservers(dns) > 0;
}

struct resolver *
resolver_start(struct loop *loop, const char *host, uint16_t port,
	void (*cb)(void *, const struct resolved *, int, const char *), void *arg)
{
	struct evutil_addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
	struct resolver *r = mem_try_new(sizeof(*r));
	char service[8];

	if (r == NULL)
		return NULL;
	*r = (struct resolver){.loop = loop, .cb = cb, .arg = arg};
	task_init(&r->done_task, done_task_cb);
	snprintf(service, sizeof(service), "%u", port);
	r->dns = evdns_base_new(
		loop->base, EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (r->dns == NULL) {
		/* without a usable resolv.conf there are still numeric addresses and /etc/hosts */
		r->dns = evdns_base_new(loop->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
		if (r->dns != NULL)
			evdns_base_load_hosts(r->dns, "/etc/hosts");
	}
	if (r->dns == NULL) {
		addrinfo_cb(EVUTIL_EAI_MEMORY, NULL, r);
		return r;
	}
	/* without a name server evdns would never answer: accept only a numeric address, at once */
	if (evdns_base_count_nameservers(r->dns) == 0 && !ask_localhost(r->dns))
		hints.ai_flags = EVUTIL_AI_NUMERICHOST;
	r->request = evdns_getaddrinfo(r->dns, host, service, &hints, addrinfo_cb, r);
	return r;
}

void
resolver_cancel(struct resolver *r)
{
	r->cb = NULL;
	if (r->request != NULL)
		evdns_getaddrinfo_cancel(r->request); /* calls back with EVUTIL_EAI_CANCEL */
}
