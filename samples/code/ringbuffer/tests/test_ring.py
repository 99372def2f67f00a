# SPDX-License-Identifier: MIT
from collections import deque

from ringbuffer import RingBuffer


def test_agrees_with_a_deque():
    ring, model = RingBuffer(5), deque()
    for step in range(2000):
        value = step * 37 % 256
        if step * step % 11 < 5:  # pushes and pops in no simple order
            assert ring.push(value) == (len(model) < 5)
            if len(model) < 5:
                model.append(value)
        else:
            assert ring.pop() == (model.popleft() if model else None)
        assert list(ring) == list(model)


def test_overwriting_keeps_the_newest():
    ring = RingBuffer(3, overwrite=True)
    for value in range(10):
        ring.push(value)
    assert list(ring) == [7, 8, 9]
