/* SPDX-License-Identifier: MIT */
/*
 * Recognises other protocols by the first bytes of a connection, so that the log can name what came
 * to the wrong port: a browser, a TLS client, a load balancer's PROXY line, ...
 */
#ifndef BULKHEAD_ZMTP_FOREIGN_H
#define BULKHEAD_ZMTP_FOREIGN_H

#include <stddef.h>
#include <stdint.h>

/* What p[len] looks like, as a detail for the log (static text), or NULL when it is unknown. */
const char *foreign_detail(const uint8_t *p, size_t len);

#endif
