/* SPDX-License-Identifier: MIT */
/*
 * Which client a routing id means: ids that the router generates, none of which is reused soon.
 */
#include <stdlib.h>
#include <string.h>

#include "world.h"

START_TEST(router_slot_0)
{
	struct router r;
	struct peer *peer = peer_new(proxy, NULL, 0);
	void *old[7];
	uint8_t id[5] = {0};

	for (int i = 0; i < 7; i++) {
		old[i] = malloc(64 * sizeof(struct router_slot));
		memset(old[i], 0, 64 * sizeof(struct router_slot));
		memset(old[i], 1, sizeof(void *));
	}
	for (int i = 0; i < 7; i++)
		free(old[i]);
	router_init(&r);
	router_add(&r, peer, NULL, 0);
	for (unsigned generation = 0; generation < 4096; generation++) {
		id[1] = (uint8_t)(generation >> 4);
		id[2] = (uint8_t)(generation << 4);
		ck_assert_ptr_null(router_find(&r, id, 5));
	}
	router_remove(&r, peer);
	peer_free(peer);
	router_fini(&r);
}
END_TEST

START_TEST(router_ids)
{
	struct router r;
	struct peer *peers[100];
	uint8_t first[5];

	router_init(&r);
	for (int i = 0; i < 100; i++) {
		peers[i] = peer_new(proxy, NULL, 5);
		router_add(&r, peers[i], (const uint8_t *)"named", i == 50 ? 5 : 0);
	}
	for (int i = 0; i < 100; i++)
		ck_assert(router_find(&r, peer_id(peers[i]), peer_id_len(peers[i])) == peers[i]);
	ck_assert(router_find(&r, (const uint8_t *)"named", 5) == peers[50]);
	memcpy(first, peer_id(peers[0]), 5);
	router_remove(&r, peers[0]);
	ck_assert_ptr_null(router_find(&r, first, 5));
	router_add(&r, peers[0], NULL, 0); /* the slot again, but not the id */
	ck_assert_ptr_null(router_find(&r, first, 5));
	ck_assert_ptr_null(router_find(&r, (const uint8_t *)"\0\377\377\377\377", 5));
	ck_assert_ptr_null(router_find(&r, (const uint8_t *)"\0\0\0\0\0", 5));
	ck_assert_ptr_null(router_find(&r, (const uint8_t *)"\0\1", 2));
	for (int i = 0; i < 100; i++) {
		router_remove(&r, peers[i]);
		peer_free(peers[i]);
	}
	router_fini(&r);
}
END_TEST

/*
 * One client that comes and goes: a reply that is late by that much must not reach its successor.
 */
START_TEST(router_ids_come_back_late)
{
	struct router r;
	struct peer *peer = peer_new(proxy, NULL, 0);
	uint8_t first[5];

	router_init(&r);
	router_add(&r, peer, NULL, 0);
	memcpy(first, peer_id(peer), 5);
	for (int i = unit_repeat(100000, 10); i > 0; i--) {
		router_remove(&r, peer);
		ck_assert_ptr_null(router_find(&r, first, 5));
		router_add(&r, peer, NULL, 0);
		ck_assert_ptr_null(router_find(&r, first, 5));
	}
	router_remove(&r, peer);
	ck_assert_uint_le(r.count, 10000); /* and the table stays small */
	peer_free(peer);
	router_fini(&r);
}
END_TEST

UNIT_MAIN("router", tcase_add_checked_fixture(tc, world_begin, world_end),
	tcase_add_test(tc, router_slot_0), tcase_add_test(tc, router_ids),
	tcase_add_test(tc, router_ids_come_back_late))
