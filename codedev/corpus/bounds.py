"""What the values of a recipe may be: tags of languages, shares, bounds in order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, model_validator

from codedev._recipe import Model

# Of a least share: a greatest one above 1 is off, as some published ones are.
Share = Annotated[float, Field(ge=0, le=1)]

_TAG = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
# The codes of libraries (ISO 639-2/B) beside those of terminology, which identifiers' labels use.
_LIBRARY = dict(
    pair.split(":")
    for pair in (
        "alb:sq arm:hy baq:eu bur:my chi:zh cze:cs dut:nl fre:fr geo:ka ger:de gre:el ice:is mac:mk mao:mi may:ms per:fa rum:ro "
        "slo:sk tib:bo wel:cy"
    ).split()
)


def check_tags(tags: Iterable[str], also: str = "") -> None:
    """ValueError for what is no BCP-47 tag, or not the one that documents have: `de`, not `german`, `ger` or `deu`."""
    for tag in tags:
        if not _TAG.fullmatch(tag):  # a word such as `all` is one in form
            raise ValueError(f"'{tag}' is no BCP-47 tag: write en, de or zh{also}")
        code, dash, rest = tag.partition("-")
        short = _LIBRARY.get(code, code)
        if len(short) == 3:
            from codedev.corpus.language.tags import SHORT  # its package has kernels

            short = SHORT.get(code, code)
        if short != code:
            raise ValueError(f"'{tag}' is written '{short}{dash}{rest}' here: the shortest code of a language is its tag (BCP-47)")


class Bounded(Model):
    """A recipe's bounds: `min` and `min_<name>` are no greater than `max` and `max_<name>`; `languages` are tags."""

    @model_validator(mode="after")
    def _in_order(self) -> Bounded:
        for name in type(self).model_fields:
            if name == "min" or name.startswith("min_"):
                least, most = getattr(self, name), getattr(self, f"max{name[3:]}", None)
                if least is not None and most is not None and least > most:
                    raise ValueError(f"{name} {least:g} is more than max{name[3:]} {most:g}: nothing would be kept")
        check_tags(getattr(self, "languages", None) or ())
        return self
