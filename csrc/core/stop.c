/* SPDX-License-Identifier: MIT */
#include "dm_internal.h"

#include <stdatomic.h>

#define STOP_INTERVAL_NS (50 * DM__MS)

static _Atomic(dm_stop_hook) stop_hook;

void dm_set_stop_hook(dm_stop_hook hook)
{
    atomic_store(&stop_hook, hook);
}

bool dm__stop_asked(dm__stop *stop)
{
    int64_t now_ns = dm__monotonic_ns();
    if (stop->next_ns == 0)
        stop->next_ns = now_ns + STOP_INTERVAL_NS;
    if (now_ns < stop->next_ns)
        return false;
    dm_stop_hook hook = atomic_load(&stop_hook);
    bool asked = hook != NULL && hook();
    stop->next_ns = dm__monotonic_ns() + STOP_INTERVAL_NS; /* the hook may have waited */
    return asked;
}
