"""A tar (also compressed) or zip of a source tree, such as GitHub gives out: read member by member, never unpacked.

Planning reads the archive once: for its names, since a single folder around everything (`name-1.2/`) is not part of the paths, and for
its licence files, package metadata and REUSE files, since they may come after what they cover. The commit is the archive's own comment,
which `git archive` writes. The repository's name is that of the folder without its version or commit, or else the file's.

A plain tar and a zip split into runs of members; a compressed tar is one unit. Links are drops, what the archive reader refuses is a
failure of its own kind; an archive inside is a binary file. Held in memory while planning: the names, and 64 MiB of licence and metadata
files at most.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import orjson

from codedev import _archive
from codedev._archive import Member, Refused
from codedev._files import MAX_RATIO, compression, damage_kind, decompressed, hash_of, is_damage, open_raw, shown, storable
from codedev.corpus import repository
from codedev.corpus.repository import Licence
from codedev.corpus.source import Extent, Failure
from codedev.corpus.sources.code import cover as code_cover
from codedev.corpus.sources.code.cover import Cover, Rule
from codedev.corpus.sources.code.file import File, Record, json_of, records
from codedev.corpus.sources.code.folder import VERSION_CONTROL, Walk

if TYPE_CHECKING:
    from codedev.corpus.sources.code.source import Config

_MAX_TEXT = 1 << 20  # bytes of a licence or metadata file
_MAX_TEXTS = 64 << 20  # of all of them
_MAX_NAMES = 4_000_000  # members; names beyond that are not looked at for licences
_COMMIT = re.compile(r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_SUFFIX = re.compile(r"\.(?:tar(?:\.\w{1,5})?|tgz|tbz2?|txz|tzst|zip)\Z", re.IGNORECASE)
_VERSION = re.compile(r"[-_.](?:v?\d[\w.+~]{0,40}|main|master|trunk|develop|HEAD|[0-9a-f]{7,40})\Z")


class _Opened(NamedTuple):
    stream: BinaryIO  # the archive, decompressed
    form: _archive.Form
    plain: bool  # not compressed: it can be cut


def form_of(path: str) -> _archive.Form | None:
    """What archive the file is, by its first bytes; None = another file, or one that cannot be read. A compressed file whose head is
    damaged passes for a tar, as nearly all are, so that planning says what is wrong with it: its name alone would make it a binary file."""
    codec = None
    try:
        with open_raw(path) as file:
            codec = compression(file.read(8))
            file.seek(0)
            return _open(file, MAX_RATIO).form
    except NoArchiveError:
        return None
    except Exception as error:
        if not is_damage(error):
            raise
        return "tar" if codec else None


class NoArchiveError(ValueError):
    """The file is sound as far as it was read, and no archive."""


def _open(file: BinaryIO, max_ratio: int) -> _Opened:
    codec = compression(file.read(8))
    file.seek(0)
    stream = decompressed(file, codec, max_ratio)
    form = _archive.form(stream.read(512))
    if form is None:
        raise NoArchiveError("no archive")
    file.seek(0)
    return _Opened(decompressed(file, codec, max_ratio), form, codec is None)


# Planning.


class _Texts(NamedTuple):
    """A Place: the files of an archive that say what covers it."""

    texts: dict[str, str]
    names: dict[str, list[str]]  # folder -> its files

    def text(self, path: str) -> str:
        return self.texts.get(path, "")

    def files(self, folder: str) -> list[str]:
        return sorted(self.names.get(folder, ()))


def plan(path: str, walk: Walk, config: Config, unit_bytes: int) -> Iterator[Extent]:
    whole = Extent(storable(path), shown(path, walk.base), 0, -1, os.path.getsize(path), "{}")
    try:
        with open_raw(path) as file:
            facts = _facts(file, path, config, walk)
            file.seek(0)
            opened = _open(file, config.max_ratio)
            pieces = [(0, -1, whole.size)]
            if opened.plain and opened.form != "7z" and (whole.size > unit_bytes or opened.form == "zip"):
                pieces = _archive.cuts(file, opened.form, unit_bytes)
    except Exception as error:
        if not is_damage(error):
            raise
        yield whole._replace(context=json_of({"archive": True, "special": str(error), "kind": damage_kind(error)}))
        return
    context = json_of(facts)
    for start, end, size in pieces:
        yield whole._replace(start=start, end=end, size=size, context=context)


def _facts(file: BinaryIO, path: str, config: Config, walk: Walk) -> dict[str, Any]:
    opened = _open(file, config.max_ratio)
    comment = ""
    if opened.form != "7z":
        comment = _archive.comment(opened.stream, opened.form)
        file.seek(0)
        opened = _open(file, config.max_ratio)
    commit = comment if _COMMIT.match(comment) else None
    texts, names = _first_pass(opened, config)
    top = _top(names)
    name = _name(top or _SUFFIX.sub("", os.path.basename(path)), commit)
    covers, sidecars = _covers(texts, names, top)
    facts = {
        "archive": True,
        "repo": name,
        "commit": commit,
        "top": top,
        "covers": covers,
        "sidecars": sidecars,
        "root": shown(path, walk.base),
    }
    return {**facts, "about": about} if (about := walk.about(name)) else facts


def _first_pass(opened: _Opened, config: Config) -> tuple[dict[str, str], list[str]]:
    """The texts that say what covers the tree, and the names of all members."""
    texts: dict[str, str] = {}
    names: list[str] = []
    held = 0
    for member in _archive.members(opened.stream, opened.form, limit=config.max_record_bytes, ratio=config.max_ratio):
        if isinstance(member, Refused) or len(names) == _MAX_NAMES:
            continue
        names.append(member.name)
        if member.size <= _MAX_TEXT and held < _MAX_TEXTS and repository.tells(member.name.rpartition("/")[2]):
            try:
                texts[member.name] = member.read().decode("utf-8", "replace")
            except Exception as error:  # its own record will say so
                if not is_damage(error):
                    raise
            else:
                held += len(texts[member.name])
    return texts, names


def _top(names: list[str]) -> str:
    """The one folder that everything lies in, with its slash; or nothing."""
    top = "".join(_path(names[0], "").partition("/")[:2]) if names else ""
    return top if top.endswith("/") and all(_path(name, "").startswith(top) for name in names) else ""


def _path(member: str, top: str) -> str:
    """Where the member lies in its tree."""
    return member.removeprefix("./").removeprefix(top)


def _name(top: str, commit: str | None) -> str:
    name = storable(top.rstrip("/"))
    if commit:
        for length in (len(commit), 10, 9, 8, 7):
            if name.endswith(f"-{commit[:length]}"):
                return name[: -length - 1] or name
    return _VERSION.sub("", name) or name


def _covers(texts: dict[str, str], names: list[str], top: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What covers each folder in which that changes, and what sidecars say: both as JSON keeps them."""
    listed: dict[str, list[str]] = defaultdict(list)
    folders: set[str] = set()
    for name in names:
        folder, _, file = _path(name, top).rpartition("/")
        listed[folder].append(file)
        if folder:
            folders.add(folder.partition("/")[0])
    place = _Texts({_path(name, top): text for name, text in texts.items()}, listed)
    covers = {"": code_cover.of_root(place, "", listed.get("", []), sorted(folders))}
    for folder in sorted(listed):
        if folder and any(map(code_cover.tells, listed[folder])):
            above = nearest(covers, folder)
            if (cover := code_cover.of_folder(above, place, folder, listed[folder], folder)) is not above:
                covers[folder] = cover
    # `logo.svg.license` speaks for `logo.svg`, if there is one.
    known = {_path(name, top) for name in names}
    sidecars = {}
    for path in place.texts:
        if path.endswith(".license") and (of := path.removesuffix(".license")) in known:
            found = covers[""].of(of, {path.rpartition("/")[2]}, place, of.rpartition("/")[0])
            if found.found == "reuse" and found.precedence == "override" and found.expression:
                sidecars[of] = found.expression
    return {folder: [*cover.licence, [list(rule) for rule in cover.rules]] for folder, cover in covers.items()}, sidecars


def nearest(covers: dict[str, Cover], folder: str) -> Cover:
    while folder not in covers:
        folder = folder.rpartition("/")[0]
    return covers[folder]


# Reading.


def read(extent: Extent, config: Config, exclude: re.Pattern[str] | None) -> Iterator[Record]:
    facts = orjson.loads(extent.context)
    if "special" in facts:
        yield Failure(facts["kind"], facts["special"])
        return
    covers = {
        folder: Cover(Licence(said[0], tuple(said[1]), *said[2:4]), tuple(Rule(*rule) for rule in said[4]))
        for folder, said in facts["covers"].items()
    }
    try:
        version = facts["commit"] or (extent.hash or hash_of(extent.file))[:16]
        with open_raw(extent.file) as file:
            opened = _open(file, config.max_ratio)
            limit, ratio = config.max_record_bytes, config.max_ratio
            for member in _archive.members(opened.stream, opened.form, start=extent.start, end=extent.end, limit=limit, ratio=ratio):
                yield from _member(member, config, facts, covers, version, exclude)
    except Exception as error:
        if not is_damage(error):
            raise
        yield Failure(damage_kind(error), str(error))


def _member(
    member: Member | Refused, config: Config, facts: dict[str, Any], covers: dict[str, Cover], version: str, exclude: re.Pattern[str] | None
) -> Iterator[Record]:
    path = _path(member.name, facts["top"])
    parts = path.split("/")
    if not VERSION_CONTROL.isdisjoint(parts) or (exclude and _excluded(exclude, parts)):
        return
    if isinstance(member, Refused):
        if member.kind == "link":
            yield File(config, _own(facts, path), version, 0, member.offset, member.name).drop("link", said=member.message)
        else:
            yield Failure(member.kind, member.message, member.offset, member.name)
        return
    sidecar = facts["sidecars"].get(path)
    cover = nearest(covers, path.rpartition("/")[0])
    covering = Licence(sidecar, (f"{path}.license",), "reuse", "override") if sidecar else cover.by_rule(path) or cover.licence
    own = {
        **_own(facts, path),
        "licence": covering.expression,
        "licence_from": covering.found,
        "precedence": covering.precedence,
    }
    yield from records(File(config, own, version, member.size, member.offset, member.name), member.read)


def _own(facts: dict[str, Any], path: str) -> dict[str, Any]:
    return {"repo": facts["repo"], "commit": facts["commit"], "root": facts["root"], "path": path, "about": facts.get("about")}


def _excluded(exclude: re.Pattern[str], parts: list[str]) -> bool:
    """Whether a glob matches the path or a folder above it, as in a walk, which does not enter that."""
    return any(exclude.match("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))
