# SPDX-License-Identifier: MIT
"""A queue of fixed capacity in an array. Both ends cost constant time."""

from __future__ import annotations

from collections.abc import Iterator


class RingBuffer:
    """First in, first out. A full buffer either refuses a value or gives up its oldest one."""

    def __init__(self, capacity: int, *, overwrite: bool = False) -> None:
        if capacity < 1:
            raise ValueError(f"a capacity of {capacity} holds nothing")
        self._cells: list[int | None] = [None] * capacity
        self._head = 0  # counts all values ever taken out
        self._tail = 0  # counts all values ever put in
        self._overwrite = overwrite

    def __len__(self) -> int:
        return self._tail - self._head

    def __iter__(self) -> Iterator[int | None]:
        """The values from the oldest to the newest; they stay in the buffer."""
        for position in range(self._head, self._tail):
            yield self._cells[position % len(self._cells)]

    def push(self, value: int) -> bool:
        """Put a value in; False when the buffer is full and does not overwrite."""
        if len(self) == len(self._cells):
            if not self._overwrite:
                return False
            self._head += 1
        self._cells[self._tail % len(self._cells)] = value
        self._tail += 1
        return True

    def pop(self) -> int | None:
        """Take the oldest value out; None when the buffer is empty."""
        if self._head == self._tail:
            return None
        position = self._head % len(self._cells)
        value, self._cells[position] = self._cells[position], None
        self._head += 1
        return value
