/* SPDX-License-Identifier: MIT */
#include "base/sides.h"

const char *
side_name(int side)
{
	static const char *const names[PROXY_SIDES] = {
		[PROXY_FRONTEND] = "frontend", [PROXY_BACKEND] = "backend"};

	return names[side];
}
