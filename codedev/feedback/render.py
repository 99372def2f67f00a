"""What a model printed -> HTML that does nothing: Markdown, code with colours, formulas as MathML.

The text is a stranger's. Markdown's own HTML is off, links have no target but http, https and mailto and open elsewhere without a referrer,
pictures are not fetched but named. Formulas go through latex2mathml, which passes on what stands in \\text: its output is parsed and
written anew from known elements, without attributes but harmless ones. What cannot be rendered, or is long, is shown as it is. The page's
Content-Security-Policy stands behind all this: nothing runs there but the page's own file.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache
from typing import Any
from xml.etree import ElementTree

from codedev._errors import MissingExtraError

MAX_RENDERED = 50_000  # characters; longer text is shown as it is: 15 printed pages, and half a second of the worst Markdown
MAX_FORMULA = 2_000  # characters; latex2mathml takes 2 ms for so many
MAX_CODE = 6_000  # characters of code in colours: 0.8 s of the worst lexer, 5 ms of Python
_MATHML = (
    "math semantics mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle msub msup msubsup munder mover munderover mtable mtr mtd "
    "mpadded mphantom menclose merror mmultiscripts mprescripts none"
).split()
_ATTRIBUTES = (
    "accent accentunder align columnalign columnlines columnspacing depth display displaystyle fence form height largeop linethickness "
    "lspace mathvariant maxsize minsize movablelimits notation rowalign rowlines rowspacing rspace scriptlevel separator stretchy "
    "symmetric voffset width"
).split()
_SPACE = "{http://www.w3.org/1998/Math/MathML}"


def rendered(text: str) -> str:
    """Safe HTML of a text in Markdown with formulas between dollars or \\( \\) and \\[ \\]."""
    if len(text) > MAX_RENDERED:
        return as_it_is(text)
    try:
        made: str = _markdown().render(text)
    except (RecursionError, ValueError):
        return as_it_is(text)
    return made


def as_it_is(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


@cache
def _markdown() -> Any:
    try:
        from markdown_it import MarkdownIt
        from mdit_py_plugins.dollarmath import dollarmath_plugin
    except ImportError:
        raise MissingExtraError("mdit-py-plugins", "feedback") from None
    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 40}).enable("table")
    markdown.enable("strikethrough")
    markdown.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True, allow_labels=False)
    markdown.inline.ruler.before("escape", "math_brackets", _brackets)
    markdown.block.ruler.before("fence", "math_bracket_block", _bracket_block, {"alt": ["paragraph"]})
    markdown.add_render_rule("fence", _fence)
    markdown.add_render_rule("math_inline", _formula)
    markdown.add_render_rule("math_inline_double", _formula)
    markdown.add_render_rule("math_block", _formula)
    markdown.add_render_rule("image", _image)
    markdown.add_render_rule("link_open", _link)
    return markdown


def _brackets(state: Any, silent: bool) -> bool:
    r"""\( … \) and \[ … \], also within a paragraph, where models put both."""
    closing = {"\\(": "\\)", "\\[": "\\]"}.get(state.src[state.pos : state.pos + 2])
    # No further than a formula can be: looking to the end each time would be quadratic.
    end = state.src.find(closing, state.pos + 2, state.pos + 4 + MAX_FORMULA) if closing else -1
    if end < 0:
        return False
    if not silent:
        kind = "math_inline_double" if closing == "\\]" else "math_inline"
        state.push(kind, "math", 0).content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


def _bracket_block(state: Any, start: int, end: int, silent: bool) -> bool:
    r"""\[ … \] on lines of its own, so that nothing in it is taken for a list or a heading."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]].rstrip()
    if not first.startswith("\\[") or (len(first) > 2 and not first.endswith("\\]")):
        return False
    lines, line = [first[2:]], start
    while not lines[-1].endswith("\\]"):
        line += 1
        if line >= end or line - start > 100:
            return False
        lines.append(state.src[state.bMarks[line] : state.eMarks[line]].rstrip())
    if not silent:
        state.line = line + 1
        state.push("math_block", "math", 0).content = "\n".join(lines)[:-2]
    return True


def _fence(_: Any, tokens: Sequence[Any], at: int, __: Any, env: dict[str, Any]) -> str:
    """A block of code, in colours while the text has had few of them: some of Pygments' lexers are quadratic."""
    token = tokens[at]
    language = token.info.split()[0] if token.info.split() else ""
    env["coloured"] = env.get("coloured", 0) + len(token.content)
    inside = _coloured(token.content, language) if env["coloured"] <= MAX_CODE else None
    return f"<pre><code>{html.escape(token.content) if inside is None else inside}</code></pre>\n"


def _coloured(code: str, language: str) -> str | None:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language)
    except (ClassNotFound, ValueError):
        return None
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


def code_style(dark: bool) -> str:
    """The style sheet of highlighted code."""
    from pygments.formatters import HtmlFormatter

    return str(HtmlFormatter(style="github-dark" if dark else "xcode").get_style_defs("code"))


def _formula(_: Any, tokens: Sequence[Any], at: int, *__: Any) -> str:
    token = tokens[at]
    return formula(token.content, block="block" in token.type or "double" in token.type)


def formula(tex: str, *, block: bool) -> str:
    """MathML of a formula, or the formula itself where it cannot be made."""
    from latex2mathml.converter import convert

    shown = f"<code>{html.escape(tex)}</code>"
    if len(tex) > MAX_FORMULA:
        return shown
    try:
        # It begins with <math, so there is no place for a document type and its entities.
        root = ElementTree.fromstring(convert(tex, display="block" if block else "inline"))  # noqa: S314
        return _written(root)
    except Exception:  # its errors have no common base, and its bugs raise what they like
        return shown


def _written(element: ElementTree.Element) -> str:
    name = element.tag.removeprefix(_SPACE)
    inside = html.escape(element.text or "") + "".join(_written(child) + html.escape(child.tail or "") for child in element)
    if name not in _MATHML:
        return f"<mtext>{html.escape(f'<{name}>')}</mtext>{inside}"
    attributes = "".join(f' {key}="{html.escape(value)}"' for key, value in element.attrib.items() if key in _ATTRIBUTES)
    return f"<{name}{attributes}>{inside}</{name}>"


def _image(_: Any, tokens: Sequence[Any], at: int, *__: Any) -> str:
    token = tokens[at]
    return f'<span class="picture">[{html.escape(token.content or "picture")}: {html.escape(str(token.attrGet("src") or ""))}]</span>'


def _link(_: Any, tokens: Sequence[Any], at: int, *__: Any) -> str:
    target = str(tokens[at].attrGet("href") or "")
    if not target.lower().startswith(("http://", "https://", "mailto:")):
        return "<a>"
    # Where it leads is said, for the text of a link may say something else.
    return f'<a href="{html.escape(target)}" title="{html.escape(target)}" target="_blank" rel="noopener noreferrer nofollow">'
