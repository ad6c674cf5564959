/* SPDX-License-Identifier: MIT */
/*
 * The status page: one HTML file, page.html, compiled in. It asks /api/ for what it shows.
 */
#ifndef BULKHEAD_ADMIN_PAGE_H
#define BULKHEAD_ADMIN_PAGE_H

#include <stddef.h>

enum { PAGE_POLICY_MAX = 384 };

/* The file's bytes, made from page.html by the build. */
extern const unsigned char page_html[];
extern const size_t page_html_len;

/*
 * Write its Content-Security-Policy: its own style and script, known by their hashes, may act,
 * and only this server be asked; nothing else.
 */
void page_policy(char out[PAGE_POLICY_MAX]);

#endif
