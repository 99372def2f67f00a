"""`codedev doctor`: what is installed, what is missing and how to get it. Imports nothing heavy: versions come from package metadata."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections import Counter
from typing import Any

from codedev import __version__

_NAME = re.compile(r"^([A-Za-z0-9._-]+)")
_FAMILY = 5  # packages of one name, from which on they are told by their number
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def examine() -> dict[str, Any]:
    """The machine, and each extra's packages with their versions (None = not installed)."""
    packages: dict[str, dict[str, str | None]] = {"base": {}}
    for requirement in _requirements():
        match = _NAME.match(requirement)
        extra = _EXTRA.search(requirement)
        if match and match[1] != "codedev":
            packages.setdefault(extra[1] if extra else "base", {})[match[1]] = _version(match[1])
    return {
        "codedev": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "nvidia_smi": shutil.which("nvidia-smi"),
        "packages": packages,
    }


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires("codedev") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return []


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _short(packages: dict[str, str]) -> list[str]:
    """Packages with their versions; those of a family, such as the grammars of tree-sitter, by their number."""
    families = Counter("-".join(name.split("-")[:2]) for name in packages)
    shown: dict[str, None] = {}
    for name, version in packages.items():
        family = "-".join(name.split("-")[:2])
        shown[f"{family} and {families[family] - 1} {family}-*" if families[family] >= _FAMILY else f"{name} {version}".rstrip()] = None
    return list(shown)


def show(report: dict[str, Any]) -> None:
    from codedev._terminal import print_table, size

    print(f"codedev {report['codedev']} on Python {report['python']}, {report['platform']}")
    print(f"{report['cores']} cores, {size(report['memory_bytes'])} memory, GPU: {'yes' if report['nvidia_smi'] else 'none found'}")
    rows = []
    for extra, packages in report["packages"].items():
        missing = [name for name, version in packages.items() if version is None]
        installed = ", ".join(_short({name: version for name, version in packages.items() if version}))
        command = "" if not missing else f"pip install -e '.[{extra}]'" if extra != "base" else f"{sys.executable} -m pip install codedev"
        rows.append([extra, installed, ", ".join(_short(dict.fromkeys(missing, ""))), command])
    print_table("Packages", ["extra", "installed", "missing", "install with"], rows)
