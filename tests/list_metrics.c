/* SPDX-License-Identifier: MIT */
/*
 * Prints the names of all metrics, one a line, for tests/check_docs.sh.
 */
#include "admin/metrics.h"

int
main(void)
{
	metrics_list(stdout);
	return 0;
}
