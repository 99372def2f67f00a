"""What Project Gutenberg and its volunteers put around a book, found and cut out: header, licence, credits, notes of transcribers.

Three forms of header are known: up to `*** START OF …`, up to the end of the "Small Print" (editions of the 1990s), and none of both,
where only paragraphs that speak of the project go. The footer begins at `*** END OF …`, "End of Project Gutenberg's …" or the licence.
Beyond these, only short paragraphs near the beginning and the end of a text are taken for credits and notes, and only where their first
words say so: a sentence of the book is never worth the removal of a credit. Text of other origin passes unchanged.
Cost: about 15 ms a megabyte. Every cut is a span with its reason, so that characters removed can be counted by part.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEADER, LICENCE, CREDITS, NOTES, ILLUSTRATIONS, PAGES = "header", "licence", "credits", "transcriber_notes", "illustrations", "page_numbers"


class Span(NamedTuple):
    start: int
    end: int
    part: str  # why it is cut out


class Frame(NamedTuple):
    """What surrounds a book."""

    header: dict[str, str]  # fields as the header has them: title, author, language, release_date, number, …
    spans: list[Span]  # to cut out, in order, without overlap
    found: bool  # whether it is a book of Project Gutenberg at all


_FIELDS = {
    "title": "title",
    "author": "author",
    "authors": "author",
    "translator": "translator",
    "editor": "editor",
    "illustrator": "illustrator",
    "contributor": "contributor",
    "language": "language",
    "release date": "release_date",
    "posting date": "posting_date",
    "original publication": "original_publication",
    "character set encoding": "encoding",
    "credits": "credits",
    "produced by": "credits",
    "copyright status": "copyright",
}
_FIELD = re.compile(rf"^[ \t]*({'|'.join(_FIELDS)})[ \t]*:[ \t]*(\S[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_ANY_FIELD = re.compile(r"^[\[ \t]*(?:[A-Z][\w]*(?: [A-Za-z]\w*){0,3}[ \t]*:|\*\*\*)")
_NUMBER = re.compile(r"\[\s*(?:e-?book|e-?text)\s*#\s*(\d{1,6})\s*\]", re.IGNORECASE)
_TITLE_LINE = re.compile(
    r"[*\s#]*(?:this is )?(?:the )?project gutenberg(?:['’]s)?\s+(?:e-?(?:book|text)\s+of\s+)?"
    r"(.+?)(?:,? by ([^*,]+?))?(?:, in \w+)?[,*\s]*\Z",
    re.IGNORECASE,
)

_START = re.compile(r"[# \t]*\*{2,5}[ \t]*START OF (?:THE |THIS )?PROJECT GUTENBERG[^\n]*", re.IGNORECASE)
_END = re.compile(r"[# \t]*\*{2,5}[ \t]*END OF (?:THE |THIS )?PROJECT GUTENBERG[^\n]*", re.IGNORECASE)
_PROJECT_WORDS = ("utenberg", "UTENBERG")
_END_LINE = re.compile(
    r"[# \t*\[(]*(?:(?:this is the )?end of (?:the |this )?project gutenberg|ende (?:dieses|des) projekte?s? gutenberg"
    r"|fin (?:de|du) (?:ce )?projet? gutenberg)",
    re.IGNORECASE,
)
_SMALL_PRINT_END = re.compile(r"[ \t]*\*+[ \t]*END[* \t]*(?:OF )?(?:THE )?SMALL PRINT[^\n]*", re.IGNORECASE)
_SMALL_PRINT = ("SMALL PRINT", "Small Print", "small print")
_LICENCE = re.compile(
    r"[#* \t]*(?:START(?::|\*\*)[ \t]*(?:FULL LICENSE|THE SMALL PRINT)|THE FULL PROJECT GUTENBERG(?:-TM|™)? LICENSE"
    r"|Section 1\.[ \t]+General Terms of Use and Redistributing Project Gutenberg)[^\n]*",
    re.IGNORECASE,
)


_DECLARED = re.compile(rb"^[ \t]*Character set encoding:[ \t]*([\w .:()-]{2,40})", re.IGNORECASE | re.MULTILINE)


def declared_encoding(data: bytes) -> str | None:
    """The encoding that the header says the text has."""
    found = _DECLARED.search(data[:20_000])
    return found[1].decode().strip() if found else None


def frame(text: str, *, captions: bool = True) -> Frame:
    """What is not the book in `text`, whose lines end in a line feed. Captions of illustrations stay, unless told otherwise."""
    found = "project gutenberg" in text[:20_000].lower() or "project gutenberg" in text[-30_000:].lower()
    begin, end = (_header_end(text), len(text)) if found else (0, len(text))
    header = _fields(text[:begin] if begin else text[:3000]) if found else {}
    spans = [Span(0, begin, HEADER)] if begin else []
    if found:
        end = _footer_start(text, begin)
    spans += _credits(text, begin, end) + _notes(text, begin, end)
    spans += _marks(text, begin, end, captions)
    if end < len(text):
        spans.append(Span(end, len(text), LICENCE))
    return Frame(header, _ordered(spans), found)


def _header_end(text: str) -> int:
    half = max(len(text) * 6 // 10, min(len(text), 60_000))
    starts = _lines_with(_PROJECT_WORDS, _START, text, 0, half)
    prints = [match.end() for match in _lines_with(_SMALL_PRINT, _SMALL_PRINT_END, text, 0, half)]
    if starts:
        end = _to_stars(text, starts[0])
        # Editions of 2002 and 2003 have the small print behind the mark.
        return next((late for late in prints if end < late < end + 30_000), end)
    return prints[-1] if prints else 0


def _to_stars(text: str, mark: re.Match[str]) -> int:
    """The end of a mark, which a long title may have broken into up to three lines."""
    if mark[0].rstrip().endswith("***"):
        return mark.end()
    at = mark.end()
    for _ in range(3):
        line_end = text.find("\n", at + 1)
        line = text[at + 1 : line_end if line_end >= 0 else len(text)]
        if not line.strip():
            break
        at = at + 1 + len(line)
        if line.rstrip().endswith("***"):
            return at
    return mark.end()


def _footer_start(text: str, begin: int) -> int:
    end = len(text)
    marks = _lines_with(_PROJECT_WORDS, _END, text, begin, end) or _lines_with(
        (*_PROJECT_WORDS, *_SMALL_PRINT, "FULL LICENSE"), _LICENCE, text, begin, end
    )
    if marks:
        end = marks[0].start()
    lines = [match.start() for match in _lines_with(_PROJECT_WORDS, _END_LINE, text, begin, end)]
    # Beside a mark the line stands just before it; without one, the last such line ends the book.
    if lines and (end - lines[-1] < 2000 or not marks):
        end = lines[-1]
    return end


def _lines_with(words: tuple[str, ...], pattern: re.Pattern[str], text: str, begin: int, end: int) -> list[re.Match[str]]:
    """Matches of `pattern` at the beginnings of lines that hold one of the words: looking for the words first is ten times as fast."""
    starts: set[int] = set()
    for word in words:
        place = text.find(word, begin, end)
        while place >= 0:
            starts.add(max(text.rfind("\n", begin, place) + 1, begin))
            line_end = text.find("\n", place, end)
            place = text.find(word, line_end, end) if line_end >= 0 else -1
    return [match for start in sorted(starts) if (match := pattern.match(text, start, end))]


def _fields(header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _FIELD.finditer(header):
        name = _FIELDS[match[1].lower()]
        value = match[2]
        at = match.end() + 1
        while at < len(header):  # a value goes on in lines below
            line = header[at : header.find("\n", at) if header.find("\n", at) >= 0 else len(header)]
            if not line.strip() or _ANY_FIELD.match(line) or len(value) > 1000 or (name not in ("title", "credits") and line[:1] != " "):
                break
            value += " " + line.strip()
            at += len(line) + 1
        found.setdefault(name, " ".join(value.split())[:1000])
    if number := _NUMBER.search(header):
        found["number"] = number[1]
    for name in ("release_date", "posting_date"):
        if name in found:
            found[name] = re.sub(r"\s*\[[^\]]*\]?.*$", "", found[name])
    if "title" not in found:
        for line in header[:3000].split("\n"):
            if len(line) < 200 and (named := _TITLE_LINE.match(line)):
                found["title"] = named[1].strip(" *,")
                found |= {"author": named[2].strip(" *,")} if named[2] and "author" not in found else {}
                break
    return found


# --- paragraphs near the edges

_BLOCK = re.compile(r"[^\n]+(?:\n[^\n]+)*")
_FRONT_CHARS, _BACK_CHARS = 8_000, 12_000
_LONGEST_CREDIT, _LONGEST_NOTE = 1_500, 6_000
_PROJECT = re.compile(
    r"project gutenberg|gutenberg\.(?:org|net|ca)|pgdp\.net|distributed proofread|www\.fadedpage|canadian libraries"
    r"|gallica\.bnf|archive\.org/details",
    re.IGNORECASE,
)
_MADE = (
    r"(?:produced|prepared|created|transcribed|typed|scanned|proofed|proof-?read|converted|digiti[sz]ed|keyed|ocr['’]?ed|entered|encoded)"
)
_CREDIT = re.compile(
    rf"[\[(_*#\s]*(?:(?:this|the)\s+)?(?:(?:project\s+gutenberg\s+)?(?:e-?text|e-?book|html|electronic\s+(?:text|edition)"
    r"|text\s+file|transcription)\b"
    rf"[^.\n]{{0,80}}?\b(?:{_MADE}|by)\b|{_MADE}(?:\s*(?:,|and|&)\s*{_MADE})*\s+(?:by|from|in|for)\b|credits?\s*:|scanned\s+and\s+proof"
    r"|(?:html|ebook|text|additional)\s+(?:version|file|editing|formatting|proof\w*)\b[^.\n]{0,40}\bby\b"
    r"|we\s+thank\b[^\n]*\n?[^\n]*(?:image|etext|librar|bibli)"
    r"|[^\n]{0,80}\b(?:etext|ebook)\b[^\n]{0,60}\b(?:through ocr|was (?:produced|prepared|made|scanned|typed))\b)",
    re.IGNORECASE,
)
_NOTE_HEAD = re.compile(
    r"[#\[(*_|+=~/ \t-]{0,90}(?:(?:original |end )?(?:transcri(?:ber|ption|ptionist|bers)(?:['’]?s?['’]?)?"
    r"|proof-?reader['’]?s?['’]?|e-?text editor['’]?s?)"
    r"[ \t]*(?:end)?(?:foot)?(?:notes?|comments?|corrections?|remarks?|errata)\b"
    r"|notes? (?:on|to|about) th(?:is|e) e-?(?:text|book)|notes? (?:du|de|sur) (?:la |cette )?transcri\w+"
    r"|anmerkung(?:en)? zur transkription"
    r"|notas? (?:del?|do|di) (?:la )?(?:trans|tras)cri\w+|opmerkingen van de bewerker|bemerkungen zur textgestalt|(?:tn|t\.n\.):)",
    re.IGNORECASE,
)
# Without their first letters, which may be large or small. The rarer ones are looked for near the edges alone: each costs a search.
_NOTE_WORDS = ("ranscri", "RANSCRI")
_RARE_NOTE_WORDS = ("rascri", "ewerker", "BEWERKER", "extgestalt", "reader", "READER", "text", "TEXT", "book", "BOOK", "tn:", "TN:", "T.N.")
_ABOUT_TEXT = re.compile(
    r"transcri|correct|spelling|typograph|hyphen|punctuat|original (?:text|book|edition|printing|spelling)|printer|e-?text|ebook"
    r"|underscor|italic"
    r"|substitut|changed (?:to|from)|obvious|inconsisten|\bp(?:age|\.|g\.)\s*\d+|footnotes? (?:were|have|has)|retained"
    r"|scann|diacritic|ligature|utf-8|ascii"
    r"|proofread|gesperrt|korrigiert|orthograph|coquille|erreurs|erratas?",
    re.IGNORECASE,
)
_ONLY_SIGNS = re.compile(r"[\W_]+\Z")
_BRACKETED = re.compile(
    r"\[\s*_?(?:(?:original )?transcri(?:ber|ption)(?:['’]?s?['’]?)?|TN|T\.\s?N\.)[\s_:.]"
    r"[^\[\]]{0,3000}(?:\[[^\[\]]{0,300}\][^\[\]]{0,3000}){0,5}\]",
    re.IGNORECASE,
)


def _credits(text: str, begin: int, end: int) -> list[Span]:
    """Paragraphs near the beginning and the end that say who made the file."""
    spans: list[Span] = []
    front_end = min(end, begin + _FRONT_CHARS)
    kept = False
    for match in _BLOCK.finditer(text, begin, front_end):
        if match.end() == front_end < end:
            break  # cut in the middle
        if _is_credit(match[0]) or (_ONLY_SIGNS.match(match[0]) and spans and not kept):  # stars between credits
            spans.append(Span(match.start(), match.end(), CREDITS))
        else:
            kept = True
    back = text.find("\n\n", max(end - _BACK_CHARS, front_end), end)
    if back >= 0:
        spans += [Span(match.start(), match.end(), CREDITS) for match in _BLOCK.finditer(text, back, end) if _is_credit(match[0])]
    return spans


def _is_credit(block: str) -> bool:
    return len(block) <= _LONGEST_CREDIT and (_CREDIT.match(block) is not None or _PROJECT.search(block) is not None)


def _notes(text: str, begin: int, end: int) -> list[Span]:
    """Transcribers' notes: a paragraph that begins with the word, and those after it that speak of the text as they do."""
    spans: list[Span] = []
    at = begin
    heads = _lines_with(_NOTE_WORDS, _NOTE_HEAD, text, begin, end)
    for low, high in ((begin, min(end, begin + 2 * _FRONT_CHARS)), (max(begin, end - 2 * _BACK_CHARS), end)):
        heads += _lines_with(_RARE_NOTE_WORDS, _NOTE_HEAD, text, low, high)
    for head in sorted(heads, key=lambda head: head.start()):
        if head.start() < at:
            continue
        start = text.rfind("\n\n", begin, head.start())
        start = start + 2 if start >= 0 else begin
        blocks = _BLOCK.finditer(text, start, end)
        first = next(blocks)
        at = head.end()
        if head.start() - first.start() > 160 or len(first[0]) > _LONGEST_NOTE or _one_bracket(first[0]):
            continue
        stop = first.end()
        heading = "\n" not in first[0] and len(first[0]) < 60  # what follows it is the note
        for block in blocks:
            if len(block[0]) > _LONGEST_NOTE or _looks_like_heading(block[0]) or not (heading or _ABOUT_TEXT.search(block[0])):
                break
            stop, heading = block.end(), False
        spans.append(Span(start, stop, NOTES))
        at = stop
    return spans


def _one_bracket(block: str) -> bool:
    """Whether the note is one in brackets, which `_marks` cuts out by itself."""
    found = _BRACKETED.match(block)
    return found is not None and found.end() < len(block)


def _looks_like_heading(block: str) -> bool:
    return block.startswith("#") or ("\n" not in block and len(block) < 80 and block.upper() == block and any(map(str.isalpha, block)))


# --- marks inside the text

_ILLUSTRATION = re.compile(r"\[_?Illustrations?_?[:.]?\s*([^\[\]]{0,2000}(?:\[[^\[\]]{0,300}\][^\[\]]{0,1000})?)\]", re.IGNORECASE)
_PAGE = re.compile(r"[\[{](?:(?:Pg|Page|p\.|pg\.|S\.|Seite)[ .]?(?:\d{1,4}|[ivxlc]{1,8})[\]}]|(?<=\{)\d{1,4}\})", re.IGNORECASE)
_FEWEST_PAGES = 5  # fewer braces or brackets with a number may be something else


def _marks(text: str, begin: int, end: int, captions: bool) -> list[Span]:
    spans = []
    if "[" in text or "{" in text:
        for match in _ILLUSTRATION.finditer(text, begin, end):
            if not captions or not any(map(str.isalnum, match[1])):
                spans.append(Span(match.start(), match.end(), ILLUSTRATIONS))
        if any(word in text for word in ("ranscri", "RANSCRI", "[TN", "[T.")):
            spans += [Span(match.start(), match.end(), NOTES) for match in _BRACKETED.finditer(text, begin, end)]
        pages = [Span(match.start() - (text[match.start() - 1] == " "), match.end(), PAGES) for match in _PAGE.finditer(text, begin, end)]
        spans += pages if len(pages) >= _FEWEST_PAGES else []
    return spans


def _ordered(spans: list[Span]) -> list[Span]:
    """Sorted; of two that overlap the later one loses what the earlier one has."""
    ordered: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        start = max(span.start, ordered[-1].end) if ordered else span.start
        if start < span.end:
            ordered.append(Span(start, span.end, span.part))
    return ordered
