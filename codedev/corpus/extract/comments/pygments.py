"""Comments by Pygments, for languages that no grammar is installed for. Docstrings are not told.

Lexers read bytes as Latin-1, one character a byte, so that spans are byte spans; letters beyond ASCII may give error tokens, but no other
comments. Lexers are regular expressions, some of which take quadratic time over a long line: files above MAX_BYTES or with a line above
MAX_LINE get None.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from codedev.corpus.extract.comments.find import Comments, merged

if TYPE_CHECKING:
    from pygments.lexer import Lexer

MAX_BYTES = 1 << 20
MAX_LINE = 20_000
_LONG = re.compile(rb"[^\n]{%d}" % MAX_LINE)

# Linguist's name -> Pygments' alias, where they differ.
_ALIASES = {
    "Batchfile": "bat",
    "BASIC": "qbasic",
    "Cabal Config": "cabal",
    "Dockerfile": "docker",
    "Embedded Perl": "mason",
    "Emacs Lisp": "elisp",
    "GCC Machine Description": "common-lisp",
    "Git Config": "ini",
    "EditorConfig": "ini",
    "Handlebars": "html+handlebars",
    "HTML+EEX": "html+django",
    "HTML+ERB": "rhtml",
    "Ignore List": "bash",
    "Git Attributes": "bash",
    "IDL": "idl",
    "Java Properties": "properties",
    "JSON with Comments": "json",
    "Less": "less",
    "M4Sugar": "bash",
    "Pascal": "delphi",
    "Pip Requirements": "bash",
    "PLSQL": "plpgsql",
    "Rocq Prover": "coq",
    "Roff": "groff",
    "SVG": "xml",
    "Standard ML": "sml",
    "Vim Script": "vim",
    "Visual Basic .NET": "vb.net",
    "Wolfram Language": "mathematica",
    "XSLT": "xml",
    "Maven POM": "xml",
    "Vue": "html",
    "Svelte": "html",
}
# Prose, data without comments, and lexers that call other things comments.
_NEVER = frozenset(
    ["Text", "Markdown", "reStructuredText", "CSV", "TSV", "JSON", "Diff", "Wikitext", "Gettext Catalog", "Jupyter Notebook"],
)


@functools.cache
def _lexer(language: str) -> Lexer | None:
    from pygments.lexers import find_lexer_class, find_lexer_class_by_name
    from pygments.util import ClassNotFound

    if language in _NEVER:
        return None
    kind: Any = None if language in _ALIASES else find_lexer_class(language)
    if kind is None:
        try:
            kind = find_lexer_class_by_name(_ALIASES.get(language, language.lower()))
        except ClassNotFound:
            return None
    return kind()  # type: ignore[no-any-return]  # Pygments has no types


def spans(data: bytes, language: str) -> Comments | None:
    from pygments.token import Comment, Error

    lexer = _lexer(language)
    if lexer is None or len(data) > MAX_BYTES or _LONG.search(data):
        return None
    text = data.decode("latin-1").replace("\r\n", " \n").replace("\r", "\n")
    found: list[tuple[int, int]] = []
    errors = 0
    for position, kind, value in lexer.get_tokens_unprocessed(text):  # about 1 µs a token
        if kind in Comment and not (kind in Comment.Preproc or kind in Comment.PreprocFile):
            if found and found[-1][1] == position and text[position - 1] != "\n":  # a comment of several tokens
                found[-1] = (found[-1][0], position + len(value))
            else:
                found.append((position, position + len(value)))
        elif kind is Error:
            errors += 1
    stripped = [(start, start + len(text[start:end].rstrip())) for start, end in found]
    return Comments(merged(stripped), [], "pygments", errors)
