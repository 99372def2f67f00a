"""What the values of a recipe may be: tags of languages, shares, bounds in order."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from codedev._errors import RecipeError, nearest
from codedev._recipe import Model, check

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


def check_owner(language: str, families: Iterable[str]) -> None:
    """ValueError for a row of `by_language` that no document would ever meet: prose has tags, code the names of its languages."""
    if language[:1].islower() and "code" not in families:
        return check_tags([language])
    from codedev.corpus.languages import names  # reads a table

    if language not in names():
        place, likely = f"by_language.{language}", {name.lower(): name for name in names()}
        if "code" not in families and language and _TAG.fullmatch(language.lower()):
            raise ValueError(f"{place}: tags of languages are written in small letters: {language.lower()}")
        if near := difflib.get_close_matches(language.lower(), likely, n=1):
            raise ValueError(f"{place}: is no programming language: did you mean '{likely[near[0]]}'?")
        raise ValueError(f"{place}: is no BCP-47 tag (en, de, zh), and no programming language as they are written (C++, Python, SQL)")
    if others := [family for family in families if family != "code"]:
        raise ValueError(f"by_language.{language}: '{others[0]}' judges prose, and a programming language has bounds of `code` alone")
    return None


def check_reached(language: str, name: str, languages: Collection[str] | None) -> None:
    """ValueError for bounds of a language that the filter `name`, which judges `languages` alone, never judges."""
    if languages is None or language.partition("-")[0] in {tag.partition("-")[0] for tag in languages}:
        return
    from codedev.corpus.language.tags import MACRO  # its package has kernels

    both = {(language, tag) for tag in languages} | {(tag, language) for tag in languages}
    if not any(member in MACRO.get(macro, ()) for macro, member in both):
        told = f"judges {', '.join(languages)} alone: name {language} in its `languages` too, or write null there for all"
        raise ValueError(f"by_language.{language}: {name} {told}")


B = TypeVar("B", bound=Model)


def own_bounds(base: B, keys: Any, place: str, fixed: Collection[str] = ()) -> B:
    """The bounds of `base` with `keys` over them; ValueError that names the place for what is none, or for a key of `fixed`."""
    if not isinstance(keys, dict):
        raise ValueError(f"{place}: should be a mapping of bounds; null switches one bound off, no filter")
    known = {*type(base).model_fields} - {*fixed}
    for key in keys:
        if key not in known:
            raise ValueError(f"{place}: '{key}' is no bound that a language may have: {nearest(key, known)}")
    try:
        return check({**base.model_dump(), **keys}, type(base), place)
    except RecipeError as error:
        raise ValueError(str(error).replace(": the recipe: ", ": ", 1)) from None


MOST_MASK = 100  # characters: every find of every document grows to it


def check_mask(name: str, mask: str) -> None:
    """ValueError for a mask that would not stay as it is: too long, of more than printable characters, or found as personal data itself."""
    place = f"masks.{name}"
    if len(mask) > MOST_MASK:
        raise ValueError(f"{place} has {len(mask):,} characters: {MOST_MASK} are the most, for it stands in every find's place")
    odd = next((sign for sign in mask if sign != " " and unicodedata.category(sign)[0] in "CZ"), None)
    if odd is not None:
        raise ValueError(f"{place} holds U+{ord(odd):04X}: a mask is of visible characters and blanks, on one line")
    if unicodedata.normalize("NFC", mask) != mask:
        raise ValueError(f"{place} is not in Unicode's composed form (NFC), in which texts are kept")
    from codedev.kernels.personal.find import found_in  # compiled where it never ran

    if found := found_in(mask):
        raise ValueError(f"{place} would be found as {found[0][2]} itself: take one that nobody has, such as <{name.upper()}>")
    before = _WHERE.get(name, "")  # there any word is found: as long as it is the whole mask, that is no find
    if mask and any((start, end) != (len(before), len(before) + len(mask.encode())) for start, end, _ in found_in(f'{before}{mask}"')):
        raise ValueError(f"{place} would be found again, in part, behind {before}: take one such as <{name.upper()}>")


_WHERE = {"username": "u/", "secret": 'password = "'}


class Bounded(Model):
    """A recipe's bounds: `min` and `min_<name>` are no greater than `max` and `max_<name>`, and none is negative but of
    scores, whose weights are anybody's; `languages` are tags."""

    @model_validator(mode="after")
    def _in_order(self) -> Bounded:
        for name in type(self).model_fields:
            if (
                name[:4] in ("min", "max", "min_", "max_")
                and name[4:] != "score"
                and (bound := getattr(self, name)) is not None
                and bound < 0
            ):
                kept = "it does nothing" if name[:3] == "min" else "nothing would be kept"
                raise ValueError(f"{name} is {bound:g}: what it bounds is never negative, so {kept}. null switches it off")
            if name == "min" or name.startswith("min_"):
                least, most = getattr(self, name), getattr(self, f"max{name[3:]}", None)
                if least is not None and most is not None and least > most:
                    raise ValueError(f"{name} {least:g} is more than max{name[3:]} {most:g}: nothing would be kept")
        if (languages := getattr(self, "languages", None)) is not None and not languages:
            raise ValueError("languages: names none, so nothing would be judged. null is for all")
        check_tags(languages or ())
        return self
