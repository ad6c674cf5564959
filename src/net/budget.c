/* SPDX-License-Identifier: MIT */
#include "net/budget.h"

#include "net/conn.h"

enum {
	DEAR_READS = 8
}; /* reads that did not cost much, in crowded turns, until a peer counts as cheap again */

void
budget_begin_turn(struct loop *loop)
{
	loop->crowded = loop->sent_away;
	loop->unfinished = loop->sent_away;
	loop->sent_away = loop->cut = false;
}

/*
 * The side is read for the first time in this turn. A new round begins when no peer was left out.
 */
static void
come_to_turn(struct budget_line *line, uint64_t turn)
{
	if (line->turn == turn)
		return;
	line->turn = turn;
	line->spent = 0;
	line->waiting = line->left_out;
	line->left_out = false;
	if (!line->waiting)
		line->round++;
}

void
budget_charge(struct conn *conn, uint32_t units, bool full)
{
	struct loop *loop = conn->side->loop;
	struct budget_line *line = &conn->side->line;

	loop_spend(loop, units);
	if (units > loop->limits.read && conn->window > loop->limits.window)
		conn->window /= 2;
	else if (full && units <= loop->limits.read / 2)
		conn->window = conn->window < LOOP_SCRATCH / 2 ? conn->window * 2 : LOOP_SCRATCH;
	come_to_turn(line, loop->turns);
	line->spent += units;
	if (line->spent > loop->limits.side)
		loop->crowded = loop->unfinished = true;
	conn->round = line->round;
	conn->dear = DEAR_READS;
}

bool
budget_admit(struct conn *conn)
{
	struct loop *loop = conn->side->loop;
	struct budget_line *line = &conn->side->line;
	bool full, served;

	come_to_turn(line, loop->turns);
	full = line->spent > loop->limits.side;
	/*
	 * a new peer, or one whose last reads were small, is judged by the bytes that wait to be
	 * read
	 */
	if (conn->dear == 0 && !(full && conn_pending(conn) > BUDGET_SMALL))
		return true;
	served = conn->dear > 0 && conn->round == line->round;
	if (!full && !(served && line->waiting)) {
		conn->dear -= conn->dear > 0;
		return true;
	}
	line->left_out |= !served;
	loop->sent_away = true;
	return false;
}
