"""What a source tree says of itself: its name, the commit that is checked out, the licence that covers a directory.

Everything is read from files; git is never run, and nothing of the tree is executed. Every read is bounded, of regular files alone.
Where the files of a tree lie, on disk, in a commit or in an archive, is its Place; the rules are the same for all.

The licence of a tree is that of the licence files at its root (LICENSE, COPYING, LICENSE-MIT beside LICENSE-APACHE, UNLICENSE, ...), made
more exact by the package metadata there ("GPL-2.0-or-later", "MIT OR Apache-2.0"); then the metadata alone; then licence files in `doc/`
and `LICENSES/`, then NOTICE. A directory below with a licence file of its own is covered by that one. Cost: a few milliseconds a tree.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple, Protocol

import orjson

from codedev._files import open_raw
from codedev.corpus import licence

_MAX_READ = 1 << 20


class Checkout(NamedTuple):
    name: str  # owner/name of the remote `origin`, else the folder's name
    commit: str | None  # 40 or 64 hex digits; None where there is no checkout


class Licence(NamedTuple):
    expression: str | None  # SPDX; None = unknown
    files: tuple[str, ...] = ()  # where it was read, relative to the tree
    found: str = "file"  # file, metadata or reuse
    precedence: str = "closest"  # override: also over what a file says of itself; aggregate: beside it


class Place(Protocol):
    """Where the files of a tree can be read."""

    def text(self, path: str) -> str:
        """The beginning of a regular file; empty where it cannot be read."""

    def files(self, folder: str) -> list[str]:
        """Names of the regular files of a folder, sorted; none where it cannot be listed."""


def read_text(path: str, limit: int = _MAX_READ) -> str:
    """The beginning of a file; empty where it cannot be read."""
    try:
        with open_raw(path) as file:
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


class Disk:
    """Files of this machine."""

    def text(self, path: str) -> str:
        return read_text(path)

    def files(self, folder: str) -> list[str]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        except OSError:
            return []


DISK = Disk()


# The checkout.

_COMMIT = re.compile(r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\s*\Z")
_REF = re.compile(r"\Aref:\s*(refs/(?!.*(?:\.\.|//))[^\s\x00-\x1f~^:?*\[\\]+)\s*\Z")
_ORIGIN = re.compile(r'^\s*\[remote\s+"origin"\]\s*$(.*?)(?=^\s*\[|\Z)', re.MULTILINE | re.DOTALL)
_URL = re.compile(r"^\s*url\s*=\s*(\S+)\s*$", re.MULTILINE)
# scheme://user@host/owner/name.git or user@host:owner/name.git; a local path says nothing to others and is left out
_REMOTE = re.compile(r"\A(?:(?!file:)[a-z+]+://[^/\s]+/|[^/\s:]+:(?!//))(?:.*/)?([\w.~-]+/[\w.~-]+?)(?:\.git)?/?\Z", re.IGNORECASE)


def identify(directory: str) -> Checkout:
    """Name and commit of the tree at `directory`. A `.git` that names no commit makes no checkout."""
    name = os.path.basename(os.path.normpath(directory))
    git = git_directory(directory)
    commit = resolve(git, "HEAD") if git else None
    return Checkout(remote_name(git) or name, commit) if git and commit else Checkout(name, None)


def is_bare(names: Collection[str]) -> bool:
    """Whether a folder of these names is a repository without a work tree."""
    return {"HEAD", "objects", "refs"} <= set(names) and ".git" not in names


def git_directory(directory: str) -> str | None:
    """The `.git` of a checkout, also where that is a file which names another folder: of a worktree or a submodule."""
    git = os.path.join(directory, ".git")
    if os.path.isdir(git):
        return git
    pointer = read_text(git, 4096) if os.path.isfile(git) else ""
    if pointer.startswith("gitdir:"):
        target = pointer.removeprefix("gitdir:").strip()
        return os.path.normpath(os.path.join(directory, target)) if target and "\0" not in target else None
    return None


def shared_directory(git: str) -> str:
    """Where a worktree's repository keeps its objects, branches and configuration."""
    common = read_text(os.path.join(git, "commondir"), 4096).strip()
    return os.path.normpath(os.path.join(git, common)) if common and "\0" not in common else git


def remote_name(git: str) -> str | None:
    """owner/name of the remote `origin`. The configuration is read as text: what it includes or would run is nothing to us."""
    origin = _ORIGIN.search(read_text(os.path.join(shared_directory(git), "config"), 1 << 16))
    url = _URL.search(origin[1]) if origin else None
    remote = _REMOTE.match(url[1]) if url else None
    return remote[1] if remote else None


def resolve(git: str, name: str) -> str | None:
    """The object that HEAD, a branch, a tag or a full hash names; None where there is none. It may be a tag."""
    if _COMMIT.match(name):
        return name.strip()
    places = dict.fromkeys((git, shared_directory(git)))
    for ref in (name, f"refs/{name}", f"refs/tags/{name}", f"refs/heads/{name}", f"refs/remotes/{name}", f"refs/remotes/{name}/HEAD"):
        if (ref == "HEAD" or _REF.match(f"ref: {ref}")) and (found := _followed(places, ref)):
            return found
    return None


def _followed(places: Iterable[str], ref: str) -> str | None:
    """The hash that a ref holds, also by way of others."""
    for _ in range(5):  # as far as git goes
        text = next((text for place in places if (text := read_text(os.path.join(place, ref), 4096))), "")
        if _COMMIT.match(text):
            return text.strip()
        if not text:
            return _packed(places, ref)
        symbolic = _REF.match(text)
        if not symbolic:
            return None
        ref = symbolic[1]
    return None


def _packed(places: Iterable[str], ref: str) -> str | None:
    for place in places:
        for line in read_text(os.path.join(place, "packed-refs"), 64 << 20).splitlines():
            commit, _, name = line.partition(" ")
            if name == ref and _COMMIT.match(commit):
                return commit
    return None


# Licence files.

_TEXT_SUFFIX = r"(?:\.(?:txt|md|rst|html?|rtf|markdown|adoc|asciidoc|org))?"
_PLAIN = re.compile(rf"\A(?:licen[sc]es?|copying|copyright){_TEXT_SUFFIX}\Z", re.IGNORECASE)
_CHOICE = re.compile(
    rf"\A(?:[a-z0-9.+]{{2,20}}[-_])?(?:un)?(?:licen[sc]e|copying)(?:[-_.][a-z0-9.+_-]{{1,30}})?{_TEXT_SUFFIX}\Z", re.IGNORECASE
)
_NOT_ITS_OWN = re.compile(r"third|3rd|vendor|bundle|depend|notice|header|template|check|tool|font|image|data|icon|example", re.IGNORECASE)
_NOT_TEXT = re.compile(
    r"\.(?:py|rb|jsx?|tsx?|mjs|cjs|go|rs|java|c|h|cc|cpp|hpp|php|p[lm]|scala|kt|cs|swift|sh|bat|lua|exs?|erl|hs|ml|r|json|xml|ya?ml|toml|ini"
    r"|tt|erb|in|te?mpl|template|s?css|svg|png|jpg|gif|pdf|pot?|class|map|lock|list|csv|spdx|enc|asc|sig)\Z",
    re.IGNORECASE,
)
_DOC_FOLDERS = ("doc", "docs", "legal", "license", "licenses", "licence", "licences", "META-INF")
_POINTER = 500  # characters: a shorter licence file refers to others rather than holding a text


def is_licence_name(name: str) -> bool:
    if not (_PLAIN.match(name) or _CHOICE.match(name)):
        return False
    return not _NOT_TEXT.search(name) and not _NOT_ITS_OWN.search(name)


def nested_licence(directory: str, files: Iterable[str], shown: str, place: Place = DISK) -> Licence | None:
    """The licence of the licence files among the names `files` of a directory; None where there are none.

    `shown` is the directory relative to the tree, for the answer's `files`.
    """
    names = sorted(name for name in files if is_licence_name(name))
    texts = {name: place.text(os.path.join(directory, name)) for name in names}
    # A file that is called so and speaks of no licence (an empty one, a page of documentation) covers nothing.
    texts = {name: text for name, text in texts.items() if re.search(r"licen[sc]e|permission|copyright|public domain", text, re.IGNORECASE)}
    if not texts:
        return None
    where = tuple(os.path.join(shown, name) for name in texts)
    return Licence(_combined({name: (text, licence.of_text(text)) for name, text in texts.items()}), where)


def _combined(read: dict[str, tuple[str, str | None]]) -> str | None:
    """One expression for the licence files of a directory: name -> (text, its expression)."""
    plain = {name: found for name, found in read.items() if _PLAIN.match(name)}
    choices = [expression for name, (_, expression) in read.items() if name not in plain and expression]
    pointers_only = all(len(text) < _POINTER for text, _ in plain.values())
    own = [expression for _, expression in plain.values() if expression]
    lesser = [expression for expression in (*own, *choices) if expression.startswith("LGPL-")]
    if lesser and all("GPL-" in expression for expression in (*own, *choices)):
        return lesser[0]  # COPYING holds the GPL, on which the LGPL of COPYING.LESSER builds
    if choices and pointers_only:
        return licence.either(choices)
    return licence.both(own) if own and len(own) == len(plain) else None


def root_licence(directory: str, files: Collection[str], folders: Collection[str], place: Place = DISK) -> Licence:
    """The licence of the tree at `directory`, whose root holds regular files and folders of these names."""
    found = nested_licence(directory, files, "", place)
    declared = _declared(directory, files, place)
    packages = [name for name in folders if name.endswith((".dist-info", ".egg-info"))]
    if len(packages) == 1:  # an unpacked Python package: its metadata stand beside it
        inside = os.path.join(directory, packages[0])
        names = place.files(inside)
        declared = declared or _declared(inside, names, place, packages[0])
        found = found or nested_licence(inside, names, packages[0], place)
        for folder in ("licenses", "license_files"):
            licences = os.path.join(inside, folder)
            found = found or nested_licence(licences, place.files(licences), os.path.join(packages[0], folder), place)
    if found and found.expression:
        return Licence(_refined(found.expression, declared.expression), found.files) if declared else found
    if declared:
        return declared
    if found:
        return found
    for folder in sorted(name for name in folders if name in _DOC_FOLDERS):
        inside = os.path.join(directory, folder)
        if (found := nested_licence(inside, place.files(inside), folder, place)) and found.expression:
            return found
    if "LICENSES" in folders:  # REUSE: one file a licence, named by its id
        names = sorted(name for name in place.files(os.path.join(directory, "LICENSES")) if name.endswith(".txt"))
        ids = [expression for name in names if (expression := licence.of_declaration(name.removesuffix(".txt")))]
        if ids and len(ids) == len(names):
            return Licence(licence.both(ids), tuple(f"LICENSES/{name}" for name in names))
    for name in sorted(set(files) & {"NOTICE", "NOTICE.txt", "NOTICE.md"}):
        if expression := licence.of_text(place.text(os.path.join(directory, name))):
            return Licence(expression, (name,))
    return Licence(None)


def _refined(text: str, declared: str | None) -> str:
    """The licence files' expression, or the metadata's where that says the same with more: a choice, or "or later"."""
    if declared and (declared == text.replace("-only", "-or-later") or text in re.split(r" OR |[()]", declared)):
        return declared
    return text


# Package metadata.

_Reader = Callable[[str], Any]  # text -> a declaration, a list of which one may be chosen, or None


# The parser costs the square of a dotted key's length: 2 s for 8,000 parts, an hour for what fits into a file that is read.
_MAX_DOTS = 100  # outside strings, of a line
_TOML_STRING = re.compile(r""""[^"\n]*+"|'[^'\n]*+'""")


def parse_toml(text: str) -> dict[str, Any]:
    if any(line.count(".") > _MAX_DOTS for line in _TOML_STRING.sub("", text).split("\n")):
        raise ValueError("a key of too many parts")
    return tomllib.loads(text)


def _toml(*path: str) -> _Reader:
    return lambda text: _at(parse_toml(text), path)


def _json(*path: str) -> _Reader:
    return lambda text: _at(orjson.loads(text), path)


def _line(pattern: str) -> _Reader:
    compiled = re.compile(pattern, re.MULTILINE | re.IGNORECASE)
    return lambda text: match[1] if (match := compiled.search(text)) else None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _pyproject(text: str) -> Any:
    data = parse_toml(text)
    own = _at(data, ("project", "license")) or _at(data, ("tool", "poetry", "license"))
    if isinstance(own, dict):
        own = own.get("text")
    if isinstance(own, str) and licence.of_declaration(own):
        return own
    classifiers = _at(data, ("project", "classifiers"))
    return [c for c in classifiers if isinstance(c, str) and c.startswith("License :: ")] if isinstance(classifiers, list) else None


def _wheel(text: str) -> Any:
    head = text.partition("\n\n")[0]
    for field in ("License-Expression", "License", "Classifier: License"):
        found = [value for value in re.findall(rf"^{field}[ \t]*:+[ \t]*(.+)$", head, re.MULTILINE) if value.strip() != "UNKNOWN"]
        named = [name for value in found if (name := licence.of_declaration(value.rpartition(" :: ")[2]))]
        if named:
            return named
    return None


_METADATA: tuple[tuple[str, _Reader], ...] = (
    (r"METADATA|PKG-INFO", _wheel),
    (r"pyproject\.toml", _pyproject),
    (r"Cargo\.toml", _toml("package", "license")),
    (r"package\.json", lambda text: _typed(_json("license")(text) or _json("licenses")(text))),
    (r"composer\.json", _json("license")),
    (r"META\.json", _json("license")),
    (r"setup\.cfg", _line(r"^license[ \t]*=[ \t]*(.+)$")),
    (r"DESCRIPTION", _line(r"^License:[ \t]*(.+)$")),
    (r".*\.gemspec", _line(r"\.licenses?\s*=\s*\[?\s*[\"']([^\"']+)[\"']")),
    (r".*\.cabal", _line(r"^license:[ \t]*(.+)$")),
    (r".*\.opam|opam", _line(r"^license:\s*\[?\s*\"([^\"]+)\"")),
    (r"dune-project", _line(r"\(license\s+\"?([^\s\")]+)\"?\s*\)")),
    (r".*\.rockspec", _line(r"\blicense\s*=\s*[\"']([^\"']+)[\"']")),
    (r"pom\.xml", _line(r"<licenses?>\s*<license>\s*<name>\s*([^<]+?)\s*</name>")),
    (r"mix\.exs", _line(r"\blicenses:\s*\[\s*\"([^\"]+)\"\s*\]")),
    (r"setup\.py", _line(r"\blicense\s*=\s*[\"']([^\"']+)[\"']")),
    (r"build\.sbt", _line(r"^[ \t]*(?:ThisBuild\s*/\s*)?licenses?\b.{0,60}?\(\s*\"([^\"]+)\"")),
)


_TELLING = re.compile("|".join(pattern for pattern, _ in _METADATA))


def tells(name: str) -> bool:
    """Whether a file of this name may say what licence a tree or folder has: one that rules below, or those of REUSE, would read."""
    return bool(
        is_licence_name(name)
        or name in ("NOTICE", "NOTICE.txt", "NOTICE.md", "REUSE.toml", "dep5")
        or name.endswith(".license")
        or _TELLING.fullmatch(name)
    )


def _typed(value: Any) -> Any:
    """npm's older forms: {"type": "MIT"} and a list of them."""
    if isinstance(value, list):
        return [_typed(entry) for entry in value]
    return value.get("type") if isinstance(value, dict) else value


def _declared(directory: str, files: Collection[str], place: Place, shown: str = "") -> Licence | None:
    """What the first metadata file that names a licence says."""
    for pattern, reader in _METADATA:
        for name in sorted(name for name in files if re.fullmatch(pattern, name)):
            try:
                value = reader(place.text(os.path.join(directory, name)))
            except (ValueError, RecursionError):  # not the format that its name says; TOML nested without end
                continue
            listed = value if isinstance(value, list) else [value]
            found = [licence.of_declaration(entry) if isinstance(entry, str) else None for entry in listed]
            if found and all(found):
                return Licence(licence.either([entry for entry in found if entry]), (os.path.join(shown, name),), "metadata")
    return None
