"""Looking into a finished corpus: its documents, what was dropped and why, what could not be read, and what differs from another one."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import xxhash

from codedev import _recipe
from codedev._errors import InputError, nearest, printable
from codedev._run import read_json

META_CHARS = 300  # of `meta` that a person is shown of a document among others


def manifest_of(directory: Path) -> dict[str, Any]:
    """The manifest of a finished corpus; InputError when the directory holds none."""
    path = directory / "manifest.json"
    if not path.is_file():
        raise InputError(f"{directory}: no finished corpus here. Make one with: codedev corpus build RECIPE --out {directory}")
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != "codedev.corpus/1":
        raise InputError(f"{path}: not the manifest of a corpus")
    try:
        paths = [part["path"] for kind in ("documents", "dropped", "errors") for part in manifest["parts"][kind]]
        inside = all(isinstance(name, str) and is_below(name) for name in paths)
        whole = inside and all(isinstance(source["name"], str) for source in manifest["sources"])
        _losses(manifest)
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{path}: is no complete manifest, or names parts outside of its folder. Run its build again")
    return manifest


def is_below(name: str) -> bool:
    """Whether the relative path `name` stays below the folder it starts from: a manifest is input."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def look(
    directory: Path, *, dropped: str | None, errors: bool, source: str | None, document_id: str | None, limit: int
) -> list[dict[str, Any]]:
    """Up to `limit` rows of the corpus as dictionaries: documents, dropped ones with a reason, or errors, in their stored order."""
    manifest = manifest_of(directory)
    sources = [entry["name"] for entry in manifest["sources"]]
    if source is not None and source not in sources:
        raise InputError(f"{directory}: no source '{source}': {nearest(source, sources)}")
    reasons = _reasons(manifest)
    if dropped not in (None, "any") and dropped not in reasons:
        raise InputError(
            f"{directory}: nothing was dropped as '{dropped}': {nearest(str(dropped), reasons) if reasons else 'nothing was dropped'}"
        )
    kinds = ["errors"] if errors else ["dropped"] if dropped else ["documents"] if document_id is None else ["documents", "dropped"]
    rows: list[dict[str, Any]] = []
    for kind in kinds:
        for row in _rows(directory, manifest["parts"][kind], source, dropped, document_id):
            rows.append({"part": kind, **row})
            if len(rows) == limit:
                return rows
    if document_id is not None and not rows:
        raise InputError(f"{directory}: no document with the id '{document_id}', kept or dropped")
    return rows


def _reasons(manifest: dict[str, Any]) -> set[str]:
    return {reason for stages in manifest["waterfall"].values() for stage in stages for reason in stage["drop"]}


def _rows(
    directory: Path, parts: list[dict[str, Any]], source: str | None, reason: str | None, document_id: str | None
) -> Iterator[dict[str, Any]]:
    wanted: Any = None
    for column, value in (("source", source), ("reason", None if reason == "any" else reason), ("id", document_id)):
        if value is not None:
            condition = ds.field(column).cast("string") == value
            wanted = condition if wanted is None else wanted & condition
    for part in parts:
        for batch in _batches(directory / part["path"], filter=wanted, batch_size=64):
            yield from batch.to_pylist()


def _batches(path: Path, **how: Any) -> Iterator[pa.RecordBatch]:
    try:
        yield from ds.dataset(path).to_batches(use_threads=False, **how)
    except (OSError, pa.ArrowException) as error:
        problem = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged: {str(error).splitlines()[0]}"
        raise InputError(f"{path}: this part of the corpus {problem}. Run its build again") from None


def show(rows: list[dict[str, Any]], *, whole: bool) -> None:
    """Print rows for a person: what says most first, scores that are not 0 several a line, the text last. `whole`: nothing is cut short."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if not rows:
        console.print("nothing to show")
    for row in rows:
        text = row.pop("text", None) or ""
        head = Text(printable(row.pop("id", None) or row.get("file", "")), style="bold")
        console.print(head, soft_wrap=True)
        for name, value in row.items():
            if value not in (None, "", "{}") and name != "part" and not name.startswith("q."):
                shown = _short(value)
                if name == "meta" and not whole and len(shown) > META_CHARS:
                    shown = f"{shown[:META_CHARS]}…"
                console.print(Text(f"  {name}: {shown}"), soft_wrap=True)
        for line in _scores(row, console.width):
            console.print(Text(line), soft_wrap=True)
        if text:
            shown = text if whole or len(text) <= 600 else f"{text[:600]}… ({len(text):,} characters)"
            console.print(Text("  | " + visible(shown).replace("\n", "\n  | "), style="dim"), soft_wrap=True)
        console.print()


def _scores(row: dict[str, Any], width: int) -> list[str]:
    """The q. columns that say something (0, "" and [] do not), as many a line of `width` characters as there is room for."""
    lines = [""]
    for name, value in row.items():
        if name.startswith("q.") and value:
            told = f"  {name} {_short(value)}"
            if lines[-1] and len(lines[-1]) + len(told) > width:
                lines.append("")
            lines[-1] += told
    return [line for line in lines if line]


# Controls but tab and line feed, and what turns the direction of writing: a terminal would obey them.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` as a terminal may show it: what it would take for a command as a backslash escape. Lines and letters stay as they are."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return printable(", ".join(f"{name} {inner}" for name, inner in value.items() if inner is not None))
    return printable(str(value))


# -- two corpora ---------------------------------------------------------------------------------------------------------------------


def compare(directory_a: Path, directory_b: Path) -> dict[str, Any]:
    """Keys of the recipe that differ; documents by source that are in both, rewritten (same id, other text), only in A, only in B; and the
    drop counts that differ.

    Memory: 24 bytes a document.
    """
    manifests = [manifest_of(directory_a), manifest_of(directory_b)]
    frames = [_identities(directory, manifest) for directory, manifest in zip((directory_a, directory_b), manifests, strict=True)]
    joined = frames[0].join(frames[1], on=["source", "id"], how="full", coalesce=True)
    has_a, has_b = pl.col("text").is_not_null(), pl.col("text_right").is_not_null()
    counted = (
        joined.group_by("source")
        .agg(
            (has_a & has_b).sum().alias("both"),
            (has_a & has_b & (pl.col("text") != pl.col("text_right"))).sum().alias("rewritten"),
            (has_a & ~has_b).sum().alias("only_a"),
            (has_b & ~has_a).sum().alias("only_b"),
        )
        .sort("source")
    )
    losses = [_losses(manifest) for manifest in manifests]
    reasons = [
        {"source": key[0], "stage": key[1], "reason": key[2], "a": losses[0].get(key, 0), "b": losses[1].get(key, 0)}
        for key in sorted(losses[0].keys() | losses[1].keys())
        if losses[0].get(key, 0) != losses[1].get(key, 0)
    ]
    recipe = differing(_recipe_of(directory_a), _recipe_of(directory_b))
    return {"recipe": recipe, "sources": counted.to_dicts(), "reasons": reasons}


def _recipe_of(directory: Path) -> dict[str, Any]:
    """The recipe that the corpus was built by, every default in it, its sources by name."""
    recipe = _recipe.read(directory / "recipe.yaml", ())
    sources = recipe.get("sources")
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        raise InputError(f"{directory / 'recipe.yaml'}: is not the recipe of a corpus. Run its build again")
    return {**recipe, "sources": {str(source.get("name")): source for source in sources}}


def differing(a: Any, b: Any, key: str = "") -> list[dict[str, Any]]:
    """{key, a, b} of what differs between two trees of mappings, by paths with dots; what is not there is null."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [{"key": key, "a": a, "b": b}]
    found = [row for name in {**a, **b} for row in differing(a.get(name), b.get(name), f"{key}.{name}" if key else str(name))]
    if key == "sources" and (orders := [[name for name in names if name in a and name in b] for names in (a, b)])[0] != orders[1]:
        found.append({"key": "sources (order)", "a": orders[0], "b": orders[1]})
    return found


def recipe_rows(recipe: list[dict[str, Any]]) -> list[list[str]]:
    """Differing keys for a table: key, A, B, each in one line."""
    return [[printable(row["key"]), *(_value(row[side]) for side in ("a", "b"))] for row in recipe]


def _value(value: Any) -> str:
    return textwrap.shorten(printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)), 500, placeholder=" …")


def _identities(directory: Path, manifest: dict[str, Any]) -> pl.DataFrame:
    """source, and 64-bit hashes of id and text, of every document."""
    frames = [pl.DataFrame(schema={"source": pl.String, "id": pl.UInt64, "text": pl.UInt64})]
    for part in manifest["parts"]["documents"]:
        for batch in _batches(directory / part["path"], columns=["source", "id", "text"]):
            rows = batch.to_pydict()
            hashes = {name: [xxhash.xxh3_64_intdigest(value.encode()) for value in rows[name]] for name in ("id", "text")}
            frames.append(pl.DataFrame({"source": rows["source"], **hashes}, schema=frames[0].schema))
    return pl.concat(frames)


def _losses(manifest: dict[str, Any]) -> dict[tuple[str, str, str], int]:
    return {
        (source, stage["stage"], reason): count
        for source, stages in manifest["waterfall"].items()
        for stage in stages
        for reason, count in (stage["drop"] | stage["error"]).items()
    }
