/* SPDX-License-Identifier: MIT */
#include "broker/deliveries.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/envelope.h"

enum {
	TABLE_MIN = 64,
	TABLE_MOVES = 2 /* places moved per delivery while the table grows: a power of two below */
};

void
deliveries_init(struct deliveries *f, struct outq_env *env, struct counters *counters)
{
	*f = (struct deliveries){.env = env, .counters = counters};
	list_init(&f->requeued);
	list_init(&f->returning);
	hash_key_init(&f->hash_key);
}

void
deliveries_fini(struct deliveries *f)
{
	list_each(node, tmp, &f->requeued) {
		struct request *r = list_entry(node, struct request, node);
		request_unqueue(f, r);
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

/* --- the table ------------------------------------------------------------ */

/* The same envelope at another worker is another key; the bytes of a peer are hashed already. */
static uint32_t
hash_at(uint32_t key_hash, const struct ledger *ledger)
{
	uint32_t h = key_hash ^ (uint32_t)((uintptr_t)ledger >> 5) * UINT32_C(2654435761);

	return h ^ h >> 15; /* the table uses the low bits */
}

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

/* Move all deliveries in one place of the old table. */
static void
move_place(struct deliveries *f, struct delivery **old)
{
	for (struct delivery *d = *old, *next; d != NULL; d = next) {
		next = d->chain;
		link_chain(&f->table[d->hash & (f->size - 1)], d);
	}
	*old = NULL;
}

/* Moving a million deliveries at once would take as long as a whole turn. */
static void
move_some(struct deliveries *f)
{
	for (int i = 0; i < TABLE_MOVES; i++)
		move_place(f, &f->old[f->old_at++]);
	if (f->old_at < f->size / 2)
		return;
	free(f->old);
	f->old = NULL;
}

/* False: no memory for the first table; a larger table can wait. */
static bool
grow(struct deliveries *f)
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
has_key(const struct delivery *d, const struct ledger *ledger, uint32_t hash, const uint8_t *key,
	size_t len)
{
	const struct request *r = d->request;

	return d->hash == hash && d->ledger == ledger && r->key_len == len &&
		memcmp(r->key, key, len) == 0;
}

/* The oldest delivery to the ledger with this key, or NULL. */
static struct delivery *
find(const struct deliveries *f, const struct ledger *ledger, uint32_t hash, const uint8_t *key,
	size_t len)
{
	struct delivery *d;

	if (f->count == 0)
		return NULL;
	for (d = f->table[hash & (f->size - 1)]; d != NULL; d = d->chain)
		if (has_key(d, ledger, hash, key, len))
			return d;
	if (__builtin_expect(f->old == NULL, 1))
		return NULL;
	for (d = f->old[hash & (f->size / 2 - 1)]; d != NULL; d = d->chain)
		if (has_key(d, ledger, hash, key, len))
			return d;
	return NULL;
}

static void
enter(struct deliveries *f, struct delivery *d)
{
	struct request *r = d->request;
	struct delivery *oldest = find(f, d->ledger, d->hash, r->key, r->key_len);

	list_init(&d->duplicates);
	d->slot = NULL;
	if (oldest != NULL)
		list_push(&oldest->duplicates, &d->duplicates);
	else
		link_chain(&f->table[d->hash & (f->size - 1)], d);
	f->count++;
}

static void
leave(struct deliveries *f, struct delivery *d)
{
	struct delivery *next;

	f->count--;
	if (d->slot != NULL && list_linked(&d->duplicates)) {
		struct delivery **slot = d->slot;
		next = list_entry(d->duplicates.next, struct delivery, duplicates);
		unlink_chain(d);
		link_chain(slot, next);
	} else if (d->slot != NULL) {
		unlink_chain(d);
	}
	list_remove(&d->duplicates);
}

/* --- deliveries ----------------------------------------------------------- */

struct delivery *
deliveries_assign(struct deliveries *f, struct ledger *ledger, struct request *r, uint64_t number,
	int64_t now_ms)
{
	struct delivery *d = &r->first;

	if (!grow(f))
		return NULL;
	if (d->request != NULL) {
		d = mem_try_new(sizeof(*d));
		if (d == NULL)
			return NULL;
		f->env->memory.used += sizeof(*d);
		f->counters->kept_bytes += sizeof(*d);
	}
	d->request = r;
	d->ledger = ledger;
	d->number = number;
	d->given = now_ms;
	d->expired = false;
	d->hash = hash_at(r->key_hash, ledger);
	list_init(&d->node);
	list_push(&ledger->pending, &d->node);
	enter(f, d);
	r->refs++;
	r->deliveries++;
	return d;
}

/* The delivery leaves `pending`: a slice goes on with the next one. */
static inline void
step_past(struct delivery *d)
{
	if (__builtin_expect(d->ledger->next == &d->node, 0))
		d->ledger->next = d->node.next;
}

void
deliveries_expire(struct deliveries *f, struct delivery *d)
{
	(void)f;
	step_past(d);
	d->expired = true;
	list_move(&d->ledger->expired, &d->node);
	d->ledger->expired_count++;
}

void
deliveries_remove(struct deliveries *f, struct delivery *d)
{
	struct request *r = d->request;

	leave(f, d);
	step_past(d);
	list_remove(&d->node);
	if (d->expired)
		d->ledger->expired_count--;
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
deliveries_match(struct deliveries *f, struct ledger *ledger, const struct message *m)
{
	struct delivery *oldest = ledger_oldest(ledger), *d;
	uint8_t buf[ENVELOPE_WIRE];
	size_t len;
	const uint8_t *p = message_front(m, buf, sizeof(buf), &len);
	struct envelope e;

	if (!envelope_read(&e, p, len < ENVELOPE_WIRE ? len : ENVELOPE_WIRE))
		return NULL;
	/*
	 * most workers answer in order: no hash, unless an older delivery with the same envelope
	 * expired
	 */
	if (oldest != NULL && oldest->slot != NULL && oldest->request->key_len == e.len &&
		memcmp(oldest->request->key, e.key, e.len) == 0)
		return oldest;
	d = find(f, ledger, hash_at(envelope_hash(&f->hash_key, e.key, e.len), ledger), e.key,
		e.len);
	if (d != NULL || !e.delimited)
		return d;
	d = find(f, ledger, hash_at(envelope_hash(&f->hash_key, e.key, e.id_len), ledger), e.key,
		e.id_len);
	return d != NULL && !d->request->delimited ? d : NULL;
}

void
deliveries_replied(struct deliveries *f, int64_t ms)
{
	histogram_add(&f->answers, (uint64_t)ms * 1000000, 1);
}

/* --- ledgers -------------------------------------------------------------- */

struct ledger *
ledger_new(struct peer *worker, struct loop *loop, void (*on_due)(struct timer *),
	void (*on_trial)(struct timer *))
{
	struct ledger *h = mem_try_new(sizeof(*h));

	if (h == NULL)
		return NULL;
	h->worker = worker;
	list_init(&h->pending);
	list_init(&h->expired);
	list_init(&h->node);
	h->cut_from = UINT64_MAX;
	timer_init(&h->timer, loop, on_due);
	timer_init(&h->trial, loop, on_trial);
	return h;
}

void
ledger_free(struct ledger *h)
{
	if (h == NULL)
		return;
	assert(list_empty(&h->pending) && list_empty(&h->expired) && !list_linked(&h->node));
	timer_stop(&h->timer);
	timer_stop(&h->trial);
	free(h);
}

/* --- check ---------------------------------------------------------------- */

static void
check_list(
	const struct deliveries *f, const struct ledger *h, const struct list *head, bool expired)
{
	list_each_const(n, head) {
		const struct delivery *d = list_entry(n, struct delivery, node);
		const struct delivery *oldest =
			find(f, h, d->hash, d->request->key, d->request->key_len);

		assert(d->ledger == h && d->expired == expired && d->request->refs > 0);
		assert(oldest != NULL && (oldest == d) == (d->slot != NULL));
		assert(oldest == d || list_linked(&d->duplicates));
		(void)oldest, (void)d, (void)expired;
	}
}

void
deliveries_check(const struct deliveries *f, const struct ledger *h, uint64_t held)
{
	uint64_t n = 0, cut = 0;

	check_list(f, h, &h->pending, false);
	check_list(f, h, &h->expired, true);
	list_each_const(node, &h->pending) {
		n++;
		cut += list_entry(node, struct delivery, node)->number >= h->cut_from;
	}
	assert(n == held && cut == h->cut);
	(void)n, (void)held, (void)cut;
}
