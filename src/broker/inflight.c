/* SPDX-License-Identifier: MIT */
#include "broker/inflight.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/peer.h"
#include "zmtp/frame.h"
#include "zmtp/wire.h"

enum {
	INLINE_MAX = 512, /* a message up to this size is kept in the request itself */
	/* most are small and come and go by the thousand: these are not given back to malloc */
	SPARE_BYTES = 128,
	SPARE_MAX = 4096,
	/* what an envelope takes on the wire at most: 170 frames of a byte, with long headers */
	ENVELOPE_WIRE = 2048,
	TABLE_MIN = 64,
	TABLE_MOVES = 2 /* places of a table that grows, with each delivery: a power of two below */
};

void
inflight_init(struct inflight *f, struct outq_env *env, struct counters *counters)
{
	*f = (struct inflight){.env = env, .counters = counters};
	list_init(&f->again);
	list_init(&f->returning);
	hash_key_init(&f->hash_key);
}

void
inflight_fini(struct inflight *f)
{
	list_each(node, tmp, &f->again) {
		struct request *r = list_entry(node, struct request, node);
		inflight_unwait(f, r);
		request_release(f, r);
	}
	assert(f->count == 0);
	while (f->spare != NULL) {
		struct request *r = f->spare;
		f->spare = r->spare;
		free(r);
	}
	free(f->table);
	free(f->old);
	f->table = f->old = NULL;
}

/* --- envelopes ------------------------------------------------------------ */

/* Where messages are compared: frames with one byte of flags and one of length each. */
struct envelope {
	/* len bytes: of the message itself where that has this form, else in `own` */
	const uint8_t *key;
	size_t len;
	size_t id_len; /* of them, the routing id's frame */
	bool delimited;
	bool cut; /* more bytes of the message could tell more */
	uint8_t own[INFLIGHT_ENVELOPE];
};

/* One frame of the envelope from p[len]: returns its bytes there, 0 when it is none, or cut. */
static size_t
read_frame(const uint8_t *p, size_t len, struct frame_header *h, bool *cut)
{
	int size = frame_decode(h, p, len);

	*cut = size == 0 || (size > 0 && h->length <= UINT8_MAX && (size_t)size + h->length > len);
	if (size <= 0 || h->length > UINT8_MAX || *cut)
		return 0;
	return (size_t)size + (size_t)h->length;
}

static void
set_key(struct envelope *e, const uint8_t *p, size_t raw, size_t len, bool plain)
{
	size_t at = 0;

	e->key = plain ? p : e->own;
	e->len = len;
	for (size_t i = 0; !plain && at < raw;) {
		struct frame_header h = {0};
		bool cut;
		size_t size = read_frame(p + at, raw - at, &h, &cut);

		e->own[i++] = WIRE_FLAG_MORE;
		e->own[i++] = (uint8_t)h.length;
		memcpy(e->own + i, p + at + size - h.length, (size_t)h.length);
		i += (size_t)h.length;
		at += size;
	}
}

/* The form that frames nearly always come in. False: not in all of the envelope. */
static inline bool
read_plain(struct envelope *e, const uint8_t *p, size_t len)
{
	size_t at = 0, next;

	e->key = p;
	while (at + 2 <= len) {
		if (at > 0 && !(p[at] & WIRE_FLAG_MORE)) { /* the last one */
			e->len = e->id_len;
			e->delimited = false;
			return true;
		}
		next = at + 2 + p[at + 1];
		if (p[at] != WIRE_FLAG_MORE || next > len || next > INFLIGHT_ENVELOPE)
			return false;
		if (at == 0) {
			e->id_len = next;
		} else if (next == at + 2) {
			e->len = next;
			e->delimited = true;
			return true;
		}
		at = next;
	}
	return false;
}

/* From the first bytes of a message. False: it does not begin with a routing id. */
static bool
read_envelope(struct envelope *e, const uint8_t *p, size_t len)
{
	struct frame_header h;
	size_t at = 0, keyed = 0, size;
	bool plain = true;

	e->cut = false;
	if (read_plain(e, p, len))
		return true;
	e->delimited = false;
	while ((size = read_frame(p + at, len - at, &h, &e->cut)) > 0 &&
		keyed + 2 + h.length <= INFLIGHT_ENVELOPE) {
		bool more = h.flags & WIRE_FLAG_MORE;

		if (keyed == 0 && !more)
			return false;
		plain = plain && size == 2 + h.length && p[at] == WIRE_FLAG_MORE;
		at += size;
		keyed += 2 + (size_t)h.length;
		if (at == size) { /* the routing id alone, until the delimiter is found */
			e->id_len = keyed;
			set_key(e, p, at, keyed, plain);
		} else if (h.length == 0 && more) {
			e->delimited = true;
			set_key(e, p, at, keyed, plain);
			break;
		}
		if (!more)
			break;
	}
	return keyed > 0;
}

/* Is this a routing id that Bulkhead made up, with at most a delimiter behind it? */
static bool
is_ours(const uint8_t *key, size_t len)
{
	return len >= 2 + PEER_MADE_UP_ID && len <= 4 + PEER_MADE_UP_ID &&
		key[1] == PEER_MADE_UP_ID && key[2] == 0;
}

/* What a peer chose is hashed with a key; what we did, well and quickly. */
static uint32_t
hash_of(const struct inflight *f, const uint8_t *key, size_t len)
{
	uint32_t h;

	if (is_ours(key, len)) {
		memcpy(&h, key + 3, sizeof(h));
		return (h + (uint32_t)len) * UINT32_C(2246822519);
	}
	return hash_keyed(&f->hash_key, key, len);
}

/* The same envelope at another worker is another key; what a peer chose is hashed already. */
static uint32_t
hash_at(uint32_t key_hash, const struct holder *holder)
{
	uint32_t h = key_hash ^ (uint32_t)((uintptr_t)holder >> 5) * UINT32_C(2654435761);

	return h ^ h >> 15; /* the table takes the low bits */
}

/* --- requests ------------------------------------------------------------- */

static size_t
cost_of(const struct request *r)
{
	return sizeof(*r) + r->room;
}

static void
account(struct inflight *f, const struct request *r)
{
	f->env->memory.used += cost_of(r);
	f->counters->kept_bytes += cost_of(r) + (r->kept != NULL ? r->kept->bytes : 0);
}

/* With room for `len` bytes; the fields are all 0. */
static struct request *
take_spare(struct inflight *f, size_t len)
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
put_spare(struct inflight *f, struct request *r)
{
	if (r->room != SPARE_BYTES || f->spare_count >= SPARE_MAX) {
		free(r);
		return;
	}
	r->spare = f->spare;
	f->spare = r;
	f->spare_count++;
}

/* `key` are bytes of the request's own. */
static void
set_envelope(struct inflight *f, struct request *r, const struct envelope *e, const uint8_t *key)
{
	r->key = key;
	r->key_len = (uint16_t)e->len;
	r->delimited = e->delimited;
	r->key_hash = hash_of(f, key, e->len);
}

/* Room for `len` bytes and, where the envelope has another form, its key behind them. */
static struct request *
allocate(struct inflight *f, const struct envelope *e, size_t len, const uint8_t *raw)
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

/* The usual case: small, in one piece, and its envelope in the usual form. */
static struct request *
keep_small(struct inflight *f, const uint8_t *prefix, size_t prefix_len, const struct message *m)
{
	size_t size = prefix_len + m->size;
	struct request *r = take_spare(f, size);
	struct envelope e;

	if (r == NULL)
		return NULL;
	memcpy(r->bytes, prefix, prefix_len);
	memcpy(r->bytes + prefix_len, m->p, m->size);
	if (!read_envelope(&e, r->bytes, size) || e.key != r->bytes) {
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
 * The envelope that begins with front[prefix_len]; up to `most` bytes of the message come behind.
 */
static bool
read_behind(
	struct envelope *e, uint8_t *front, size_t prefix_len, const struct message *m, size_t most)
{
	uint8_t buf[ENVELOPE_WIRE];
	size_t len;
	const uint8_t *p = outq_front(m, buf, most, &len);

	if (len > most)
		len = most;
	memcpy(front + prefix_len, p, len);
	return read_envelope(e, front, prefix_len + len);
}

/* All else. */
static struct request *__attribute__((noinline))
new_any(struct inflight *f, const uint8_t *prefix, size_t prefix_len, struct message *m, bool keep)
{
	size_t size = prefix_len + m->size;
	uint8_t front[WIRE_ROUTING_ID_MAX + 2 + ENVELOPE_WIRE];
	bool whole = keep && size <= INLINE_MAX;
	struct envelope e;
	struct request *r;

	memcpy(front, prefix, prefix_len);
	if (!read_behind(&e, front, prefix_len, m, INFLIGHT_ENVELOPE) ||
		(e.cut && !read_behind(&e, front, prefix_len, m, ENVELOPE_WIRE)))
		return NULL; /* not with a prefix that is a frame with MORE */
	/* a message that is kept whole here is not longer than the front */
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
request_new(
	struct inflight *f, const uint8_t *prefix, size_t prefix_len, struct message *m, bool keep)
{
	struct request *r = NULL;

	if (keep && prefix_len + m->size <= INLINE_MAX && m->rope == NULL)
		r = keep_small(f, prefix, prefix_len, m);
	return r != NULL ? r : new_any(f, prefix, prefix_len, m, keep);
}

struct request *
request_of(struct inflight *f, struct outq *queue, bool keep)
{
	struct message m = outq_as_message(queue);
	uint8_t buf[ENVELOPE_WIRE];
	size_t len;
	const uint8_t *p = outq_front(&m, buf, sizeof(buf), &len);
	bool whole = keep && m.size <= INLINE_MAX;
	struct envelope e;
	struct request *r;

	if (!read_envelope(&e, p, len < ENVELOPE_WIRE ? len : ENVELOPE_WIRE))
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
request_drop_bytes(struct inflight *f, struct request *r)
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
request_release(struct inflight *f, struct request *r)
{
	if (r->refs > 0 || r->waiting)
		return;
	request_drop_bytes(f, r);
	f->env->memory.used -= cost_of(r);
	f->counters->kept_bytes -= cost_of(r);
	put_spare(f, r);
}

void
inflight_wait(struct inflight *f, struct request *r, bool queued)
{
	assert(!r->waiting);
	r->waiting = true;
	r->queued = queued;
	f->never_sent += queued;
	list_push(&f->again, &r->node);
	f->again_count++;
}

void
inflight_unwait(struct inflight *f, struct request *r)
{
	assert(r->waiting);
	f->never_sent -= r->queued;
	r->waiting = r->queued = false;
	if (f->sweep == &r->node)
		f->sweep = r->node.next;
	list_remove(&r->node);
	f->again_count--;
}

/* --- table ---------------------------------------------------------------- */

static void
link_chain(struct delivery **slot, struct delivery *d)
{
	d->chain = *slot;
	d->slot = slot;
	if (d->chain != NULL)
		d->chain->slot = &d->chain;
	*slot = d;
}

static void
unlink_chain(struct delivery *d)
{
	*d->slot = d->chain;
	if (d->chain != NULL)
		d->chain->slot = d->slot;
	d->slot = NULL;
}

/* All that is in one place of the old table. */
static void
move_place(struct inflight *f, struct delivery **old)
{
	for (struct delivery *d = *old, *next; d != NULL; d = next) {
		next = d->chain;
		link_chain(&f->table[d->hash & (f->size - 1)], d);
	}
	*old = NULL;
}

/* With a million deliveries moving all of them at once would take a turn of its own. */
static void
move_some(struct inflight *f)
{
	for (int i = 0; i < TABLE_MOVES; i++)
		move_place(f, &f->old[f->old_at++]);
	if (f->old_at < f->size / 2)
		return;
	free(f->old);
	f->old = NULL;
}

/* False: no memory for the first table; a larger one can wait. */
static bool
make_room(struct inflight *f)
{
	size_t size = f->size > 0 ? f->size * 2 : TABLE_MIN;
	struct delivery **table;

	if (__builtin_expect(f->old != NULL, 0))
		move_some(f);
	if (f->count < f->size || f->old != NULL)
		return true;
	table = mem_try_new(size * sizeof(struct delivery *));
	if (table == NULL)
		return f->table != NULL;
	f->old = f->table;
	f->old_at = 0;
	f->table = table;
	f->size = size;
	return true;
}

static bool
has_key(const struct delivery *d, const struct holder *holder, uint32_t hash, const uint8_t *key,
	size_t len)
{
	const struct request *r = d->request;

	return d->hash == hash && d->holder == holder && r->key_len == len &&
		memcmp(r->key, key, len) == 0;
}

/* The oldest delivery to the holder with this key, or NULL. */
static struct delivery *
find(const struct inflight *f, const struct holder *holder, uint32_t hash, const uint8_t *key,
	size_t len)
{
	struct delivery *d;

	if (f->count == 0)
		return NULL;
	for (d = f->table[hash & (f->size - 1)]; d != NULL; d = d->chain)
		if (has_key(d, holder, hash, key, len))
			return d;
	if (__builtin_expect(f->old == NULL, 1))
		return NULL;
	for (d = f->old[hash & (f->size / 2 - 1)]; d != NULL; d = d->chain)
		if (has_key(d, holder, hash, key, len))
			return d;
	return NULL;
}

static void
enter(struct inflight *f, struct delivery *d)
{
	struct request *r = d->request;
	struct delivery *oldest = find(f, d->holder, d->hash, r->key, r->key_len);

	list_init(&d->twins);
	d->slot = NULL;
	if (oldest != NULL)
		list_push(&oldest->twins, &d->twins);
	else
		link_chain(&f->table[d->hash & (f->size - 1)], d);
	f->count++;
}

static void
leave(struct inflight *f, struct delivery *d)
{
	struct delivery *next;

	f->count--;
	if (d->slot != NULL && list_linked(&d->twins)) {
		struct delivery **slot = d->slot;
		next = list_entry(d->twins.next, struct delivery, twins);
		unlink_chain(d);
		link_chain(slot, next);
	} else if (d->slot != NULL) {
		unlink_chain(d);
	}
	list_remove(&d->twins);
}

/* --- deliveries ----------------------------------------------------------- */

struct delivery *
inflight_give(
	struct inflight *f, struct holder *holder, struct request *r, uint64_t number, int64_t now)
{
	struct delivery *d = &r->first;

	if (!make_room(f))
		return NULL;
	if (d->request != NULL) {
		d = mem_try_new(sizeof(*d));
		if (d == NULL)
			return NULL;
		f->env->memory.used += sizeof(*d);
		f->counters->kept_bytes += sizeof(*d);
	}
	d->request = r;
	d->holder = holder;
	d->number = number;
	d->given = now;
	d->lapsed = false;
	d->hash = hash_at(r->key_hash, holder);
	list_init(&d->node);
	list_push(&holder->held, &d->node);
	enter(f, d);
	r->refs++;
	r->deliveries++;
	return d;
}

/* It leaves `held`. */
static inline void
step_past(struct delivery *d)
{
	if (__builtin_expect(d->holder->next == &d->node, 0))
		d->holder->next = d->node.next;
}

void
inflight_lapse(struct inflight *f, struct delivery *d)
{
	(void)f;
	step_past(d);
	d->lapsed = true;
	list_move(&d->holder->lapsed, &d->node);
	d->holder->lapsed_count++;
}

void
inflight_forget(struct inflight *f, struct delivery *d)
{
	struct request *r = d->request;

	leave(f, d);
	step_past(d);
	list_remove(&d->node);
	if (d->lapsed)
		d->holder->lapsed_count--;
	if (d == &r->first) {
		d->request = NULL;
	} else {
		f->env->memory.used -= sizeof(*d);
		f->counters->kept_bytes -= sizeof(*d);
		free(d);
	}
	r->refs--;
	request_release(f, r);
}

struct delivery *
inflight_match(struct inflight *f, struct holder *holder, const struct message *m)
{
	struct delivery *oldest = holder_oldest(holder), *d;
	uint8_t buf[ENVELOPE_WIRE];
	size_t len;
	const uint8_t *p = outq_front(m, buf, sizeof(buf), &len);
	struct envelope e;

	if (!read_envelope(&e, p, len < ENVELOPE_WIRE ? len : ENVELOPE_WIRE))
		return NULL;
	/*
	 * most workers answer in order: no hash, unless an older one with the same envelope lapsed
	 */
	if (oldest != NULL && oldest->slot != NULL && oldest->request->key_len == e.len &&
		memcmp(oldest->request->key, e.key, e.len) == 0)
		return oldest;
	d = find(f, holder, hash_at(hash_of(f, e.key, e.len), holder), e.key, e.len);
	if (d != NULL || !e.delimited)
		return d;
	d = find(f, holder, hash_at(hash_of(f, e.key, e.id_len), holder), e.key, e.id_len);
	return d != NULL && !d->request->delimited ? d : NULL;
}

void
inflight_answered(struct inflight *f, int64_t ms)
{
	histogram_add(&f->answers, (uint64_t)ms * 1000000, 1);
}

/* --- holders -------------------------------------------------------------- */

struct holder *
holder_new(struct peer *worker, struct loop *loop, void (*on_due)(struct timer *),
	void (*on_trial)(struct timer *))
{
	struct holder *h = mem_try_new(sizeof(*h));

	if (h == NULL)
		return NULL;
	h->worker = worker;
	list_init(&h->held);
	list_init(&h->lapsed);
	list_init(&h->node);
	h->cut_from = UINT64_MAX;
	timer_init(&h->timer, loop, on_due);
	timer_init(&h->trial, loop, on_trial);
	return h;
}

void
holder_free(struct holder *h)
{
	if (h == NULL)
		return;
	assert(list_empty(&h->held) && list_empty(&h->lapsed) && !list_linked(&h->node));
	timer_stop(&h->timer);
	timer_stop(&h->trial);
	free(h);
}

/* --- check ---------------------------------------------------------------- */

static void
check_list(const struct inflight *f, const struct holder *h, const struct list *head, bool lapsed)
{
	for (const struct list *n = head->next; n != head; n = n->next) {
		const struct delivery *d = list_entry(n, struct delivery, node);
		const struct delivery *oldest =
			find(f, h, d->hash, d->request->key, d->request->key_len);

		assert(d->holder == h && d->lapsed == lapsed && d->request->refs > 0);
		assert(oldest != NULL && (oldest == d) == (d->slot != NULL));
		assert(oldest == d || list_linked(&d->twins));
		(void)oldest, (void)d, (void)lapsed;
	}
}

void
inflight_check(const struct inflight *f, const struct holder *h, uint64_t held)
{
	uint64_t n = 0, cut = 0;

	check_list(f, h, &h->held, false);
	check_list(f, h, &h->lapsed, true);
	for (const struct list *node = h->held.next; node != &h->held; node = node->next) {
		n++;
		cut += list_entry(node, struct delivery, node)->number >= h->cut_from;
	}
	assert(n == held && cut == h->cut);
	(void)n, (void)held, (void)cut;
}
