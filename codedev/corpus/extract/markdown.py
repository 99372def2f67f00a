"""Reddit's Markdown to plain text that reads well: links become their text, emphasis, headings' marks and escapes go, entities are decoded.

Quotes keep "> ", lists "- " or their number, code its lines and indentation, tables their cells between "|". A rule becomes "---". Line
breaks stay where they are; blank lines come one at a time. A caret is kept behind a letter, a digit or a bracket (x^2), where it is more
likely mathematics than small print. Spoilers are shown. What has no counterpart in text (images of the chat editor, links without words)
becomes nothing.

API dumps hold &, < and > as entities, older ones too, and an entity that a user wrote as &amp;nbsp;: one level is undone everywhere, the
second one outside code.

Cost: linear in the text: 120 MB/s where white space alone has to change, 40 MB/s where there are marks, 0.7 µs a mark. `NEEDS` finds the
texts that change at all; all others stay as they are.
It does not resolve reference links ([text][1]), which Reddit's users hardly write, and takes HTML for text, as Reddit does.
"""

from __future__ import annotations

import html
import re

# Whether `plain` would change a text, and whether by more than `tidy`; in RE2's language too, so that Arrow can look through a column.
# Marks of blocks count at the beginning of a line alone.
NEEDS = r"[*_\[\]`~^\\&|<>\r\t\f\v]|^\s|\s$|[ ]\n|\n[ ]|\n\n\n|(?:^|\n)[#+=-]"
MARKS = r"[*_\[\]`~^\\&|<>\t\f\v]|(?:^|[\r\n])[ #+=-]"

_inline_mark = re.compile(r"[*_\[\]`~^\\&|<>\t\f\v]").search
_block_mark = re.compile(r"\n[ #+=-]").search  # apart: in one pattern the two take ten times as long
_GAP = re.compile(r"\n{3,}")
_BLOCK_STARTS = frozenset(" \t#>*+-_=`~|:0123456789")  # what a line begins with that may not be a paragraph's
_block_line = re.compile(r"\n[ \t#>*+\-_=`~|:0-9]").search
_CODE = re.compile(r"(?: {4}|\t)")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_QUOTE = re.compile(r" {0,3}>(?!!)")
_HEADING = re.compile(r" {0,3}(?:#{1,6}(?=\s|$)|#{2,6}(?=[^#]))\s*+")  # Reddit's old parser wanted no blank; "#word" is a hashtag
_RULE = re.compile(r" {0,3}(?:(?:\*[ \t]*+){3,}|(?:-[ \t]*+){3,}|(?:_[ \t]*+){3,})$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*+$")  # of a heading in the line above
_BULLET = re.compile(r"([ \t]*+)[*+-][ \t]++(?=\S)")
_NUMBERED = re.compile(r"[ \t]*+\d{1,9}[.)][ \t]")
_ALIGNMENT = re.compile(r"[ \t]*+\|?[ \t]*+:?-++:?[ \t]*+(?:\|[ \t]*+(?::?-++:?)?[ \t]*+)++$")  # the second row of a table

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# Where inline marks may be; an exclamation mark is looked at from the bracket behind it, ":" is an address's.
_MARK = re.compile(r"[\\`<*_~^\[\]>&]")
_MARK_OR_ADDRESS = re.compile(r"[\\`<*_~^\[\]>&:]")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_AUTO = re.compile(r"<((?:https?|mailto|ftp):[^\s<>]*+)>")
_ADDRESS = re.compile(r"://[^\s<>\[\]*`\"]*[^\s<>\[\]*`\"_~.,;:!?)\\]")
_ADDRESS_ESCAPE = re.compile(r"\\([_*~])")
_TARGET = re.compile(  # of a link, behind its text: (address "title")
    r"""\([ \n]*+ (?P<address><[^<>\n]*+> | (?:[^\s()\\]|\\.|\([^\s()]*+\))*+ )
        (?:[ \n]++(?:"(?P<title>[^"\n]*+)"|'[^'\n]*+'|\([^()\n]*+\)))?+ [ \n]*+\)""",
    re.VERBOSE,
)
_SMALL = re.compile(r"\(([^()\n]*+)\)")
_MEDIA = frozenset({"img", "gif", "emote", "video"})  # the chat editor's pictures: ![gif](giphy|…)
_HIDDEN = re.compile(r"[/#](?:s|spoiler|sp)\b")  # spoilers of before 2018: [Text](/s "what is hidden")
_MOST_TICKS = 8  # longer runs open no code


def plain(markdown: str) -> str:
    """The text without its Markdown."""
    text = _line_feeds(markdown)
    return without_marks(text) if _marked(text) else tidy(text)


def without_marks(markdown: str) -> str:
    """The same of a text that is known to have `MARKS`."""
    text = _line_feeds(markdown)
    if "&" in text:  # what the API has escaped; &amp; last, so that &amp;lt; stays an entity
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return tidy(_blocks(text))


def _line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def tidy(text: str) -> str:
    """The text of a post that has no `MARKS`: white space alone is mended."""
    text = _line_feeds(text)
    if " \n" in text or "\t\n" in text:
        text = "\n".join([line.rstrip() for line in text.split("\n")])
    return (_GAP.sub("\n\n", text) if "\n\n\n" in text else text).strip()


def entities(text: str) -> str:
    """A title: text that has no Markdown, with both levels of entities undone."""
    if "&" not in text:
        return text
    return _ENTITY.sub(_character, text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def _character(match: re.Match[str]) -> str:
    character = html.unescape(match[0])
    return "" if character == "\u200b" else " " if character == "\xa0" else character


def _marked(text: str) -> bool:
    """Whether there is more to do than white space."""
    return _inline_mark(text) is not None or text.startswith((" ", "#", "+", "=", "-")) or _block_mark(text) is not None


def _blocks(text: str) -> str:
    """Line by line; the lines of a paragraph (and its marks) wait until it ends, since emphasis and links may go over line ends."""
    out: list[str] = []
    paragraph: list[str] = []

    def end() -> None:
        if paragraph:
            out.append(inline("\n".join(paragraph)))
            paragraph.clear()

    fence = ""
    code = in_list = False
    for part in text.split("\n\n"):
        if not fence and part[:1] not in _BLOCK_STARTS and not _block_line(part):  # paragraphs alone
            out += (inline(part), "")
            code = in_list = False
            continue
        if not fence and not _marked(part):
            out += (part, "")
            code = in_list = False
            continue
        for line in part.split("\n"):
            if fence:
                if line.strip() and not line.strip().strip(fence[0]) and len(line.strip()) >= len(fence):
                    fence = ""
                else:
                    out.append(line)
                continue
            if line and line[0] not in _BLOCK_STARTS:
                code = in_list = False
                if paragraph and paragraph[-1].startswith("> "):
                    end()
                paragraph.append(line)
                continue
            if not line or line.isspace():
                end()
                out.append("")
                continue
            first = line[0]  # looked at before each pattern, most of which then need not be tried
            deep = first in " \t" and _CODE.match(line) is not None
            if deep and not paragraph and (code or not in_list):
                if not code:
                    out.append("")
                out.append(line[1 if first == "\t" else 4 :])
                code = True
                continue
            code = False
            if first in " `~" and (start := _FENCE.match(line)) and "`" not in line[start.end() :]:
                end()
                fence = start[1]
                continue
            if not deep:
                in_list = False
            marks = ""
            while first in " >" and (quote := _QUOTE.match(line)) and len(marks) < 20:
                marks += "> "
                line = line[quote.end() :]
                line = line[1:] if line.startswith(" ") else line
            first = line[:1]
            if paragraph and not marks and first in " =-" and _UNDERLINE.match(line):
                end()
            elif first in " *-_" and _RULE.match(line):
                end()
                out.append(marks + "---")
            elif paragraph and first in " \t|:-" and _ALIGNMENT.match(line):
                pass
            elif first in " #" and (heading := _HEADING.match(line)):
                end()
                in_list = False
                paragraph.append(marks + line[heading.end() :].rstrip().rstrip("#").rstrip())
                end()
            else:
                if first in " \t*+-" and (bullet := _BULLET.match(line)):
                    end()
                    in_list = True
                    line = bullet[1].replace("\t", "    ") + "- " + line[bullet.end() :]
                elif first in " \t0123456789" and _NUMBERED.match(line):
                    end()
                    in_list = True
                elif not in_list:
                    line = line.lstrip()
                if bool(marks) != bool(paragraph and paragraph[-1].startswith(marks or "> ")):
                    end()
                paragraph.append(marks + line)
        end()
        out.append("")
    return "\n".join(out)


def inline(text: str) -> str:
    """A paragraph without its marks, in one pass over them; every run of marks and every bracket waits on a stack at most once.

    A Python loop over the marks: 0.7 µs each."""
    search = (_MARK_OR_ADDRESS if "://" in text else _MARK).search
    first = search(text)
    if first is None:
        return text
    parts: list[str] = []
    waiting: dict[str, list[tuple[int, int]]] = {"*": [], "_": [], "~": []}  # (place in parts, marks left) of runs that may be closed
    brackets: list[int] = []  # places in parts
    unclosed: set[int] = set()  # lengths of runs of backticks that do not come again
    brace = -1  # where the bracket is that closes ^(small print) and goes with its caret
    at = 0  # up to here the text is in parts

    def take(end: int) -> None:
        if at <= brace < end:
            parts.append(text[at:brace])
            parts.append(text[brace + 1 : end])
        else:
            parts.append(text[at:end])

    scan = first.start()
    while match := search(text, scan):
        start = match.start()
        scan = end = start + 1
        left = ""  # what stays of the mark
        match text[start]:
            case "*" | "_" | "~" as mark:
                while text.startswith(mark, end):
                    end += 1
                if mark == "~" and end - start == 1:
                    continue
                take(start)
                left = _run(text, start, end, len(parts), parts, waiting[mark])
            case ":":
                scheme = 5 if text.startswith("https", start - 5) else 4 if text.startswith("http", start - 4) else 0
                if not scheme or start - scheme < at or not (address := _ADDRESS.match(text, start)):
                    continue
                take(start)
                end = address.end()
                left = _ENTITY.sub(_character, _ADDRESS_ESCAPE.sub(r"\1", address[0]))
            case "[":
                start -= start > at and text[start - 1] == "!"
                take(start)
                left = text[start:end]
                brackets.append(len(parts))
            case "]":
                if not brackets:
                    continue
                take(start)
                opening = brackets.pop()
                if target := _TARGET.match(text, end):
                    left = _link(parts, opening, target)
                    end = target.end()
                else:
                    left = "]"
            case "&":
                if not (entity := _ENTITY.match(text, start)):
                    continue
                take(start)
                end = entity.end()
                left = _character(entity)
            case "\\":
                if not (escape := _ESCAPE.match(text, start)):
                    continue
                take(start)
                end = start + 2
                left = escape[1]
            case "`":
                while text.startswith("`", end):
                    end += 1
                ticks = end - start
                stop = -1 if ticks > _MOST_TICKS or ticks in unclosed else _closing_ticks(text, end, ticks)
                take(start)
                if stop < 0:
                    unclosed.add(ticks)
                    left = text[start:end]
                else:
                    left = text[end : stop - ticks].strip() or text[end : stop - ticks]
                    end = stop
            case "^":
                while text.startswith("^", end):
                    end += 1
                take(start)
                before = start - 1
                while before >= 0 and text[before] in "*_`":
                    before -= 1
                if before >= 0 and (text[before].isalnum() or text[before] in ")]"):
                    left = "^"
                elif small := _SMALL.match(text, end):
                    end, brace = end + 1, small.end() - 1
            case "<":
                if start > at and text[start - 1] == "!":  # the end of a spoiler
                    start -= 1
                    take(start)
                elif auto := _AUTO.match(text, start):
                    take(start)
                    end = auto.end()
                    left = auto[1]
                else:
                    continue
            case _:  # ">!", the beginning of a spoiler
                if not text.startswith("!", end):
                    continue
                take(start)
                end += 1
        parts.append(left)
        scan = at = end
    take(len(text))
    return "".join(parts)


def _closing_ticks(text: str, at: int, length: int) -> int:
    """The place behind the next run of exactly `length` backticks, or -1."""
    ticks = "`" * length
    while (found := text.find(ticks, at)) >= 0:
        end = found + length
        while text.startswith("`", end):
            end += 1
        if end - found == length:
            return end
        at = end
    return -1


def _run(text: str, start: int, end: int, place: int, parts: list[str], waiting: list[tuple[int, int]]) -> str:
    """What is left of a run of marks that closes earlier ones, opens later ones, or both."""
    mark = text[start]
    before, after = text[start - 1 : start], text[end : end + 1]
    closes = bool(before) and not before.isspace()
    opens = bool(after) and not after.isspace()
    if mark == "_":
        opens, closes = opens and not before.isalnum(), closes and not after.isalnum()
    elif mark == "*" and before.isdigit() and after.isdigit():
        opens = closes = False  # 2*3*4
    left = end - start
    while closes and left and waiting:
        opener, marks = waiting.pop()
        used = min(left, marks)
        left -= used
        parts[opener] = parts[opener][used:]
        if marks > used:
            waiting.append((opener, marks - used))
    if opens and left:
        waiting.append((place, left))
    return mark * left


def _link(parts: list[str], opening: int, target: re.Match[str]) -> str:
    """The words of a link stay, its brackets go. Gives what is to stand in its target's place."""
    image = parts[opening] == "!["
    parts[opening] = ""
    if image and "".join(parts[opening:]) in _MEDIA:
        parts[opening:] = [""] * (len(parts) - opening)  # places in parts must stay
    elif target["title"] and _HIDDEN.match(target["address"]):
        return f" ({target['title']})"
    return ""
