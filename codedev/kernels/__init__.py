"""Numba kernels: NumPy in, NumPy out. They know nothing of Arrow or of documents, release the GIL and are cached on disk.

A kernel with a signature compiles when its module is first imported, others when they are first called. A build imports the modules of its
stages in the parent before it starts workers, so that those find them in the cache; `codedev doctor --warm` compiles all of them at once.
"""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
from collections.abc import Iterator


def warm() -> None:
    """What every build needs."""
    from codedev.kernels import packing, squeeze, textstats

    packing.warm()
    squeeze.warm()
    textstats.warm()


def names() -> list[str]:
    """The modules of all kernels."""
    return [module.name for module in pkgutil.walk_packages(__path__, f"{__name__}.") if not module.ispkg]


def warm_all(workers: int) -> Iterator[str]:
    """Compile every kernel that is not in the cache, several modules at a time; yields each one's name when it is done."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_warmed, names())


def _warmed(name: str) -> str:
    module = importlib.import_module(name)
    if warm := getattr(module, "warm", None):
        warm()
    return name
