# SPDX-License-Identifier: MIT
"""A queue of fixed capacity."""

from ringbuffer.ring import RingBuffer

__all__ = ["RingBuffer"]
