/* SPDX-License-Identifier: MIT
 *
 * Ascending moments: the edges of buckets, the beginnings of periods. */
#include "dm_internal.h"

dm_status dm__ascending_check(const char *what, const double *values, size_t count, dm_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (isnan(values[i]) || (i > 0 && !(values[i - 1] < values[i])))
            return dm__fail(err, DM_INVALID, "%s must ascend, but number %zu does not", what, i);
    return DM_OK;
}

dm_status dm__edges_check(const double *edges_s, size_t count, dm_error *err)
{
    if (count < 2)
        return dm__fail(err, DM_INVALID, "there must be at least two edges");
    return dm__ascending_check("edges", edges_s, count, err);
}

ptrdiff_t dm__last_at_most(const double *values, size_t count, double value)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (values[middle] <= value)
            low = middle + 1;
        else
            high = middle;
    }
    return (ptrdiff_t)low - 1;
}
