"""Errors a user can act on. The command line prints them in one line and exits with the code beside the name.

    CodedevError            1
    ├── RecipeError         1   the recipe is wrong: unknown key, wrong type, impossible combination
    ├── InputError          1   an input is missing, unreadable or not what its recipe says
    ├── RunError            1   a run cannot go on: locked directory, dead worker, mismatching state
    ├── MissingExtraError   1   an optional package is not installed; the message has the install command
    └── ExpectationError    3   the run is complete, but an `expect:` of its recipe is broken

A message says what, where and what to do next, in one line: what is no printable character in it is written as an escape, since
names of files and keys of recipes come from strangers. Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CodedevError(Exception):
    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RecipeError(CodedevError):
    pass


class InputError(CodedevError):
    pass


class RunError(CodedevError):
    pass


class MissingExtraError(CodedevError):
    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: pip install -e '.[{extra}]' in the folder of codedev")
        self._made_of = (package, extra)

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return MissingExtraError, self._made_of  # it comes out of worker processes


class ExpectationError(CodedevError):
    exit_code = 3


def printable(text: str) -> str:
    """`text` in one line that no terminal takes for a command: line ends, controls and what is no Unicode as backslash escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a message: the known word nearest to `word`, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
