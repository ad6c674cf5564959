/* SPDX-License-Identifier: MIT */
#include "zmtp/foreign.h"

#include <stdbool.h>
#include <string.h>

/*
 * `bytes` are compared where `mask` has an x; a row without a mask compares all bytes. Of two rows
 * that could both match, the longer comes first.
 */
static const struct row {
	const char *bytes;
	const char *mask;
	size_t len;
	const char *detail;
} rows[] = {
#define BEGINS(text, what) \
	{ \
		text, NULL, sizeof(text) - 1, "not ZMTP: looks like " what \
	}
#define MASKED(text, mask, what) \
	{ \
		text, mask, sizeof(text) - 1, "not ZMTP: looks like " what \
	}
	BEGINS("GET ", "HTTP"),
	BEGINS("POST ", "HTTP"),
	BEGINS("HEAD ", "HTTP"),
	BEGINS("PUT ", "HTTP"),
	BEGINS("DELETE ", "HTTP"),
	BEGINS("OPTIONS ", "HTTP"),
	BEGINS("CONNECT /", "HTTP"),
	BEGINS("PATCH ", "HTTP"),
	BEGINS("TRACE ", "HTTP"),
	BEGINS("HTTP/", "HTTP"),
	BEGINS("PRI * HTTP/2", "HTTP/2"),
	/* TLSPlaintext: handshake, version 3.0 to 3.4, any length, ClientHello; or an alert */
	MASKED("\x16\x03\0\0\0\x01", "xx...x", "TLS"),
	BEGINS("\x15\x03", "TLS"),
	BEGINS("PROXY ", "a PROXY protocol line (version 1)"),
	BEGINS("\r\n\r\n\0\r\nQUIT\n", "a PROXY protocol header (version 2)"),
	BEGINS("SSH-", "SSH"),
	/* TPKT version 3, then an X.224 connection request */
	MASKED("\x03\0\0\0\0\xe0", "xxx..x", "RDP"),
	MASKED("*0\r\n$", "x.xxx", "redis"),
	BEGINS("PING\r\n", "redis"),
	BEGINS("-ERR ", "redis"),
	BEGINS("EHLO ", "SMTP"),
	BEGINS("HELO ", "SMTP"),
	BEGINS("220 ", "SMTP or FTP"),
	BEGINS("220-", "SMTP or FTP"),
	MASKED("\x10\0\0\4MQTT", "x.xxxxxx", "MQTT"),
	BEGINS("AMQP", "AMQP"),
	MASKED("\0\0\0\x08\x04\xd2\x16\x2f", "xxxxxxxx", "PostgreSQL"),
	MASKED("\0\0\0\0\0\3\0\0", "xx..xxxx", "PostgreSQL"),
	MASKED("\0\0\0\0\xffSMB", "x...xxxx", "SMB"),
	MASKED("\0\0\0\0\xfeSMB", "x...xxxx", "SMB"),
	MASKED("\0\0\0\0\x0a", ".xxxx",
		"MySQL"), /* a server's greeting: short, sequence 0, version 10 */
	MASKED("0\0\2\1\1`", "x.xxxx", "LDAP"),
	BEGINS("NICK ", "IRC"),
	BEGINS("INFO {", "NATS"),
	BEGINS("CONNECT {", "NATS"),
	BEGINS("SIP/2.0", "SIP"),
	BEGINS("RFB ", "VNC"),
	BEGINS("stats\r\n", "memcached"),
#undef BEGINS
#undef MASKED
};

static bool
matches(const struct row *row, const uint8_t *p, size_t len)
{
	if (len < row->len)
		return false;
	if (row->mask == NULL)
		return memcmp(p, row->bytes, row->len) == 0;
	for (size_t i = 0; i < row->len; i++)
		if (row->mask[i] == 'x' && p[i] != (uint8_t)row->bytes[i])
			return false;
	return true;
}

const char *
foreign_detail(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (matches(&rows[i], p, len))
			return rows[i].detail;
	return NULL;
}
