#include "broker/balance.h"

void
balance_init(struct balance *b)
{
	list_init(&b->ready);
}

void
balance_add(struct balance *b, struct peer *worker)
{
	if (!list_linked(&worker->ready) && !worker->leaving)
		list_push(&b->ready, &worker->ready);
}

void
balance_remove(struct balance *b, struct peer *worker)
{
	(void)b;
	list_remove(&worker->ready);
}

struct peer *
balance_next(struct balance *b, size_t size)
{
	struct list *node;

	while ((node = list_pop(&b->ready)) != NULL) {
		struct peer *worker = list_entry(node, struct peer, ready);
		if (worker->conn->state == CONN_READY && conn_has_room(worker->conn, size)) {
			list_push(&b->ready, &worker->ready);
			return worker;
		}
	}
	return NULL;
}
