#include <string.h>

#include "net/endpoint.h"
#include "unit.h"

static const struct {
	const char *text;
	bool bind, connect; /* good for that? */
	const char *canonical;
} cases[] = {
	{"tcp://*:5555", true, false, "tcp://*:5555"},
	{"tcp://127.0.0.1:*", true, false, "tcp://127.0.0.1:*"},
	{"TCP://127.0.0.1:80", true, true, "tcp://127.0.0.1:80"},
	{"tcp://[::1]:5555", true, true, "tcp://[::1]:5555"},
	{"tcp://[fe80::1%eth0]:1", true, true, "tcp://[fe80::1%eth0]:1"},
	{"tcp://some-host.example:65535", true, true, "tcp://some-host.example:65535"},
	{"tcp://eth0:0080", true, true, "tcp://eth0:80"},
	{"ipc:///run/x.sock", true, true, "ipc:///run/x.sock"},
	{"ipc://@name", true, true, "ipc://@name"},
	{"fd://front", true, false, "fd://front"},
	{"", false, false, NULL},
	{"tcp:/127.0.0.1:1", false, false, NULL},
	{"tcp://127.0.0.1", false, false, NULL},
	{"tcp://127.0.0.1:", false, false, NULL},
	{"tcp://:5555", false, false, NULL},
	{"tcp://127.0.0.1:0", false, false, NULL},
	{"tcp://127.0.0.1:65536", false, false, NULL},
	{"tcp://127.0.0.1:-1", false, false, NULL},
	{"tcp://127.0.0.1:99999999999999999999", false, false, NULL},
	{"tcp://127.0.0.1:8x", false, false, NULL},
	{"tcp://127.0.0.256:1", false, false, NULL},
	{"tcp://::1:5555", false, false, NULL},
	{"tcp://[::1]", false, false, NULL},
	{"tcp://[::g]:1", false, false, NULL},
	{"tcp://[]:1", false, false, NULL},
	{"tcp://a b:1", false, false, NULL},
	{"ipc://relative", false, false, NULL},
	{"ipc://", false, false, NULL},
	{"ipc://@", false, false, NULL},
	{"fd://", false, false, NULL},
	{"udp://*:1", false, false, NULL},
};

START_TEST(both_ways)
{
	struct endpoint e;

	ck_assert_msg((endpoint_parse(&e, cases[_i].text, true) == NULL) == cases[_i].bind, "%s",
		cases[_i].text);
	if (cases[_i].bind)
		ck_assert_str_eq(e.text, cases[_i].canonical);
	ck_assert_msg((endpoint_parse(&e, cases[_i].text, false) == NULL) == cases[_i].connect, "%s",
		cases[_i].text);
}
END_TEST

START_TEST(lengths)
{
	char text[600] = "ipc:///";
	struct endpoint e;

	memset(text + 7, 'a', 106);
	ck_assert_ptr_null(endpoint_parse(&e, text, true));
	ck_assert_uint_eq(strlen(e.host), 107);
	text[113] = 'a';
	ck_assert_ptr_nonnull(endpoint_parse(&e, text, true));
	memset(text, 0, sizeof(text));
	memcpy(text, "tcp://", 6);
	memset(text + 6, 'a', 256);
	memcpy(text + 262, ":1", 2);
	ck_assert_ptr_nonnull(endpoint_parse(&e, text, true));
}
END_TEST

UNIT_MAIN("endpoint",
	tcase_add_loop_test(tc, both_ways, 0, (int)(sizeof(cases) / sizeof(cases[0]))),
	tcase_add_test(tc, lengths))
