/* SPDX-License-Identifier: MIT */
/* A copy of somebody else's header, as projects keep them: it belongs to its own repository and not to this one. */
#ifndef MINMAX_H
#define MINMAX_H

static inline int min_int(int a, int b)
{
    return a < b ? a : b;
}

static inline int max_int(int a, int b)
{
    return a > b ? a : b;
}

static inline int clamp_int(int value, int low, int high)
{
    return min_int(max_int(value, low), high);
}

#endif
