"""Which licence covers the files of a folder: the tree's own, that of the nearest folder with a licence file, and what REUSE files say.

REUSE (reuse.software): a sidecar `logo.svg.license` speaks for the file beside it, and before that file itself; `REUSE.toml` in any
folder and `.reuse/dep5` at the root for the files that their globs name. Of several annotations in one file the last counts; of several
files the nearest, unless one says `precedence = "override"`: of those the outermost. Every read is bounded.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import Any, NamedTuple

from codedev.corpus import licence
from codedev.corpus.repository import Licence, Place, is_licence_name, nested_licence, parse_toml, root_licence

_MAX_RULES = 10_000  # globs of a tree: beyond, files keep the licence of their folder
_NONE = Licence(None)


class Rule(NamedTuple):
    """A glob of an annotation and what it says."""

    folder: str  # of the file that it stands in, relative to the tree
    pattern: str  # a regular expression for the rest of the path
    precedence: str  # closest, override, aggregate
    expression: str
    file: str  # where it was read


class Cover(NamedTuple):
    """What covers the files of one folder."""

    licence: Licence
    rules: tuple[Rule, ...] = ()  # outermost file first

    def of(self, path: str, siblings: Collection[str], place: Place, directory: str) -> Licence:
        """The licence of the file at `path` of the tree, in a folder that holds the names `siblings` and lies at `directory` of `place`."""
        name = path.rpartition("/")[2]
        if f"{name}.license" in siblings:
            said = place.text(f"{directory}/{name}.license" if directory else f"{name}.license")
            if expression := licence.of_tag(said[: licence.HEADER_BYTES].encode()):
                return Licence(expression, (f"{path}.license",), "reuse", "override")
        return self.by_rule(path) or self.licence

    def by_rule(self, path: str) -> Licence | None:
        found: Rule | None = None
        for rule in self.rules:
            if found and found.precedence == "override" and rule.file != found.file:
                break
            inside = path[len(rule.folder) + 1 :] if rule.folder else path
            if _compiled(rule.pattern).fullmatch(inside):
                found = rule
        return found and Licence(found.expression, (found.file,), "reuse", found.precedence)


def of_root(place: Place, directory: str, files: Collection[str], folders: Collection[str]) -> Cover:
    """`directory` is where the tree lies in `place`; files and folders are the names at its root."""
    found = root_licence(directory, files, folders, place)
    rules: tuple[Rule, ...] = ()
    if ".reuse" in folders:
        rules = _dep5(place.text(_join(directory, ".reuse/dep5")))
    if "REUSE.toml" in files:
        rules += _reuse_toml(place.text(_join(directory, "REUSE.toml")), "")
    return Cover(found, rules[:_MAX_RULES])


def of_folder(above: Cover, place: Place, directory: str, files: Collection[str], path: str) -> Cover:
    """`path` is the folder relative to its tree, `directory` where it lies in `place`."""
    found = nested_licence(directory, files, path, place) if any(map(is_licence_name, files)) else None
    rules = above.rules
    if "REUSE.toml" in files:
        rules = (*rules, *_reuse_toml(place.text(_join(directory, "REUSE.toml")), path))[:_MAX_RULES]
    return Cover(found or above.licence, rules) if found or rules is not above.rules else above


def tells(name: str) -> bool:
    """Whether a file of this name changes what covers the folder that it lies in."""
    return name == "REUSE.toml" or is_licence_name(name)


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


@functools.lru_cache(4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL)


def _reuse_toml(text: str, folder: str) -> tuple[Rule, ...]:
    try:
        listed = parse_toml(text).get("annotations")
    except (ValueError, RecursionError):
        return ()
    rules = []
    for annotation in listed if isinstance(listed, list) else ():
        if not isinstance(annotation, dict):
            continue
        said = [licence.expression(entry) for entry in _strings(annotation.get("SPDX-License-Identifier"))]
        precedence = annotation.get("precedence", "closest")
        if not said or not all(said) or precedence not in ("closest", "override", "aggregate"):
            continue
        file = _join(folder, "REUSE.toml")
        for glob in _strings(annotation.get("path")):
            rules.append(Rule(folder, _pattern(glob, slash=False), precedence, licence.both([e for e in said if e]), file))
    return tuple(rules)


def _strings(value: Any) -> list[str]:
    return [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, str)]


def _dep5(text: str) -> tuple[Rule, ...]:
    """Paragraphs of Debian's copyright format: `Files:` globs, `License:` with the expression in its first line."""
    rules = []
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        fields = dict(re.findall(r"^(Files|License):[ \t]*(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        first = fields.get("License", "").split("\n", 1)[0]
        if expression := licence.expression(first.strip()):
            rules += [
                Rule("", _pattern(glob, slash=True), "aggregate", expression, ".reuse/dep5") for glob in fields.get("Files", "").split()
            ]
    return tuple(rules)


def _pattern(glob: str, *, slash: bool) -> str:
    """The glob as a regular expression that takes linear time. `slash`: a single star also matches `/`, and `?` is a wild card.

    What stands between two stars is taken where it first comes (an atomic group): a later place would leave the next star less to choose
    from. Only the last star may try again."""
    stars, literals, literal = [], [], ""
    for part in re.findall(r"\*+|\\.|.", glob[:1000], re.DOTALL):
        if part[0] == "*":
            stars.append(".*" if slash or len(part) > 1 else "[^/]*")
            literals.append(literal)
            literal = ""
        else:
            literal += "." if part == "?" and slash else re.escape(part[-1])
    if not stars:
        return literal
    middle = "".join(f"(?>{star}?{following})" for star, following in zip(stars, literals[1:], strict=False))
    return f"{literals[0]}{middle}{stars[-1]}{literal}"
