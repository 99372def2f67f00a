"""The HTML of a forum post to Markdown: paragraphs, lists, quotes, headings, tables, links, images, and code character by character.

Posts are a small and safe subset of HTML, written by a Markdown renderer, so a pass over the tags is enough: 35 to 40 MB of HTML a second
and core. Code is kept verbatim: what stands in `<pre>` becomes a fenced block under the language of its `lang-…` class, with every blank of
its indentation. Text is not escaped and keeps its line ends, so that `$…$` and `$$…$$` mathematics comes through untouched. Unknown tags
vanish, what they hold stays; tags that nobody closed end with the post. Scripts and styles are no part of posts: their text would be kept.
"""

from __future__ import annotations

import re
from html import unescape

_TAG = re.compile(r"""<(/?)([A-Za-z][A-Za-z0-9]*+)((?:[^<>"']++|"[^"<]*+"|'[^'<]*+'|["'])*+)>|<!--""")
_ANY_TAG = re.compile(r"""</?[A-Za-z](?:[^<>"']++|"[^"<]*+"|'[^'<]*+'|["'])*+>""")
_ATTRIBUTE = re.compile(r"""([A-Za-z][A-Za-z-]*+)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""")
_LANGUAGE = re.compile(r"\blang(?:uage)?-([A-Za-z0-9+#_.-]+)")
_NO_LANGUAGES = frozenset({"none", "default", "or", "prettyprint"})
_TICKS = re.compile(r"`+")

_MARKS = {"b": "**", "strong": "**", "i": "*", "em": "*", "s": "~~", "strike": "~~", "del": "~~"}
_KEPT = frozenset({"sup", "sub", "kbd"})  # Markdown has no other way to write them
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
# Tags that end the paragraph they stand in.
_BLOCKS = frozenset({"p", "div", "dl", "dt", "dd", "thead", "tbody", "tfoot", "section", "article", "center", "details", "summary"})
_CONTAINERS = frozenset({"blockquote", "ul", "ol", "li", "table", "tr", "td", "th"})
_MAX_DEPTH = 32  # containers within each other: each level writes its lines once more,
_LARGE = 1 << 20  # and leaves out what it would write before each of them where they have more characters
_NUMBERED = re.compile(r"[0-9]+\. ")


def to_markdown(html: str) -> str:
    """The post's text. Never raises; costs time in proportion to its length."""
    post = _Post()
    at, size = 0, len(html)
    while at < size:
        found = _TAG.search(html, at)
        if found is None:
            post.text(html[at:])
            break
        start, end = found.span()
        if start > at:
            post.text(html[at:start])
        name = found[2]
        if name is None:  # a comment
            end = _after(html, "-->", end, post)
        else:
            name = name.lower()
            if name == "pre" and not found[1]:
                end = post.fenced(html, found[3], end)
            elif name == "code" and not found[1]:
                end = post.code(html, end)
            elif found[1]:
                post.close(name)
            else:
                post.open(name, found[3])
        at = end
    return post.finish()


def _after(html: str, closing: str, at: int, post: _Post) -> int:
    """Where `closing` ends; `at` where there is none."""
    end = post.find(html, closing, at)
    return at if end < 0 else end + len(closing)


class _Frame:
    """A container that is open: its finished blocks, and what it is."""

    def __init__(self, name: str, marker: str = "") -> None:
        self.name, self.marker = name, marker
        self.blocks: list[str] = []
        self.number = 1  # of the next item; columns of a table


class _Post:
    def __init__(self) -> None:
        self._frames = [_Frame("")]
        self._line: list[str] = []  # of the paragraph that is being read
        self._link: tuple[int, str] | None = None  # where in it the open link begins, and its target
        self._marks: list[str] = []  # that are open in it
        self._heading = ""
        self._missing: set[str] = set()  # closing tags that do not come any more: none is looked for twice

    # -- text

    def text(self, text: str) -> None:
        if self._line or not text.isspace():  # what stands between blocks
            self._line.append(unescape(text) if "&" in text else text)

    def fenced(self, html: str, attributes: str, at: int) -> int:
        """The code block from behind its `<pre>` on: where it ends."""
        end = self.find(html, "</pre>", at)
        content = html[at:] if end < 0 else html[at:end]
        inner = _TAG.match(content)
        classes = attributes + (inner[3] if inner and (inner[2] or "").lower() == "code" else "")
        code = unescape(_ANY_TAG.sub("", content)) if "<" in content or "&" in content else content
        self._flush()
        language = _LANGUAGE.search(classes)
        named = language[1] if language and language[1] not in _NO_LANGUAGES else ""
        longest = max((len(ticks) for ticks in _TICKS.findall(code)), default=0) if "```" in code else 0
        fence = "`" * max(3, longest + 1)
        self._add(f"{fence}{named}\n{code}{'' if code.endswith(chr(10)) else chr(10)}{fence}")
        return len(html) if end < 0 else end + len("</pre>")

    def code(self, html: str, at: int) -> int:
        end = self.find(html, "</code>", at)
        if end < 0:
            return at
        code = html[at:end]
        if "<" in code:
            code = _ANY_TAG.sub("", code)
        code = unescape(code)
        if "`" in code:
            ticks = "`" * (1 + max(map(len, _TICKS.findall(code))))
            self._line.append(f"{ticks} {code} {ticks}")
        else:
            self._line.append(f"`{code}`")
        return end + len("</code>")

    def find(self, html: str, closing: str, at: int) -> int:
        if closing in self._missing:
            return -1
        end = html.find(closing, at)
        if end < 0:
            self._missing.add(closing)
        return end

    # -- tags

    def open(self, name: str, attributes: str) -> None:
        if name in _BLOCKS:
            self._flush()
        elif name == "a":
            self._link = self._link or (len(self._line), _get(attributes, "href"))  # links do not stand in each other
        elif mark := _MARKS.get(name):
            if len(self._marks) < _MAX_DEPTH:
                self._marks.append(mark)
                self._line.append(mark)
        elif name == "br":
            self._line.append("\n")
        elif name == "img":
            self._line.append(f"![{_get(attributes, 'alt')}]({_get(attributes, 'src')})")
        elif name in _KEPT:
            self._line.append(f"<{name}>")
        elif name in _CONTAINERS:
            self._flush()
            self._enter(name, attributes)
        elif heading := _HEADINGS.get(name):
            self._flush()
            self._heading = heading
        elif name == "hr":
            self._flush()
            self._add("---")

    def close(self, name: str) -> None:
        if name in _BLOCKS or name in _HEADINGS:
            self._flush()
        elif name == "a":
            self._end_link()
        elif mark := _MARKS.get(name):
            if mark in self._marks:
                self._marks.remove(mark)
                self._line.append(mark)
        elif name in _KEPT:
            self._line.append(f"</{name}>")
        elif name in _CONTAINERS and any(frame.name == name for frame in self._frames):
            self._flush()
            while self._leave() != name:
                pass

    def _end_link(self) -> None:
        if self._link is None:
            return
        (start, target), self._link = self._link, None
        text = "".join(self._line[start:])
        del self._line[start:]
        self._line.append(target if text == target else f"[{text}]({target})" if target else text)

    # -- blocks

    def _flush(self) -> None:
        """End the paragraph."""
        line, heading = self._line, self._heading
        if not line:
            return
        line.extend(reversed(self._marks))
        # A link around several blocks is none.
        self._line, self._marks, self._link, self._heading = [], [], None, ""
        text = "".join(line).strip("\n\r ")
        if text:
            self._add(heading + text.replace("\n", " ") if heading else text)

    def _add(self, block: str) -> None:
        self._frames[-1].blocks.append(block)

    def _enter(self, name: str, attributes: str) -> None:
        if len(self._frames) > _MAX_DEPTH:
            return
        inside = self._frames[-1]
        if name == "li":
            if inside.name == "li":  # whose end was left out
                self._leave()
                inside = self._frames[-1]
            self._frames.append(_Frame(name, f"{inside.number}. " if inside.name == "ol" else "- "))
            inside.number += 1
            return
        frame = _Frame(name, ">! " if name == "blockquote" and "spoiler" in attributes else "> ")
        first = _get(attributes, "start") if name == "ol" else ""
        if first.isascii() and first.isdigit() and len(first) < 10:
            frame.number = int(first)
        self._frames.append(frame)

    def _leave(self) -> str:
        """End the innermost container: its name."""
        frame = self._frames.pop()
        inside = self._frames[-1]
        match frame.name:
            case "li":
                lists = all(block.startswith("- ") or _NUMBERED.match(block) for block in frame.blocks[1:])
                text = ("\n" if lists else "\n\n").join(frame.blocks)
                inside.blocks.append(frame.marker + _prefixed(text, " " * len(frame.marker)))
            case "ul" | "ol":
                inside.blocks.append("\n".join(frame.blocks))
            case "td" | "th":
                inside.blocks.append(" ".join(frame.blocks).replace("\n", " "))
            case "tr":
                inside.number = inside.number if inside.blocks else len(frame.blocks)
                inside.blocks.append("| " + " | ".join(frame.blocks) + " |")
            case "table":
                inside.blocks.append("\n".join([*frame.blocks[:1], "|" + " --- |" * frame.number, *frame.blocks[1:]]))
            case _:
                inside.blocks.append(frame.marker + _prefixed("\n\n".join(frame.blocks), frame.marker))
        return frame.name

    def finish(self) -> str:
        self._flush()
        while len(self._frames) > 1:
            self._leave()
        return "\n\n".join(block for block in self._frames[0].blocks if block)


def _prefixed(text: str, prefix: str) -> str:
    """`text` with `prefix` before every line but the first; blanks alone are no prefix of an empty line."""
    if "\n" not in text or len(text) > _LARGE:
        return text
    if prefix.isspace():
        return "\n".join(prefix + line if line and number else line for number, line in enumerate(text.split("\n")))
    return text.replace("\n", "\n" + prefix)


def _get(attributes: str, name: str) -> str:
    for found in _ATTRIBUTE.finditer(attributes):
        if found[1].lower() == name:
            return unescape(found[2] or found[3] or found[4] or "")
    return ""
