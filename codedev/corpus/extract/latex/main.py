"""Which files of a folder or an archive are documents by themselves, and what each of them reads."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

TEX = (".tex", ".ltx", ".latex")
STYLES = (".sty", ".cls", ".clo", ".def")
# What a paper's archive may hold that is never read as TeX.
BINARY = (
    *(
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".pdf",
        ".eps",
        ".ps",
        ".epsi",
        ".epsf",
        ".tif",
        ".tiff",
        ".bmp",
        ".svg",
        ".zip",
        ".gz",
        ".bz2",
        ".tar",
    ),
    *(
        ".mp4",
        ".avi",
        ".mov",
        ".mp3",
        ".wav",
        ".ttf",
        ".otf",
        ".pfb",
        ".tfm",
        ".dvi",
        ".csv",
        ".dat",
        ".xls",
        ".xlsx",
        ".doc",
        ".docx",
        ".npy",
    ),
    *(".npz", ".fits", ".h5", ".mat", ".pkl", ".ipynb", ".bib", ".bst"),
)
_USUAL = frozenset({"main", "ms", "paper", "article", "manuscript", "root"})
_SCANNED = 1 << 20  # bytes of a file in which its beginning is looked for

_BEGINS = re.compile(rb"^(?:[^%\n\\]|\\(?!documentclass|documentstyle|begin))*+\\(documentclass|documentstyle|begin\s*\{document\})", re.M)
_ENDS = re.compile(rb"^(?:[^%\n\\]|\\(?!bye|end[^A-Za-z{]|end$))*+\\(?:bye|end)(?![A-Za-z{])", re.M)
_AMS = re.compile(rb"\\(?:input\s+(?:amstex|amsppt|harvmac|phyzzx|lanlmac|eplain)|documentstyle\s*\{amsppt\}|magnification)")
_INPUTS = re.compile(rb"\\(?:input|include|subfile|InputIfFileExists|IfFileExists)\s*+(?:\{\s*+)?\"?([^\s{}%\\\"]{1,300})")
_IMPORTS = re.compile(rb"\\(?:import|subimport|inputfrom|includefrom|subinputfrom)\*?\s*\{([^{}]{0,300})\}\s*\{([^{}]{0,300})\}")
_PACKAGES = re.compile(rb"\\(usepackage|RequirePackage|documentclass|LoadClass)\s*+(?:\[[^\]]{0,2000}+\])?\s*+\{([^{}]{0,2000})\}")
_TOPLEVEL = re.compile(rb"^[ \t]*(\S+)[ \t]+toplevelfile[ \t]*$", re.M)
_TOPLEVEL_JSON = re.compile(rb"\{[^{}]*\}")


def is_tex(name: str) -> bool:
    return name.lower().endswith(TEX)


def has_document(data: bytes) -> bool:
    return _BEGINS.search(data[:_SCANNED]) is not None


def score(data: bytes) -> int:
    """3: a class and a document; 2: one of them; 1: plain TeX; 0: a part of something, or no TeX."""
    found = {match[1][:5] for match in _BEGINS.finditer(data[:_SCANNED])}
    if found:
        return 3 if len(found) > 1 else 2
    return 1 if _ENDS.search(data[-4096:]) or _AMS.search(data[:4096]) else 0


def reads(name: str, data: bytes, known: Callable[[str], bool]) -> Iterator[str]:
    """Those of the known files that `name` reads: parts, styles, a bibliography."""
    folders = tuple(dict.fromkeys((posixpath.dirname(name), "")))
    wanted: list[tuple[str, tuple[str, ...]]] = [(_text(m[1]), (".tex", "", ".ltx")) for m in _INPUTS.finditer(data)]
    wanted += [(posixpath.join(_text(m[1]), _text(m[2])), (".tex", "")) for m in _IMPORTS.finditer(data)]
    for match in _PACKAGES.finditer(data):
        ending = ".cls" if match[1] in (b"documentclass", b"LoadClass") else ".sty"
        wanted += [(package.strip(), (ending,)) for package in _text(match[2]).split(",")]
    if is_tex(name):
        wanted.append((posixpath.basename(name).rsplit(".", 1)[0], (".bbl",)))
    for file, endings in wanted:
        found = next(
            (p for folder in folders for ending in endings if known(p := posixpath.normpath(posixpath.join(folder, file) + ending))), None
        )
        if found is not None and found != name:
            yield found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()


def closure(start: str, read_by: Mapping[str, Iterable[str]]) -> list[str]:
    """The file and all that it reads, directly or through others, in order of discovery."""
    found = dict.fromkeys([start])
    pending = [start]
    while pending:
        for name in read_by.get(pending.pop(), ()):
            if name not in found:
                found[name] = None
                pending.append(name)
    return list(found)


def mains(scores: Mapping[str, int], read_by: Mapping[str, Iterable[str]]) -> list[str]:
    """The files that are papers by themselves: those with a document that no other of them reads. In a folder with LaTeX documents, files
    that merely look like plain TeX are parts. Where files without a document of their own read one (they set up its format), the one of
    the shortest name is the paper."""
    strong = {posixpath.dirname(name) for name, found in scores.items() if found >= 2}
    begun = [name for name, found in scores.items() if found >= 2 or (found == 1 and posixpath.dirname(name) not in strong)]
    first: dict[str, str] = {}  # the paper that a file was first met in; two that read each other are one
    for name in begun:
        for part in closure(name, read_by):
            if part != name:
                first.setdefault(part, name)
    chosen = [name for name in begun if name not in first or (first.get(first[name]) == name and name < first[name])]
    drivers: dict[str, str] = {}
    wanted = dict.fromkeys(chosen)
    for name in sorted(read_by, key=lambda name: (len(name), name)):
        if name not in first and name not in wanted and is_tex(name):
            for part in read_by[name]:
                if part in wanted:
                    drivers.setdefault(part, name)
    return [drivers.get(name, name) for name in chosen]


def document_follows(files: Mapping[str, bytes], main: str) -> bool:
    """Whether a paper's main file, or one that it reads, says where its document begins."""
    pending, seen = [main], {main}
    while pending:
        name = pending.pop()
        data = files[name]
        if has_document(data):
            return True
        for part in reads(name, data, files.__contains__):
            if part not in seen and is_tex(part):
                seen.add(part)
                pending.append(part)
    return False


def find_main(files: Mapping[str, bytes]) -> str | None:
    """The file that a paper's text begins in: the one that 00README names, else the best of those that are documents."""
    if named := _named_main(files):
        return named
    known = files.keys().__contains__
    candidates = [name for name in sorted(files) if is_tex(name)]
    if not any(score(files[name]) for name in candidates):
        others = [name for name in sorted(files) if not name.lower().endswith((*STYLES, *BINARY, ".bbl", *TEX))]
        candidates += [name for name in others if score(files[name])]
    scores = {name: score(files[name]) for name in candidates}
    read_by = {name: list(reads(name, files[name], known)) for name in files if is_tex(name) or name in scores}
    found = mains({name: value for name, value in scores.items() if value}, read_by)
    if not found:
        parts = {part for name in candidates for part in read_by[name]}
        found = [name for name in candidates if name not in parts]

    def rank(name: str) -> tuple[int, bool, bool, int, str]:
        stem = name.rsplit(".", 1)[0]
        return -scores.get(name, 0), f"{stem}.bbl" not in files, posixpath.basename(stem).lower() not in _USUAL, -len(files[name]), name

    return min(found, key=rank, default=None)


def _named_main(files: Mapping[str, bytes]) -> str | None:
    if match := _TOPLEVEL.search(files.get("00README.XXX", b"")):
        name = _text(match[1])
        return name if name in files else None
    for entry in _TOPLEVEL_JSON.findall(files.get("00README.json", b"")):
        if b'"toplevel"' in entry:
            for name in re.findall(r'"([^"]+)"', _text(entry)):
                if name in files:
                    return str(name)
    return None
