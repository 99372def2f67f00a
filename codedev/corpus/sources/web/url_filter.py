"""Lists of URLs: pages of blocked domains, blocked URLs and words in URLs are dropped, by lists in files or in the recipe.

A domain stands for its subdomains too. A URL stands for itself and for what lies below it (`example.org/a` for `example.org/a/b`
and `example.org/a?c`); its scheme, a leading `www.` and a last slash do not count. Words are compared with the words of the URL,
`subwords` with all of its letters and digits, and of `soft_words` several different ones must be there, in the manner of RefinedWeb.
`allow` makes exceptions from all that; `only` turns the filter round. An entry that begins with `/`, `./`, `../`, `~/` or a scheme
other than http is a file, a folder or a glob: one entry a line, plain or compressed, `#` begins a comment, a hosts file
(`0.0.0.0 example.org`) will do, and of a folder in the layout of the UT1 lists each key takes the files that are named like it.

An entry costs 10 bytes (a 64-bit hash and the number of its list), 50 while it is loaded, and 1 µs of each worker that starts: 5
million take 50 MB and 5 seconds. A URL costs 10 µs. A wrong hit has a chance of 1 in 10^12 for each look-up among 5 million.
Words are a set of Python strings. Not read: UT1's `expressions`, Adblock syntax, regular expressions.
"""

from __future__ import annotations

import functools
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import xxhash
from pydantic import Field

from codedev import _files
from codedev._errors import InputError, RecipeError
from codedev._recipe import Model


class UrlLists(Model):
    domains: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()


class UrlFilter(UrlLists):
    """The recipe's `urls`."""

    words: tuple[str, ...] = ()  # one of them as a word of the URL drops the page
    subwords: tuple[str, ...] = ()  # one of them anywhere in its letters and digits does
    soft_words: tuple[str, ...] = ()  # `min_soft_words` different ones as words do
    min_soft_words: int = Field(default=2, gt=0)
    allow: UrlLists | None = None  # exceptions from all of the above
    only: UrlLists | None = None  # what is in none of these is dropped


class Verdict(NamedTuple):
    reason: str  # blocked_domain, blocked_url, blocked_word, not_listed
    evidence: dict[str, object]


Check = Callable[[str], Verdict | None]

_FILE = re.compile(r"\.{0,2}/|~/|(?!https?://)[a-z][a-z0-9+]*://")


def files(config: UrlFilter, base: Path) -> list[_files.Found]:
    """All files that the lists name. Raises InputError where one names none."""
    lists = [config, *(inner for inner in (config.allow, config.only) if inner)]
    entries = [(entry, kind) for one in lists for kind in ("domains", "urls") for entry in getattr(one, kind)]
    entries += [(entry, kind) for kind in ("words", "subwords", "soft_words") for entry in getattr(config, kind)]
    return [found for entry, kind in entries if _FILE.match(entry) for found in _listed(entry, kind, base)]


def digest(config: UrlFilter, base: Path) -> str:
    """A hash of all that the lists' files hold. Costs reading them once. Raises InputError."""
    try:
        hashes = [_files.hash_of(found.path) for found in files(config, base)]
    except OSError as error:
        raise InputError(f"a list of `urls:` cannot be read: {error}") from None
    return xxhash.xxh3_128_hexdigest("".join(hashes).encode())


@functools.lru_cache(maxsize=4)
def load(config: UrlFilter, base: Path, expected: str) -> Check:
    """The filter, held for the process. `expected` is the digest that the plan was made with. Raises InputError."""
    if expected and digest(config, base) != expected:
        raise InputError("a list of `urls:` changed while the build ran. Run it again")
    blocked, allowed, only = _Lists(config, base), _Lists(config.allow, base), _Lists(config.only, base)
    words, soft = frozenset(_words(config.words, "words", base)), frozenset(_words(config.soft_words, "soft_words", base))
    inner = sorted(set(_words(config.subwords, "subwords", base)))
    within = re.compile("|".join(map(re.escape, inner))) if inner else None
    wants_words = bool(words or soft or within)

    def check(url: str) -> Verdict | None:
        host, rest = _parts(url)
        if config.only and not only.of(host, rest):
            return Verdict("not_listed", {"host": host})
        if config.allow and allowed.of(host, rest):
            return None
        if verdict := blocked.of(host, rest):
            return verdict
        if not wants_words:
            return None
        spelled = unquote(f"{host}/{rest}").lower()
        found = set(_WORD.findall(spelled))
        if hits := found & words:
            return Verdict("blocked_word", {"words": sorted(hits)})
        if within and (hit := within.search("".join(_WORD.findall(spelled)))):
            return Verdict("blocked_word", {"subword": hit[0]})
        if len(hits := found & soft) >= config.min_soft_words:
            return Verdict("blocked_word", {"soft_words": sorted(hits)})
        return None

    return check


_WORD = re.compile(r"[^\W_]+")


# --- lists


class _Lists:
    """Domains and URLs, to be looked up."""

    def __init__(self, config: UrlLists | None, base: Path) -> None:
        self._domains = _Hashes(config.domains if config else (), "domains", base)
        self._urls = _Hashes(config.urls if config else (), "urls", base)

    def of(self, host: str, rest: str) -> Verdict | None:
        if self._domains:
            for domain in _domains_of(host):
                if place := self._domains.find(domain):
                    return Verdict("blocked_domain", {"domain": domain, **place})
        if self._urls:
            for url in _prefixes_of(host, rest):
                if place := self._urls.find(url):
                    return Verdict("blocked_url", {"url": url, **place})
        return None


class _Hashes:
    """A set of strings as sorted hashes, each with the list that it is from."""

    def __init__(self, entries: tuple[str, ...], kind: str, base: Path) -> None:
        self._names: list[str] = []
        blocks: list[np.ndarray] = []
        inline = [_inline(entry, kind, base) for entry in entries if not _FILE.match(entry)]
        if inline:
            self._names.append("")
            blocks.append(_hashed(map(str.encode, inline)))
        for entry in entries:
            if _FILE.match(entry):
                for found in _listed(entry, kind, base):
                    self._names.append(found.name)
                    blocks.append(_of_file(found.path, kind))
        if len(blocks) > 1 << 16:
            raise RecipeError(f"urls.{kind}: more than 65,536 files of lists")
        sizes = [len(block) for block in blocks]
        every = np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)
        hashes, first = np.unique(every, return_index=True)  # of equal ones the first list
        lists = np.repeat(np.arange(len(blocks), dtype=np.uint16), sizes)[first]
        self._hashes = array("Q", hashes.tobytes())  # bisect is ten times as fast on it as numpy's search for one number
        self._lists = array("H", lists.tobytes())

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def find(self, text: str) -> dict[str, object] | None:
        """Where `text` is listed, as evidence; None where it is not."""
        key = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
        at = bisect_left(self._hashes, key)
        if at == len(self._hashes) or self._hashes[at] != key:
            return None
        return {"list": self._names[self._lists[at]] or "recipe"}


def _hashed(texts: Iterable[bytes]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64)


def _of_file(path: str, kind: str) -> np.ndarray:
    """The hashes of a list's entries; its lines are read a megabyte at a time."""
    blocks = []
    for lines in _line_blocks(path):
        # Most lists are bare lower-case domains, which need no look at each: a tenth of the time.
        if kind == "domains" and not _UNUSUAL.search(lines):
            blocks.append(_hashed(filter(None, lines.replace(b"\nwww.", b"\n").removeprefix(b"www.").split(b"\n"))))
        else:
            texts = (_entry(line, kind) for line in lines.decode("utf-8", "replace").split("\n"))
            blocks.append(_hashed(text.encode() for text in texts if text))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)


_UNUSUAL = re.compile(rb"[^a-z0-9.\n_-]|(?:^|\n)\.|\.(?:\n|$)|(?:^|\n)www\.www\.")


def _line_blocks(path: str) -> Iterator[bytes]:
    try:
        with _files.open_decompressed(path) as file:
            rest = b""
            while block := file.read(1 << 20):
                lines, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    yield lines
                elif len(rest) > 1 << 24:
                    raise InputError(f"{path}: no list of `urls:`: a line of more than 16 MB")
            yield rest
    except Exception as error:
        if not _files.is_damage(error):
            raise
        raise InputError(f"{path}: a list of `urls:` cannot be read: {error}") from None


def _entry(line: str, kind: str) -> str:
    """The entry that a line of a list holds, in the form in which it is looked up; empty for none."""
    words = line.partition("#")[0].split() if kind == "domains" else [line.strip()] if not line.lstrip().startswith("#") else []
    if not words or not words[0]:
        return ""
    if kind == "urls":
        return "/".join(filter(None, _parts(words[0])))
    # A hosts file has an address first; its own names are no entries.
    name = words[1] if len(words) > 1 and _ADDRESS.fullmatch(words[0]) else words[0]
    host = _parts(name.removeprefix("*").lstrip("."))[0]
    return "" if "." not in host or host == "localhost.localdomain" or (_ADDRESS.fullmatch(host) and len(words) > 1) else host


_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|[0-9a-f]*:[0-9a-f:]*")


def _inline(entry: str, kind: str, base: Path) -> str:
    """Raises RecipeError for what can be no entry, so that a forgotten `./` is not taken for a domain."""
    found = _entry(entry, kind)
    if not found or (kind == "domains" and ("/" in entry or (base / entry).exists())):
        raise RecipeError(f"urls.{kind}: {entry} is no entry. A file of entries begins with ./ or ../ or /")
    return found


def _listed(entry: str, kind: str, base: Path) -> list[_files.Found]:
    """The files that an entry names. In a folder with UT1's names, those that are meant for `kind`."""
    found = list(_files.expand((entry,), base))
    named = [one for one in found if _stem(one.path) in ("domains", "urls", "expressions", "usage")]
    return [one for one in found if _stem(one.path) == kind] if named and len(found) > 1 else found


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _words(entries: tuple[str, ...], kind: str, base: Path) -> Iterator[str]:
    for entry in entries:
        lines: Iterable[str] = [entry]
        if _FILE.match(entry):
            paths = [found.path for found in _listed(entry, kind, base)]
            lines = (line for path in paths for block in _line_blocks(path) for line in block.decode("utf-8", "replace").split("\n"))
        for line in lines:
            word = line.partition("#")[0].strip().lower()
            if word and not _WORD.fullmatch(word):
                raise InputError(f"urls.{kind}: {word[:100]!r} is no word: letters and digits alone are looked for")
            if word:
                yield word


# --- URLs


def _parts(url: str) -> tuple[str, str]:
    """(host, what follows it), in the form in which lists are looked up."""
    rest = url.partition("://")[2] if "://" in url[:20] else url
    rest = rest.partition("#")[0]
    cut = next((index for index, letter in enumerate(rest) if letter in "/?"), len(rest))
    host = rest[:cut].rpartition("@")[2].lower()
    if not host.startswith("["):
        host = host.partition(":")[0]
    host = host.rstrip(".").removeprefix("www.")
    if not host.isascii():
        host = _ascii_host(host)
    return host, rest[cut:].removeprefix("/").removesuffix("/")


def _ascii_host(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def _domains_of(host: str) -> Iterator[str]:
    """The host and the domains above it, but for the top one."""
    for _ in range(40):  # a name has at most 127 labels; no real one has 40
        yield host
        _, dot, host = host.partition(".")
        if not dot or "." not in host:
            return


_CUT = re.compile(r"[/?&]")


def _prefixes_of(host: str, rest: str) -> Iterator[str]:
    """The URL and what it lies below, longest first."""
    yield f"{host}/{rest}" if rest else host
    cuts = [found.start() for found in _CUT.finditer(rest, 0, 4000)][:100]
    for cut in reversed(cuts):
        yield f"{host}/{rest[:cut]}" if cut else host
    if rest:
        yield host
