"""What commands share: options, the type of sizes, printing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
SECONDS = click.FloatRange(0, 86_400, min_open=True)
OVERRIDES = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the recipe; may be repeated.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
WORKERS = click.option("--workers", type=click.IntRange(1), default=None, help="Processes; default: one for each core, at most 8.")


class OfRecipe(click.Group):
    """`codedev NAME RECIPE`, unless the first word is a command of the group."""

    recipe: click.Command

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        if args and args[0] in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        return self.recipe.make_context(info_name, args, parent, **extra)


class Bytes(click.ParamType[int]):
    name = "size"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        units = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
        number = value.strip().upper().rstrip("KMGTIB")
        unit = value.strip().upper()[len(number) :].strip()
        try:
            size = int(float(number) * units[unit])
        except (ValueError, KeyError, OverflowError):
            self.fail(f"'{value}' is not a size: write 4GB or 512MiB", param, ctx)
        if size < self._least:
            self.fail(f"{value} is too little: give at least {self._least:,} bytes", param, ctx)
        return size


MEMORY = click.option(
    "--memory", type=Bytes(16 << 20), default="4GB", show_default=True, help="Bound on what deduplication holds in memory."
)


def default_workers() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


def print_json(result: Any) -> None:
    print(json.dumps(result, indent=2, ensure_ascii=False, default=str))
