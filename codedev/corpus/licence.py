"""Licence texts, notices and declarations -> SPDX expressions.

`of_text` reads a licence file, `of_header` the notice at the top of a source file, `of_tag` its `SPDX-License-Identifier:`, and
`of_declaration` what package metadata say (`MIT`, `GPL (>= 2)`, `BSD3`, `MIT/Apache-2.0`). A text is reduced to lower-case words, so
that comment signs, line breaks and punctuation do not matter, and is then cut at the phrases by which each family of licences begins;
what is said inside a piece tells the members of the family apart (BSD with two, three or four clauses). Phrases, ids and the set of
permissive licences are in `data/licences.toml`.
None means unknown and is never a guess: an altered grant that lacks its phrases, "BSD" without a number, "public domain".
Cost: about 0.2 ms for a header of 4 KiB that names a licence, 1 ms for a licence of 15 KiB. A GPL text alone does not say whether later
versions are allowed: it counts as `-only` unless the words before it, a file's header or the metadata say more. Not legal advice.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "data" / "licences.toml"
HEADER_BYTES = 4096  # of a source file, in which a tag or a notice is looked for
_MAX_TEXT = 1 << 20  # characters of a licence file that are read
_MAX_EXPRESSION = 300  # characters; a longer one is no licence
_MAX_DECLARATION = 500
_PERL_TERMS = "Artistic-1.0-Perl OR GPL-1.0-or-later"

# A notice refers to a licence: what it says just before the licence's name, and the names.
_UNDER = re.compile(
    r"(?:under|subject to)(?: the)?(?: terms| conditions)?(?: and conditions)?(?: of)?(?: the)?(?: version ([0-9.]+) of the)?"
    r"(?: gnu)?(?: (affero|lesser|library))? $|version ([0-9.]+) of the gnu(?: (affero|lesser|library))? $"
)
_NAMED = re.compile(
    r"(?P<gnu>general public licen[sc]e|[al]?gpl(?:v(?P<gplv>[0-9.]+))?\b)"
    r"|(?P<apache>asl 2\.0|apache(?: software)?(?: licen[sc]e)? (?:version |v ?)?2\.0)|(?P<boost>boost software licen[sc]e)"
    r"|mozilla public licen[sc]e (?:version|v) ?(?P<mpl>[0-9.]+)|eclipse public licen[sc]e (?:version|v) ?(?P<epl>[0-9.]+)"
    r"|(?:(?P<mit>mit|expat)|(?P<isc>isc)|(?P<bsd>[23] clause bsd|bsd [23] clause|new bsd|simplified bsd|modified bsd)) licen[sc]es?\b"
    r"|(?P<unlicense>unlicense)"
)
_NAME_STARTS = (
    *("general public licen", "gpl", "lgpl", "agpl", "apache", "asl 2.0", "mozilla public", "eclipse public", "boost software"),
    *("mit licen", "expat licen", "isc licen", "2 clause bsd", "3 clause bsd", "bsd 2 clause", "bsd 3 clause", "new bsd"),
    *("simplified bsd", "modified bsd", "unlicense"),
)
_SHORT = {"apache": "Apache-2.0", "boost": "BSL-1.0", "mit": "MIT", "isc": "ISC", "unlicense": "Unlicense"}
_PERL = ("under the same terms as perl", "under the terms of perl", "the same terms as perl itself")
_GNU_VERSION = re.compile(r"^.{0,90}?\b(?:version |v ?|licen[sc]e )?([0-9](?:\.[0-9])?)\b(\+?)")
_LATER = re.compile(r"any later version|\bor (?:\w+ ){0,2}(?:later|newer)")
_EITHER = re.compile(
    r"\bdual(?:ly)? licen[sc]ed|\beither of (?:these|the)|\beither the .{1,80} or |\bof your choice\b"
    r"|\bat your option\b(?! any later)|\bor the mit licen[sc]e"
)
# What stands between a project's own licence and those of the parts it carries.
_PARTS = re.compile(
    r"third party|this (?:software|product|project|package|distribution) (?:also )?(?:includes|contains|incorporates|bundles)"
    r"|(?:is|are) licensed (?:as|under)|(?:taken|copied|derived|adapted|borrowed|based) (?:from|on)|portions? of|parts? of|bundle[sd]?"
    r"|other licenses|the following (?:files|libraries|components|software)|some (?:files|code)|vendored|originally (?:from|written)"
)
# A header without any of these holds no notice: they cost 3 µs for 4 KiB, words 60 µs.
_HINTS = (b"icen", b"ICEN", b"GPL", b"ranted", b"edistribution", b" Perl", b"without any express", b"public domain")
# Nor does one that speaks of its licence as "the LICENSE file" or "a BSD-style license" alone.
_MARKERS = (
    *(b"General Public", b"GENERAL PUBLIC", b"GNU", b"GPL", b"Apache", b"APACHE", b"Mozilla Public", b"ranted", b"edistribution"),
    *(b"ermission to", b"Boost Software", b"Eclipse Public", b"without any express", b"MIT ", b"ISC ", b"BSD", b" Perl", b"nlicense"),
    *(b"UNLICENSE", b"public domain", b"Creative Commons", b"CREATIVE COMMONS"),
)

_COPYLEFT = re.compile(
    r"(?:[AL]?GPL|MPL|EPL|CPL|CDDL|EUPL|OSL|CC-BY-SA|MS-PL|MS-RL|OFL|CECILL|APSL|IPL|SSPL|ODbL|GFDL|Artistic-1|RPL|SISSL|QPL|LPPL|NPL)(?:-|\Z)"
)
_WORDS = re.compile(r"[a-z0-9]+(?:\.[0-9]+)*\+?")
_TAG = re.compile(rb"^[^\w\"'\n]{0,20}(?:[A-Za-z]{1,3}[ \t]+)?SPDX-License-Identifier:[ \t]*([^\n]{1,300})", re.MULTILINE)
_TAG_END = re.compile(r"\*/|-->|\*\)|#}|%>|\"|;")
_TOKEN = re.compile(r"\(|\)|[A-Za-z0-9][A-Za-z0-9.+-]*(?::[A-Za-z0-9][A-Za-z0-9.+-]*)?|\S")
_OPERATORS = ("AND", "OR", "WITH")


class _Member(NamedTuple):
    licence: str
    must: tuple[str, ...]  # phrases that the text holds
    must_not: tuple[str, ...]


class _Table(NamedTuple):
    permissive: frozenset[str]
    canonical: dict[str, str]  # lower-case id -> id
    declared: dict[str, str]  # lower-case words -> id
    families: tuple[tuple[str, tuple[_Member, ...]], ...]  # how a text begins -> what it may be


@functools.cache
def _table() -> _Table:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    known = [*table["permissive"], *table["other"]]
    return _Table(
        frozenset(table["permissive"]),
        {licence.lower(): licence for licence in known},
        {name: licence for licence, names in table["declared"].items() for name in names},
        tuple(
            (family["begins"], tuple(_Member(m["id"], tuple(m.get("must", ())), tuple(m.get("not", ()))) for m in family["members"]))
            for family in table["family"]
        ),
    )


def of_text(text: str) -> str | None:
    """The SPDX expression of a licence file.

    Of several licences the first is the project's, when what follows it speaks of third parties or of parts; else they hold
    together (AND), or one of them may be chosen (OR) when the words before them say so.
    """
    words = _words_of(text[:_MAX_TEXT])
    found = _texts(words)
    if not found:
        notices = [licence for _, licence in _notices(words)]
        return _joined(notices, "OR" if _EITHER.search(words) else "AND") if notices else None
    first = found[0][0]
    licences = list(dict.fromkeys(licence for _, licence in found))
    if licences[0] == "PSF-2.0" and "Python-2.0" in licences:
        return "Python-2.0"  # the agreement as a whole, whose parts are PSF-2.0, CNRI and CWI
    if len(licences) > 1 and licences[0].startswith("GPL-") and licences[1].startswith("LGPL-"):
        licences.pop(0)  # the GPL is the text that the LGPL builds upon
    if len(licences) > 1:
        if _EITHER.search(words[:first]):
            return _joined(licences, "OR")
        second = next(place for place, licence in found if licence != found[0][1])
        if _PARTS.search(words, first, second):
            licences = licences[:1]
    if "any later version" in words[:first]:
        licences[0] = licences[0].replace("-only", "-or-later")
    if licences == ["MIT"] and "as an exception if as a result of your compiling" in words:
        return "MIT WITH fmt-exception"
    return _joined(licences, "AND")


def of_header(head: bytes) -> str | None:
    """The SPDX expression of the notice in the first bytes of a source file; the earliest one counts."""
    head = head[:HEADER_BYTES]
    if not _holds(head, _HINTS) or not _holds(head, _MARKERS):
        return None
    words = _words_of(head.decode("utf-8", "replace"))
    found = sorted(_texts(words) + _notices(words))
    if not found:
        return None
    first = found[0][0]
    near = [licence for place, licence in found if place - first < 200]
    if len(set(near)) > 1 and _EITHER.search(words, max(0, first - 200), first + 600):
        return _joined(near, "OR")
    return found[0][1]


def _holds(head: bytes, words: tuple[bytes, ...]) -> bool:
    """`any` over a generator takes twice the time, for every file that there is."""
    for word in words:  # noqa: SIM110
        if word in head:
            return True
    return False


def of_tag(head: bytes) -> str | None:
    """The expression after `SPDX-License-Identifier:` in the first bytes of a file, or None."""
    head = head[:HEADER_BYTES]
    if b"SPDX-License-Identifier:" not in head or not (match := _TAG.search(head)):
        return None
    return expression(_TAG_END.split(match[1].decode("utf-8", "replace"))[0])


def of_declaration(text: str) -> str | None:
    """What package metadata call the licence, as an SPDX expression; None when it is free text or says too little ("BSD")."""
    text = re.sub(r"\s*[+|]\s*file\s+LICEN[SC]E\s*$", "", text.strip()[:_MAX_DECLARATION], flags=re.IGNORECASE)
    if text.startswith("License :: "):
        text = text.rpartition(" :: ")[2]
    known = expression(text)
    if known and all(licence in _table().canonical.values() for licence in _licences_in(known)):
        return known
    if whole := _declared(text):
        return whole
    parts = [_declared(part) for part in re.split(r"\||/|,|\bor\b", text, flags=re.IGNORECASE) if part.strip()]
    found = [licence for licence in parts if licence]
    return either(found) if found and len(found) == len(parts) else None


def either(licences: Sequence[str]) -> str:
    """One expression: any of the licences may be chosen."""
    return _joined(licences, "OR")


def both(licences: Sequence[str]) -> str:
    """One expression: all of the licences hold."""
    return _joined(licences, "AND")


def expression(text: str) -> str | None:
    """`text` as an SPDX expression in canonical spelling, or None when it is none. Unknown ids are kept as they are."""
    out: list[str] = []
    wants, depth = True, 0  # whether an id or an opening bracket must come next
    for part in _TOKEN.findall(text.strip()) if len(text) <= _MAX_EXPRESSION else ():
        word = part.upper()
        if part == "(" and wants:
            depth += 1
        elif part == ")" and not wants and depth:
            depth -= 1
        elif word in _OPERATORS and not wants:
            wants = True
        elif wants and part[0].isalnum() and word not in (*_OPERATORS, "NONE", "NOASSERTION"):
            wants = False
        else:
            return None
        exception = bool(out) and out[-1] == "WITH"
        out.append(word if word in _OPERATORS else part if exception else _spdx_id(part))
    if wants or depth:
        return None
    if out[0] == "(" and out.index(")") == len(out) - 1:
        out = out[1:-1]
    return " ".join(out).replace("( ", "(").replace(" )", ")")


def is_permissive(licence: str) -> bool:
    """Whether all licences of some choice (OR) of the expression are permissive; an exception (WITH) only adds permissions."""
    parts = _TOKEN.findall(licence)
    # Brackets are resolved innermost first: each result is written back as one licence.
    while ")" in parts:
        close = parts.index(")")
        opening = max((place for place in range(close) if parts[place] == "("), default=None)
        if opening is None:
            return False
        parts[opening : close + 1] = ["MIT" if is_permissive(" ".join(parts[opening + 1 : close])) else "LicenseRef-other"]
    choices: list[list[str]] = [[]]
    for before, part in zip(["", *parts], parts, strict=False):
        if part.upper() == "OR":
            choices.append([])
        elif part.upper() not in _OPERATORS and before.upper() != "WITH":
            choices[-1].append(part)
    return any(choice and all(name in _table().permissive for name in choice) for choice in choices)


@functools.lru_cache(4096)
def class_of(licence: str | None) -> str:
    """`permissive`, `copyleft` (share-alike: what is derived must keep the licence), `other` (known and neither: no commercial use, no
    derived works, proprietary), or `unknown`. Of a choice (OR) the freer part counts."""
    if not licence:
        return "unknown"
    if is_permissive(licence):
        return "permissive"
    return "copyleft" if all(name in _table().permissive or _COPYLEFT.match(name) for name in _licences_in(licence)) else "other"


def _words_of(text: str) -> str:
    return " ".join(_WORDS.findall(text.lower()))


def _places(words: str, phrase: str) -> Iterator[int]:
    place = words.find(phrase)
    while place >= 0:
        yield place
        place = words.find(phrase, place + len(phrase))


def _texts(words: str) -> list[tuple[int, str]]:
    """(position, SPDX id) of every licence text in the words, in order."""
    begins = sorted((place, members) for phrase, members in _table().families for place in _places(words, phrase))
    found = []
    for number, (start, members) in enumerate(begins):
        end = next((place for place, _ in begins[number + 1 :] if place > start), len(words))
        piece = words[start:end]
        for licence, must, must_not in members:
            if all(phrase in piece for phrase in must) and not any(phrase in piece for phrase in must_not):
                found.append((start, licence))
                break
    return found


def _notices(words: str) -> list[tuple[int, str]]:
    """(position, SPDX id) of every notice such as "under the terms of the GNU General Public License version 2", in order."""
    found = [(place, _PERL_TERMS) for phrase in _PERL for place in _places(words, phrase)]
    canonical = _table().canonical
    for place in sorted({place for start in _NAME_STARTS for place in _places(words, start)}):
        before, named = words[max(0, place - 90) : place], _NAMED.match(words, place)
        under = _UNDER.search(before)
        if not named or not (under or (found and place - found[-1][0] < 200 and before.endswith((" or ", " or the ")))):
            continue
        licence = None
        if named["gnu"]:
            said_before = under.groups() if under else (None,) * 4
            version, after = said_before[0] or said_before[2] or named["gplv"], words[named.end() : named.end() + 300]
            if version is None and (said := _GNU_VERSION.search(after)):
                version, after = said[1], said[2] + after
            short = named["gnu"].partition("v")[0] if "gpl" in named["gnu"] else None
            licence = _gnu(said_before[1] or said_before[3] or short, version, later=after.startswith("+") or bool(_LATER.search(after)))
        elif named["mpl"] or named["epl"]:
            licence = canonical.get(f"mpl-{named['mpl']}" if named["mpl"] else f"epl-{named['epl']}")
        elif named["bsd"]:
            licence = "BSD-2-Clause" if "2" in named["bsd"] or "simplified" in named["bsd"] else "BSD-3-Clause"
        else:
            licence = _SHORT[str(named.lastgroup)]
        if licence:
            found.append((place, licence))
    return sorted(found)


def _gnu(family: str | None, version: str | None, *, later: bool) -> str | None:
    """The id of a GNU licence: `family` a word of its name or its short name, `version` None = any version."""
    name = (family or "gpl").strip()
    short = {"affero": "AGPL", "agpl": "AGPL", "lesser": "LGPL", "library": "LGPL", "lgpl": "LGPL"}.get(name, "GPL")
    if version is None:
        version, later = {"AGPL": "3.0", "LGPL": "2.0", "GPL": "1.0"}[short], True
    version = version if "." in version else f"{version}.0"
    return _table().canonical.get(f"{short}-{version}-{'or-later' if later else 'only'}".lower())


def _joined(licences: Sequence[str], operator: str) -> str:
    unique = sorted(set(licences)) if operator == "OR" else list(dict.fromkeys(licences))
    return f" {operator} ".join(f"({licence})" if " " in licence and len(unique) > 1 else licence for licence in unique)


def _spdx_id(name: str) -> str:
    """Known ids in their own spelling; the short GNU ids that SPDX no longer uses (`GPL-2.0+`) in the long form."""
    canonical, lower = _table().canonical, name.lower()
    long = lower.removesuffix("+") + ("-or-later" if lower.endswith("+") else "-only")
    return canonical.get(lower) or canonical.get(long) or name


def _licences_in(licence: str) -> list[str]:
    parts = _TOKEN.findall(licence)
    return [part for before, part in zip(["", *parts], parts, strict=False) if part not in (*_OPERATORS, "(", ")") and before != "WITH"]


_GNU_NAME = re.compile(
    r"^(?:gnu )?(?:(?P<short>[al]?gpl)|(?P<word>affero |lesser |library )?(?:general public|gpl)(?: licen[sc]e)?)(?: licen[sc]e)?"
    r" ?(?:version |v ?)?(?P<version>[0-9](?:\.[0-9])?)?(?P<plus>\+)?(?P<later> only| or later| and later| or newer)?"
    r"(?: [al]?gplv?[0-9.]*\+?)?$"
)


def _declared(name: str) -> str | None:
    """One licence by a name that is not its id."""
    words = _words_of(name.replace("_", " "))
    if match := _GNU_NAME.match(words):
        later = ">=" in name or bool(match["plus"]) or (match["later"] or " only") != " only"
        return _gnu(match["short"] or match["word"], match["version"], later=later)
    table = _table()
    return table.declared.get(words) or table.canonical.get(name.strip().lower()) or table.canonical.get(words.replace(" ", "-"))
