/* SPDX-License-Identifier: MIT */
#include "admin/page.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum {
	HASH_TEXT_MAX =
		sodium_base64_ENCODED_LEN(crypto_hash_sha256_BYTES, sodium_base64_VARIANT_ORIGINAL)
};

static const unsigned char *
find(const unsigned char *from, const char *what)
{
	const unsigned char *found =
		memmem(from, (size_t)(page_html + page_html_len - from), what, strlen(what));

	assert(found != NULL);
	return found;
}

/* The hash of every byte between the tags, as browsers compute it. */
static void
hash_between(const char *open, const char *close, char out[HASH_TEXT_MAX])
{
	const unsigned char *begin = find(page_html, open) + strlen(open);
	unsigned char hash[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(hash, begin, (size_t)(find(begin, close) - begin));
	sodium_bin2base64(out, HASH_TEXT_MAX, hash, sizeof(hash), sodium_base64_VARIANT_ORIGINAL);
}

void
page_policy(char out[PAGE_POLICY_MAX])
{
	char style[HASH_TEXT_MAX], script[HASH_TEXT_MAX];

	hash_between("<style>", "</style>", style);
	hash_between("<script>", "</script>", script);
	snprintf(out, PAGE_POLICY_MAX,
		"default-src 'none'; style-src 'sha256-%s'; script-src 'sha256-%s'; "
		"connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
		"frame-ancestors 'none'",
		style, script);
}
