/* SPDX-License-Identifier: MIT */
/*
 * The two sides of a proxy: clients are at the frontend, workers at the backend.
 */
#ifndef BULKHEAD_BASE_SIDES_H
#define BULKHEAD_BASE_SIDES_H

enum proxy_side { PROXY_FRONTEND, PROXY_BACKEND, PROXY_SIDES };

/*
 * The name of a side in the configuration, the log, metrics and JSON: "frontend" or "backend".
 * `side` is an enum proxy_side below PROXY_SIDES.
 */
const char *side_name(int side);

/* The side on which messages leave that come in at `side`. */
static inline int
side_other(int side)
{
	return side == PROXY_FRONTEND ? PROXY_BACKEND : PROXY_FRONTEND;
}

#endif
