"""Who wrote a page, out of what it says there: "By Ann Lee and Bo Li, Staff Writer | 3 May 2016" is two names.

Cost: 4 µs a byline. Rules over words, so a name that looks like a job, a site or an account's default is lost, and a company may pass as a
person. Does not know names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_LONGEST, _MOST = 300, 20
_BEFORE = re.compile(
    r"\A(?:(?:originally|posted|written|published|submitted|reported|edited|compiled|reviewed|story|text|words|article|report|analysis|"
    r"guest post|escrito|publicado|publié|écrit|geschrieben|verfasst|veröffentlicht|gepostet|eingestellt|ein beitrag|beitrag|artikel|"
    r"view all posts|all posts|posts|alle beiträge|articles|articoli|un documentaire|erstellt|eingetragen|publiziert|author|authors|"
    r"autor|autoren|autorin|auteur|autore|автор|автора|byline|from)\s?(?:by\b|von\b|par\b|por\b|de\b|di\b|door\b|:)?|"
    r"by|von|par|por|door|(?-i:di|da|af|av|od))(?:\s?[:：]\s?|\s|\Z)",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\s?(?:[|•·»\n\t<>(\[]|\s[-–—/]\s|\b(?:on|am|vom|in|at|for|für|před|stand|(?-i:le|el)|updated|published|posted|about|via|"
    r"is an?|ist|has been)\b\s?|\s@|\d).*\Z",
    re.IGNORECASE | re.DOTALL,
)
_BETWEEN = re.compile(r"\s?(?:;|&|\s(?:and|und|et|y|e|en|och|og|with|mit|i|и)\s)\s?", re.IGNORECASE)
_NOT_A_NAME = re.compile(r"https?:|www\.|@|[<>{}=#*_\\$%]|\.(?:com|org|net|de|info|co|io|html?)\b", re.IGNORECASE)
_ROLES = re.compile(
    r"\b(?:writer|editor|editors|correspondent|reporter|staff|contributor|columnist|redaktion|redacción|redaktör|rédaction|redazione|"
    r"desk|team|journalist|producer|photographer|specialist|critic|phd|ph\.d\.?|md|m\.d\.?|jr|sr|news|online|reuters|afp|dpa|"
    r"associated press|editorial|magazine|press|author|authors|autor|comments?|kommentare?|posts?|articles?|view all|read more|mehr|"
    r"share|follow|subscribe|contact|profile|about)\b",
    re.IGNORECASE,
)
# What software puts there where nobody said a name, and what stands beside names.
_DEFAULTS = frozenset(
    {"admin", "administrator", "editor", "redaktion", "webmaster", "wordpress", "user", "username", "guest", "gast", "root", "staff"}
    | {"unknown", "none", "null", "anonymous", "anonym", "undefined", "super", "default", "author", "autor", "test", "public"}
    | {"publisher", "besucher", "montag", "dienstag", "mittwoch", "donnerstag", "freitag", "samstag", "sonntag"}
    | {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
)
_SIGNS = re.compile(r"[\W_]+")


_ASCII_SIGNS = {code: None for code in range(128) if not chr(code).isalnum()}


@lru_cache(1024)  # a page's title and headings are compared by it again and again
def bare(text: str) -> str:
    """Its letters and digits in lower case, to compare by."""
    return text.lower().translate(_ASCII_SIGNS) if text.isascii() else _SIGNS.sub("", text.casefold())


def names(values: Iterable[str], sites: frozenset[str], *, shown: bool = False) -> list[str]:
    """The people named. `sites`: names that are no people's, bare. `shown`: text from the page's body, which holds more than names."""
    found: dict[str, str] = {}
    for value in values:
        for name in _of_byline(" ".join(value[:_LONGEST].split()), shown):
            key = bare(name)
            if key and key not in sites and key not in _DEFAULTS and len(found) < _MOST:
                found.setdefault(key, name)
    return list(found.values())


def _of_byline(text: str, shown: bool) -> list[str]:
    for _ in range(3):  # "Posted by: by Ann Lee"
        text, before = _BEFORE.sub("", text), text
        if text == before:
            break
    if shown:
        text = _AFTER.sub("", text)
    else:
        text = text.partition("|")[0]
    found = []
    for part in _BETWEEN.split(text):
        found += _of_list([one.strip(" .:,-–—'\"“”") for one in part.split(",")])
    return [name for name in found if _is_name(name, shown)]


def _of_list(parts: list[str]) -> list[str]:
    """What stands between commas: several names, a name and a role, or a last name before the first."""
    parts = [part for part in parts if part and not (_ROLES.search(part) and len(parts) > 1)]
    if len(parts) == 2 and " " not in parts[0] and parts[1].count(" ") < 2:
        return [f"{parts[1]} {parts[0]}"]
    return [parts[0], *(part for part in parts[1:] if " " in part)] if parts else []


def _is_name(name: str, shown: bool) -> bool:
    if not 2 <= len(name) <= 60 or name.count(" ") > 5 or _NOT_A_NAME.search(name) or not any(map(str.isalpha, name)):
        return False
    if not shown:
        return True
    return not _ROLES.search(name) and name.count(" ") <= 3 and (name[0].isupper() or not name[0].isascii() or " " not in name)
