"""A page's own settings of MathJax, KaTeX and AsciiMath: which delimiters it sets, and where they are not looked for.

Read are the object literals that pages hand to `MathJax.Hub.Config`, `window.MathJax`, and `renderMathInElement`, by a reader of arrays,
strings and objects that skips what it does not know; scripts are never run, so that settings made by program or in another file are not
seen, and the engine's documented defaults hold. Class patterns are taken as lists of names, never as regular expressions.
Cost: twelve searches over each script that names an engine, and at most 20,000 characters of each of 100 literals; 0.1 s for 10 MB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Delimiter(NamedTuple):
    left: str
    right: str
    display: bool


class Settings(NamedTuple):
    delimiters: tuple[Delimiter, ...]
    environments: bool  # \begin{align}..\end{align} in the text are formulas
    ascii: tuple[str, ...]  # what is on both sides of AsciiMath
    skipped_tags: frozenset[str]
    ignored: frozenset[str]  # classes of elements that are left alone; ALL: of everything
    processed: frozenset[str]  # classes of elements that are looked at all the same


ALL = "*"
SKIPPED_TAGS = frozenset(
    {"script", "noscript", "style", "textarea", "pre", "code", "annotation", "annotation-xml", "math", "svg", "title", "head", "option"}
    | {"template", "iframe", "xmp", "codedev-math"}
)
_MATHJAX = (Delimiter("$$", "$$", True), Delimiter(r"\[", r"\]", True), Delimiter(r"\(", r"\)", False))
# Marks of forum and blog software, which mean a formula on whatever page they are shown.
_BRACKETS = tuple(Delimiter(f"[{name}]", f"[/{name}]", False) for name in ("itex", "tex", "TEX", "latex", "LATEX", "math", "MATH"))
_BLOG = Delimiter("$latex ", "$", False)
_NOTHING = Settings((), False, (), SKIPPED_TAGS, frozenset(), frozenset())
MARKS = _NOTHING._replace(delimiters=(*_BRACKETS, _BLOG))

_LOADED = re.compile(r"mathjax", re.IGNORECASE)
_MATHJAX_CONFIG = re.compile(r"MathJax(?:\s{0,9}=|\.(?:Hub|tex|options)\b)")
_KATEX = re.compile(r"katex[^?#]*auto-render|auto-render[^/]*\.js|contrib/auto-render", re.IGNORECASE)
_ASCIIMATH = re.compile(r"asciimath", re.IGNORECASE)
_TEXLESS = re.compile(r"config=(?:AM_|MML_|Accessible)[^&,]*$", re.IGNORECASE)
_KEYS = (
    *("inlineMath", "displayMath", "delimiters", "processEnvironments", "ignoreClass", "ignoreHtmlClass", "processClass"),
    *("processHtmlClass", "skipTags", "skipHtmlTags", "ignoredTags", "ignoredClasses"),
)
_SET = re.compile(r"""["']?\s{0,9}[:=](?!=)""")
_REMARK = re.compile(r"(?<!:)//")
_MOST_KEYS, _LONGEST_LITERAL, _MOST_DELIMITERS, _LONGEST_DELIMITER = 100, 20_000, 40, 20


def of_page(scripts: Iterable[tuple[str, str]]) -> Settings | None:
    """Of (src, text) of every script of a page; None where nothing looks for formulas in its text."""
    tex = katex = False
    inline: list[Delimiter] | None = None
    display: list[Delimiter] | None = None
    delimiters: list[Delimiter] | None = None
    ascii_delimiters: tuple[str, ...] = ()
    environments = True
    skipped, ignored, processed = set[str](), {"tex2jax_ignore", "mathjax_ignore"}, {"tex2jax_process", "mathjax_process"}
    for src, text in scripts:
        if _LOADED.search(src):
            tex = tex or not _TEXLESS.search(src)
            if "AM" in re.split(r"[-_,&]", src.rpartition("config=")[2]):  # TeX-AMS is another
                ascii_delimiters = ascii_delimiters or ("`",)
        elif _ASCIIMATH.search(src):
            ascii_delimiters = ("`", "$")
        katex = katex or bool(_KATEX.search(src)) or "renderMathInElement(" in text
        if not text:
            continue
        mathjax = "tex2jax" in text or bool(_MATHJAX_CONFIG.search(text))
        tex = tex or mathjax
        if mathjax and ("asciimath2jax" in text or "input/AsciiMath" in text or "input/asciimath" in text):
            ascii_delimiters = ascii_delimiters or ("`",)
        if not (mathjax or katex):
            continue
        for key, value in _literals(text):
            match key:
                case "inlineMath":
                    inline = [*(inline or ()), *_pairs(value, display=False)][:_MOST_DELIMITERS]
                case "displayMath":
                    display = [*(display or ()), *_pairs(value, display=True)][:_MOST_DELIMITERS]
                case "delimiters" if katex and (found := _delimiters(value)):
                    delimiters = found
                case "delimiters" if ascii_delimiters and (found := _pairs(value, display=False)):
                    ascii_delimiters = tuple(one.left for one in found if one.left == one.right)
                case "processEnvironments":
                    environments = value is not False
                case "skipTags" | "skipHtmlTags" | "ignoredTags":
                    skipped.update(word.lower() for word in _strings(value))
                case "ignoreClass" | "ignoreHtmlClass" | "ignoredClasses":
                    ignored.update(_classes(value))
                case "processClass" | "processHtmlClass":
                    processed.update(_classes(value))
    if not (tex or katex or ascii_delimiters):
        return None
    found = list(delimiters or ()) if katex else []
    if tex or (katex and delimiters is None):
        # A page may set one of the two; the other keeps its default.
        found += display if display is not None else _MATHJAX[:2]
        found += inline if inline is not None else _MATHJAX[2:]
    unique = dict.fromkeys((*found[:_MOST_DELIMITERS], *MARKS.delimiters))
    return Settings(
        tuple(unique), environments and (tex or katex), ascii_delimiters, SKIPPED_TAGS | skipped, frozenset(ignored), frozenset(processed)
    )


def _pairs(value: object, *, display: bool) -> list[Delimiter]:
    """Of [["$", "$"], …], or the same under '[+]' in an object."""
    if isinstance(value, dict):
        kept = [Delimiter("\\(", "\\)", False)] if "[+]" in value and not display else list(_MATHJAX[:2]) if "[+]" in value else []
        return kept + [pair for inner in value.values() for pair in _pairs(inner, display=display)]
    if not isinstance(value, list):
        return []
    if len(value) == 2 and all(isinstance(word, str) for word in value):
        value = [value]
    found = []
    for pair in value:
        if isinstance(pair, list) and len(pair) == 2 and _fits(pair[0]) and _fits(pair[1]):
            found.append(Delimiter(_lenient(pair[0]), _lenient(pair[1]), display))
    return found


def _delimiters(value: object) -> list[Delimiter]:
    """Of KaTeX's [{left: "$$", right: "$$", display: true}, …]."""
    found = []
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict) and _fits(one.get("left")) and _fits(one.get("right")):
            found.append(Delimiter(_lenient(one["left"]), _lenient(one["right"]), bool(one.get("display"))))
    return found


def _fits(word: object) -> bool:
    """Letters, digits and blanks alone stand in every text."""
    return isinstance(word, str) and len(word) <= _LONGEST_DELIMITER and any(not sign.isalnum() and not sign.isspace() for sign in word)


def _lenient(word: str) -> str:
    """What a page meant: one that writes '\\(' where '\\\\(' would have been right has lost the backslash, and a parenthesis alone
    would make a formula of every remark."""
    return "\\" + word if word in ("(", ")", "[", "]") else word


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [word for inner in value.values() for word in _strings(inner)]
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _classes(value: object) -> list[str]:
    """'tex2jax_ignore|dno' -> its names; '.*' -> ALL."""
    words = value.split("|") if isinstance(value, str) else _strings(value)
    return [ALL if ".*" in word else word for word in words if word]


# --- literals of JavaScript

_TOKEN = re.compile(
    r"""\s++|//[^\n]*+|/\*(?s:.*?)\*/|(?P<string>"(?:[^"\\\n]|\\[\s\S])*+"|'(?:[^'\\\n]|\\[\s\S])*+'|`(?:[^`\\]|\\[\s\S])*+`)"""
    r"""|(?P<word>[\w$.+-]++)|(?P<sign>[\[\]{}(),:;=])|(?P<other>.)"""
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([\s\S]))")
_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}
_DEEPEST = 6


def _literals(text: str) -> Iterable[tuple[str, object]]:
    """(key, value) of the settings that are known, wherever they are in a script."""
    for start, key in _keys(text):
        found = _SET.match(text, start + len(key))
        before = text[max(0, start - 200) : start].rpartition("\n")[2]
        if found is None or _REMARK.search(before) or before[-1:].isidentifier():
            continue
        value = _value(text[found.end() : found.end() + _LONGEST_LITERAL])
        if value is not None:  # what cannot be read leaves the default
            yield key, value


def _keys(text: str) -> list[tuple[int, str]]:
    """Where the first of the keys are: one search for each, since a pattern of all takes 40 times as long."""
    found = []
    for key in _KEYS:
        start = text.find(key)
        for _ in range(_MOST_KEYS):
            if start < 0:
                break
            found.append((start, key))
            start = text.find(key, start + len(key))
    return sorted(found)[:_MOST_KEYS]


def _value(text: str) -> object:
    """The literal that `text` starts with: lists, dicts, strings, True and False; None for anything else, and for a literal that is cut."""
    open_values: list[tuple[list[object] | dict[str, object], str]] = []  # a container, and the key that waits for a value
    key = ""
    for token in _TOKEN.finditer(text):
        kind, word = token.lastgroup, token[0]
        done: object
        if kind is None:
            continue
        if kind == "sign" and word in "[{":
            if len(open_values) == _DEEPEST:
                return None
            open_values.append(([] if word == "[" else {}, key))
            key = ""
            continue
        if kind == "sign" and word in "]}" and open_values:
            done, key = open_values.pop()
        elif kind == "string":
            done = _unescaped(word[1:-1])
        elif kind == "word":
            done = {"true": True, "false": False}.get(word, word)
        elif open_values:
            continue  # a comma, a colon, or something that is computed
        else:
            return None
        if not open_values:
            return done if kind != "word" or isinstance(done, bool) else None
        container = open_values[-1][0]
        if isinstance(container, list):
            container.append(done)
        elif key:
            container[key], key = done, ""
        else:
            key = done if isinstance(done, str) else ""
    return None


def _unescaped(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        return chr(int(code, 16)) if code else _PLAIN.get(found[3], found[3])

    # Halves of a pair are joined, and lone ones become U+FFFD: they are in no text.
    return _ESCAPE.sub(plain, text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
