/* SPDX-License-Identifier: MIT */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One producer and one consumer may use a ring at the same time, each from its own thread. */
struct ring {
    uint8_t *cells;
    size_t mask;           /* capacity - 1 */
    _Atomic size_t head;   /* bytes ever taken out; the consumer's */
    _Atomic size_t tail;   /* bytes ever put in; the producer's */
};

/* Returns false unless capacity is a power of two. */
bool ring_init(struct ring *ring, uint8_t *cells, size_t capacity);
size_t ring_size(struct ring *ring);
bool ring_push(struct ring *ring, uint8_t byte);
bool ring_pop(struct ring *ring, uint8_t *byte);

#endif
