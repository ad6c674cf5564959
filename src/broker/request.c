/* SPDX-License-Identifier: MIT */
#include "broker/request.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/deliveries.h"
#include "broker/envelope.h"
#include "zmtp/wire.h"

enum {
	INLINE_MAX = 512, /* a message up to this size is kept in the request itself */
	/* most requests are small and short-lived: these are reused, not freed */
	SPARE_BYTES = 128,
	SPARE_MAX = 4096
};

static size_t
cost_of(const struct request *r)
{
	return sizeof(*r) + r->room;
}

static void
account(struct deliveries *f, const struct request *r)
{
	f->env->memory.used += cost_of(r);
	f->counters->kept_bytes += cost_of(r) + (r->kept != NULL ? r->kept->bytes : 0);
}

/* Return a request with room for `len` bytes and all fields 0. NULL: no memory. */
static struct request *
take_spare(struct deliveries *f, size_t len)
{
	size_t room = len <= SPARE_BYTES ? SPARE_BYTES : len;
	struct request *r = room == SPARE_BYTES ? f->spare : NULL;

	if (r != NULL) {
		f->spare = r->spare;
		f->spare_count--;
	} else {
		r = mem_try(offsetof(struct request, bytes) + room);
		if (r == NULL)
			return NULL;
	}
	memset(r, 0, offsetof(struct request, bytes));
	list_init(&r->node);
	r->room = (uint32_t)room;
	return r;
}

static void
put_spare(struct deliveries *f, struct request *r)
{
	if (r->room != SPARE_BYTES || f->spare_count >= SPARE_MAX) {
		free(r);
		return;
	}
	r->spare = f->spare;
	f->spare = r;
	f->spare_count++;
}

/* `key` points into the request. */
static void
set_envelope(struct deliveries *f, struct request *r, const struct envelope *e, const uint8_t *key)
{
	r->key = key;
	r->key_len = (uint16_t)e->len;
	r->delimited = e->delimited;
	r->key_hash = envelope_hash(&f->hash_key, key, e->len);
}

/* A request with raw[len], followed by the key if the envelope in `raw` has another form. */
static struct request *
allocate(struct deliveries *f, const struct envelope *e, size_t len, const uint8_t *raw)
{
	bool own = e->key != raw;
	struct request *r = take_spare(f, len + (own ? e->len : 0));

	if (r == NULL)
		return NULL;
	memcpy(r->bytes, raw, len);
	if (own)
		memcpy(r->bytes + len, e->key, e->len);
	set_envelope(f, r, e, r->bytes + (own ? len : 0));
	return r;
}

/* The usual case: a small message in one piece, its envelope in the usual form. */
static struct request *
keep_small(struct deliveries *f, const uint8_t *prefix, size_t prefix_len, const struct message *m)
{
	size_t size = prefix_len + m->size;
	struct request *r = take_spare(f, size);
	struct envelope e;

	if (r == NULL)
		return NULL;
	memcpy(r->bytes, prefix, prefix_len);
	memcpy(r->bytes + prefix_len, m->p, m->size);
	if (!envelope_read(&e, r->bytes, size) || e.key != r->bytes) {
		put_spare(f, r);
		return NULL;
	}
	set_envelope(f, r, &e, r->bytes);
	r->size = size;
	r->whole = true;
	account(f, r);
	return r;
}

static struct outq *
new_queue(void)
{
	struct outq *q = mem_try(sizeof(*q));

	if (q != NULL)
		outq_init(q);
	return q;
}

/*
 * Read the envelope from front[prefix_len] followed by up to `most` bytes of the message.
 */
static bool
read_behind(
	struct envelope *e, uint8_t *front, size_t prefix_len, const struct message *m, size_t most)
{
	uint8_t buf[ENVELOPE_WIRE];
	size_t len;
	const uint8_t *p = message_front(m, buf, most, &len);

	if (len > most)
		len = most;
	memcpy(front + prefix_len, p, len);
	return envelope_read(e, front, prefix_len + len);
}

/* Slow path: a message that is large, fragmented or not kept, or an unusual envelope. */
static struct request *__attribute__((noinline)) new_any(struct deliveries *f,
	const uint8_t *prefix, size_t prefix_len, struct message *m, bool keep)
{
	size_t size = prefix_len + m->size;
	uint8_t front[WIRE_ROUTING_ID_MAX + 2 + ENVELOPE_WIRE];
	bool whole = keep && size <= INLINE_MAX;
	struct envelope e;
	struct request *r;

	memcpy(front, prefix, prefix_len);
	if (!read_behind(&e, front, prefix_len, m, ENVELOPE_MAX) ||
		(e.cut && !read_behind(&e, front, prefix_len, m, ENVELOPE_WIRE)))
		return NULL; /* impossible: the prefix is a frame with MORE */
	/* a message that is kept whole here is not longer than `front` */
	r = allocate(f, &e, whole ? size : e.key == front ? e.len : 0, front);
	if (r == NULL)
		return NULL;
	r->size = size;
	r->whole = whole;
	if (keep && !whole) {
		r->kept = new_queue();
		if (r->kept == NULL || !outq_push(r->kept, f->env, prefix, prefix_len, m, 0)) {
			free(r->kept);
			put_spare(f, r);
			return NULL;
		}
	}
	account(f, r);
	return r;
}

struct request *
request_new(struct deliveries *f, const uint8_t *prefix, size_t prefix_len, struct message *m,
	bool keep)
{
	struct request *r = NULL;

	if (keep && prefix_len + m->size <= INLINE_MAX && m->rope == NULL)
		r = keep_small(f, prefix, prefix_len, m);
	return r != NULL ? r : new_any(f, prefix, prefix_len, m, keep);
}

struct request *
request_of(struct deliveries *f, struct outq *queue, bool keep)
{
	struct message m = outq_as_message(queue);
	uint8_t buf[ENVELOPE_WIRE];
	size_t len;
	const uint8_t *p = message_front(&m, buf, sizeof(buf), &len);
	bool whole = keep && m.size <= INLINE_MAX;
	struct envelope e;
	struct request *r;

	if (!envelope_read(&e, p, len < ENVELOPE_WIRE ? len : ENVELOPE_WIRE))
		return NULL;
	r = allocate(f, &e, whole ? m.size : e.key == p ? e.len : 0, p);
	if (r == NULL)
		return NULL;
	r->size = m.size;
	r->whole = whole;
	if (keep && !whole) {
		r->kept = new_queue();
		if (r->kept == NULL || outq_share(r->kept, queue, f->env) == 0) {
			free(r->kept);
			put_spare(f, r);
			return NULL;
		}
	}
	account(f, r);
	return r;
}

const uint8_t *
request_client(const struct request *r, size_t *len)
{
	*len = r->key[1];
	return r->key + 2;
}

void
request_drop_bytes(struct deliveries *f, struct request *r)
{
	if (!request_is_kept(r))
		return;
	r->whole = false;
	if (r->kept == NULL)
		return;
	f->counters->kept_bytes -= r->kept->bytes;
	outq_fini(r->kept, f->env);
	free(r->kept);
	r->kept = NULL;
}

void
request_release(struct deliveries *f, struct request *r)
{
	if (r->refs > 0 || r->waiting)
		return;
	request_drop_bytes(f, r);
	f->env->memory.used -= cost_of(r);
	f->counters->kept_bytes -= cost_of(r);
	put_spare(f, r);
}

void
request_requeue(struct deliveries *f, struct request *r, bool queued)
{
	assert(!r->waiting);
	r->waiting = true;
	r->queued = queued;
	f->never_sent += queued;
	list_push(&f->requeued, &r->node);
	f->requeued_count++;
}

void
request_unqueue(struct deliveries *f, struct request *r)
{
	assert(r->waiting);
	f->never_sent -= r->queued;
	r->waiting = r->queued = false;
	if (f->sweep == &r->node)
		f->sweep = r->node.next;
	list_remove(&r->node);
	f->requeued_count--;
}
