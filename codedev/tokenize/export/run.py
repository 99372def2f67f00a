"""`codedev export`: a shard directory in the layout of another trainer's reader, its held-out part as a split of its own.

    OUT/manifest.json     written last: what was asked for, the counts of each split, every file with its size and hash
    OUT/tokenizer.json    the shards' own
    …                     the files of the format, see its module

Everything is written below OUT/.work first, flushed, then renamed into place; a list kept there says what in OUT is ours, so that an
export that was interrupted at any moment is done anew, and nothing of anybody else's is ever removed. When OUT already holds what is
asked for, nothing is done. The bytes depend on the shards and the options alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from codedev._errors import InputError, nearest
from codedev._run import Progress, file_hash, locked, no_progress, read_json, write_json
from codedev.tokenize.build import HELDOUT
from codedev.tokenize.export import hf, mds, megatron, npy
from codedev.tokenize.export.rows import Source, open_source

FORMAT = "codedev.export/1"
_OURS = Path(".work", "export")  # its being there says that what OUT/.work/export/ours.json lists is ours


class Format(NamedTuple):
    version: int  # raised when the same rows would give other bytes
    places: dict[str, str]  # folder of each split in OUT
    write: Callable[[Source, Path, bool], None]  # a split's files into a folder; the flag is the format's option
    finish: Callable[[Path, dict[str, Source]], None] | None = None  # what tells of all splits
    option: str | None = None  # the flag's name


_BESIDE = {"train": "", "heldout": HELDOUT}
FORMATS = {
    "hf": Format(1, hf.PLACES, hf.write, hf.finish, "labels"),
    "megatron": Format(1, _BESIDE, megatron.write),
    "mds": Format(1, _BESIDE, mds.write),
    "npy": Format(1, _BESIDE, npy.write),
    "npy-flat": Format(1, {"train": "", "heldout": ""}, npy.write_flat),
}


def export_shards(
    shards: Path, out: Path, to: str, *, labels: bool = False, flat: bool = False, progress: Progress = no_progress
) -> dict[str, Any]:
    """Write `shards` to `out` in the format `to`; returns {"manifest", "unchanged": OUT held it already}.

    `labels` (hf) adds the column of targets; `flat` (npy) writes tokens alone, without padding. InputError for shards that are
    unfinished or damaged and for an `out` that holds something else, RunError when `out` is being written to.
    """
    if to not in ("hf", "megatron", "mds", "npy"):
        raise InputError(f"--to {to}: there is no such format; {nearest(to, ('hf', 'megatron', 'mds', 'npy'))}")
    if (labels and to != "hf") or (flat and to != "npy"):
        raise InputError(f"--to {to} knows no --{'labels' if labels and to != 'hf' else 'flat'}: leave it out")
    form = FORMATS["npy-flat" if flat else to]
    done = total = 0

    def tick(rows: int) -> None:
        nonlocal done
        done += rows
        progress("export", done, total)

    sources = _splits(shards, tick)
    total = sum(source.manifest["rows"] for source in sources.values())
    request = _request(sources, form, to, {"labels": labels, "flat": flat})
    _check_out(out)
    with locked(out):
        manifest = _complete(out, request)
        unchanged = manifest is not None
        if manifest is None:
            (out / _OURS).mkdir(parents=True, exist_ok=True)  # before the manifest goes: one of the two says that `out` is ours
            _clear(out)
            manifest = _build(sources, form, labels, out, request)
        shutil.rmtree(out / _OURS, ignore_errors=True)
        if (out / ".work").is_dir() and not any((out / ".work").iterdir()):
            (out / ".work").rmdir()
    return {"manifest": manifest, "unchanged": unchanged}


def _splits(shards: Path, tick: Callable[[int], None]) -> dict[str, Source]:
    sources = [open_source(shards, tick)]
    if sources[0].split == "train" and (shards / HELDOUT).is_dir():
        sources.append(open_source(shards / HELDOUT, tick))
        first, held = (source.manifest for source in sources)
        if differing := [
            name for name in ("seq_len", "dtype", "vocab_size", "tokenizer", "eos_id", "pad_id") if first.get(name) != held.get(name)
        ]:
            raise InputError(f"{shards / HELDOUT}: its {differing[0]} is not that of {shards}. Run `codedev tokenize` again")
    for source in sources:
        if not source.manifest["counts"]["tokens_packed"]:
            raise InputError(f"{source.path}: holds no tokens, so there is nothing to export")
        tokenizer = source.path / source.manifest["tokenizer"]["file"]
        if not tokenizer.is_file() or file_hash(tokenizer) != source.manifest["tokenizer"]["hash"]:
            raise InputError(f"{tokenizer}: is not the tokenizer that the manifest names. Run `codedev tokenize` again, or copy it again")
    return {source.split: source for source in sources}


def _request(sources: dict[str, Source], form: Format, to: str, options: dict[str, bool]) -> dict[str, Any]:
    """The part of the manifest that is known before the work: everything that decides the output."""
    first = next(iter(sources.values())).manifest
    shared = ("seq_len", "dtype", "vocab_size", "bos_id", "eos_id", "pad_id", "tokenizer")
    splits = {}
    for split, source in sources.items():
        counts = source.manifest["counts"]
        splits[split] = {
            "folder": form.places[split] or ".",
            "rows": source.manifest["rows"],
            "segments": counts["segments"],
            "tokens": counts["tokens_packed"],
            "padding": counts["padding"],
            "loss_spans": source.spans,
            "shards": file_hash(source.path / "manifest.json"),
        }
    return {
        "format": FORMAT,
        "to": to,
        "version": form.version,
        "options": options,
        **{name: first.get(name) for name in shared},
        "splits": splits,
    }


def _check_out(out: Path) -> None:
    """InputError when `out` holds something that is not ours."""
    if out.is_dir():
        names = {entry.name for entry in out.iterdir()} - {".lock"}
        if names == {".work"} and not any((out / ".work").iterdir()):
            return  # killed when it had only begun
        if names and not (out / _OURS).is_dir() and _manifest(out) is None:
            raise InputError(f"{out}: is not empty and holds no export ({', '.join(sorted(names)[:3])} …). Choose another --out")
    elif out.exists():
        raise InputError(f"{out}: is not a directory. Choose another --out")


def _manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of the export that `out` holds, if it holds one; its files' names lie inside of `out`."""
    try:
        manifest = read_json(out / "manifest.json")
        names = [Path(entry["name"]) for entry in manifest["files"]]
        if manifest["format"] == FORMAT and not any(name.is_absolute() or ".." in name.parts or not name.parts for name in names):
            return dict(manifest)
    except (InputError, KeyError, TypeError):
        pass
    return None


def _complete(out: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest, when OUT holds exactly what is asked for and its files are whole."""
    manifest = _manifest(out)
    try:
        same = manifest is not None and request.items() <= manifest.items()
        if manifest is not None and same and all(file_hash(out / entry["name"]) == entry["hash"] for entry in manifest["files"]):
            return manifest
    except (OSError, KeyError, TypeError):
        pass
    return None


def _clear(out: Path) -> None:
    """Remove what an earlier export left, whole or not; InputError when something else lies beside it."""
    shutil.rmtree(out / _OURS / "new", ignore_errors=True)
    listed = out / _OURS / "ours.json"
    named = read_json(listed) if listed.is_file() else []
    # What is to be removed lies in `out`, whoever wrote the list.
    ours = (
        {name for name in named if isinstance(name, str) and name != ".." and Path(name).parts == (name,)}
        if isinstance(named, list)
        else set()
    )
    ours |= {Path(entry["name"]).parts[0] for entry in (_manifest(out) or {"files": []})["files"]}
    others = sorted({entry.name for entry in out.iterdir()} - ours - {"manifest.json", ".lock", ".work"})
    if others:
        raise InputError(f"{out}: holds {', '.join(others[:3])} beside an earlier export. Move that away, or choose another --out")
    write_json(listed, sorted(ours))
    (out / "manifest.json").unlink(missing_ok=True)
    for name in ours:
        path = out / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _build(sources: dict[str, Source], form: Format, option: bool, out: Path, request: dict[str, Any]) -> dict[str, Any]:
    new = out / _OURS / "new"
    for split, source in sources.items():
        folder = new / form.places[split]
        folder.mkdir(parents=True, exist_ok=True)
        form.write(source, folder, option)
    if form.finish is not None:
        form.finish(new, sources)
    first = next(iter(sources.values()))
    shutil.copyfile(first.path / first.manifest["tokenizer"]["file"], new / first.manifest["tokenizer"]["file"])
    files = []
    for path in sorted(path for path in new.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        files.append({"name": path.relative_to(new).as_posix(), "bytes": path.stat().st_size, "hash": file_hash(path)})
    names = sorted(entry.name for entry in new.iterdir())
    write_json(out / _OURS / "ours.json", names)
    for name in names:
        os.replace(new / name, out / name)
    write_json(out / "manifest.json", {**request, "files": files})
    return {**request, "files": files}
