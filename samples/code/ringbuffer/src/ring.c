/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include <stdatomic.h>

bool ring_init(struct ring *ring, uint8_t *cells, size_t capacity)
{
    if (capacity == 0 || (capacity & (capacity - 1)) != 0)
        return false;
    ring->cells = cells;
    ring->mask = capacity - 1;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    return true;
}

size_t ring_size(struct ring *ring)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return tail - atomic_load_explicit(&ring->head, memory_order_acquire);
}

bool ring_push(struct ring *ring, uint8_t byte)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

    if (tail - head > ring->mask)
        return false;
    ring->cells[tail & ring->mask] = byte;
    /* The byte must be in its cell before the consumer can see the new tail. */
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

bool ring_pop(struct ring *ring, uint8_t *byte)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

    if (tail == head)
        return false;
    *byte = ring->cells[head & ring->mask];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}
