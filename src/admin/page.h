/* SPDX-License-Identifier: MIT */
/*
 * The status page: one HTML file, page.html, compiled in. It gets what it shows from /api/.
 */
#ifndef BULKHEAD_ADMIN_PAGE_H
#define BULKHEAD_ADMIN_PAGE_H

#include <stddef.h>

enum { PAGE_POLICY_MAX = 384 };

/* The file's bytes, made from page.html by the build. */
extern const unsigned char page_html[];
extern const size_t page_html_len;

/*
 * Write its Content-Security-Policy: it allows the page's own style and script, by their hashes,
 * and requests to this server, and nothing else.
 */
void page_policy(char out[PAGE_POLICY_MAX]);

#endif
