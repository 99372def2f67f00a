"""Numba kernels: NumPy in, NumPy out. They know nothing of Arrow or of documents, release the GIL and are cached on disk.

`warm` compiles them once in the parent, so that workers started side by side find them in the cache. Kernels of one source compile when its
module is imported, which planning does in the parent.
"""

from __future__ import annotations


def warm() -> None:
    from codedev.kernels import packing, squeeze, textstats

    packing.warm()
    squeeze.warm()
    textstats.warm()
