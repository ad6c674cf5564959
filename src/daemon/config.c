/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"

#include <stdlib.h>
#include <string.h>

enum { COST_FREE = 2 }; /* of a slice */

struct config *
config_load(const char *path, struct config_errors *errors)
{
	struct config_reader *p = config_reader_new(path);

	if (p == NULL) {
		*errors = (struct config_errors){.no_memory = true};
		return NULL;
	}
	(void)config_reader_step(p, NULL);
	return config_reader_end(p, errors);
}

bool
config_free_step(struct config *config, struct slice *slice)
{
	for (; config->proxy_count > 0; config->proxy_count--) {
		struct config_proxy *p = &config->proxy[config->proxy_count - 1];

		if (!slice_take(slice, COST_FREE))
			return true;
		for (int j = 0; j < PROXY_SIDES; j++) {
			free(p->side[j].bind);
			free(p->side[j].connect);
		}
	}
	return false;
}

const struct config_proxy *
config_find_proxy(const struct config *config, const char *name)
{
	return idmap_get(&config->by_name, (const uint8_t *)name, strlen(name));
}

void
config_free(struct config *config)
{
	if (config == NULL)
		return;
	(void)config_free_step(config, NULL);
	idmap_fini(&config->by_name);
	text_fini(&config->source);
	free(config->proxy);
	free(config->path);
	free(config);
}
