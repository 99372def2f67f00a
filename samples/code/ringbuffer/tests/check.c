/* SPDX-License-Identifier: MIT */
#include "../src/ring.h"

#include <assert.h>
#include <stdio.h>

extern const uint32_t crc_table[16];

static uint32_t crc_step(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    crc = crc_table[crc & 15] ^ (crc >> 4);
    return crc_table[crc & 15] ^ (crc >> 4);
}

int main(void)
{
    uint8_t cells[8], byte;
    struct ring ring;
    uint32_t in = ~0u, out = ~0u;

    assert(!ring_init(&ring, cells, 6));
    assert(ring_init(&ring, cells, 8));
    assert(!ring_pop(&ring, &byte));
    for (int round = 0; round < 1000; round++) {
        for (uint8_t value = 0; ring_push(&ring, value ^ (uint8_t)round); value++)
            in = crc_step(in, value ^ (uint8_t)round);
        assert(ring_size(&ring) == 8);
        while (ring_pop(&ring, &byte))
            out = crc_step(out, byte);
    }
    assert(in == out);
    puts("ring: ok");
    return 0;
}
