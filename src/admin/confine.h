/*
 * What the admin process gives up before it hears of anybody.
 */
#ifndef BULKHEAD_ADMIN_CONFINE_H
#define BULKHEAD_ADMIN_CONFINE_H

#include <stdbool.h>

/*
 * Give up every descriptor but stderr and the channel, every capability and the right to gain one,
 * and to be looked into; bound memory and descriptors; be the first to go when the machine has no
 * memory; end when the parent does; ignore the signals that are meant for it. False when a step
 * that must succeed does not.
 */
bool confine(void);

#endif
