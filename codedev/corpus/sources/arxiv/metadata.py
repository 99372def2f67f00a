"""Rows of arXiv's metadata snapshot, and what a paper's document takes from its row."""

from __future__ import annotations

import datetime as dt
import re
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import orjson

# 2101.00001, math/0309136, hep-th/9901001, math.AG/0309136; in file names the slash is missing.
_ID = re.compile(r"(?P<new>\d{4}\.\d{4,5})|(?P<archive>[a-z-]{2,12})(?:\.[A-Z]{2})?/?(?P<number>\d{7})")
_NAME = re.compile(rf"(?:^|/)(?:{_ID.pattern})(?P<version>v\d{{1,3}})?(?:\.(?:gz|tar|tar\.gz|tgz|tex|pdf|zip|ps|html?|docx))?$")
_CC = re.compile(r"creativecommons\.org/(?:licenses/([a-z-]+)/(\d\.\d)|(publicdomain/zero)/(\d\.\d)|licenses/(publicdomain))")
_ARXIV_LICENCE = re.compile(r"arxiv\.org/licenses/(nonexclusive-distrib|assumed-1991-2003)")


class Identity(NamedTuple):
    id: str  # without version
    version: str | None  # v1


def identity(name: str) -> Identity | None:
    """The arXiv id that a file or folder is named by: `2101/2101.00001v2.gz`, `hep-th9901001.gz`."""
    match = _NAME.search(name)
    return Identity(match["new"] or f"{match['archive']}/{match['number']}", match["version"]) if match else None


def key_of(row: dict[str, Any]) -> str | None:
    """The id of a row of the snapshot, as papers have it."""
    match = _ID.fullmatch(row["id"].strip()) if isinstance(row.get("id"), str) else None
    return (match["new"] or f"{match['archive']}/{match['number']}") if match else None


def spdx(url: str | None) -> str | None:
    """The SPDX expression of a licence that arXiv names by its address."""
    if not url:
        return None
    if found := _CC.search(url):
        if found[3]:
            return f"CC0-{found[4]}"
        return "CC-PDDC" if found[5] else f"CC-{found[1].upper()}-{found[2]}"
    if found := _ARXIV_LICENCE.search(url):
        return "LicenseRef-arXiv-nonexclusive-1.0" if found[1].startswith("non") else "LicenseRef-arXiv-assumed-1991-2003"
    return f"LicenseRef-{re.sub('[^A-Za-z0-9.-]+', '-', url.split('://')[-1]).strip('-')}"


class Facts(NamedTuple):
    """What a row says of one version of a paper."""

    version: str | None
    licence: str | None
    created: dt.datetime | None
    meta: dict[str, Any]


def facts(row: dict[str, Any], version: str | None) -> Facts:
    """`version`: that of the file, where its name says it; else the newest."""
    versions = [entry for entry in row.get("versions") or () if isinstance(entry, dict)] if isinstance(row.get("versions"), list) else []
    chosen = next((entry for entry in versions if entry.get("version") == version), versions[-1] if versions and version is None else {})
    found = version or chosen.get("version")
    parsed = row.get("authors_parsed")
    names = parsed if isinstance(parsed, list) else []
    authors = [
        " ".join(str(part) for part in (*name[1:2], name[0], *name[2:3]) if part) for name in names if isinstance(name, list) and name
    ]
    categories = row.get("categories")
    meta = {
        "title": _line(row.get("title")),
        "authors": authors or ([text] if (text := _line(row.get("authors"))) else None),
        "abstract": _line(row.get("abstract")),
        "categories": categories.split() if isinstance(categories, str) else None,
        "doi": _line(row.get("doi")),
        "journal_ref": _line(row.get("journal-ref")),
        "report_no": _line(row.get("report-no")),
        "comments": _line(row.get("comments")),
        "updated": _line(row.get("update_date")),
        "versions": len(versions) or None,
    }
    licence = row.get("license")
    return Facts(
        found if isinstance(found, str) and re.fullmatch(r"v\d{1,3}", found) else None,
        spdx(licence if isinstance(licence, str) else None),
        _when(chosen.get("created")),
        {key: value for key, value in meta.items() if value is not None},
    )


def newest(rows: list[bytes]) -> dict[str, Any] | None:
    """Of several rows of one paper the one that knows most versions."""
    parsed = [orjson.loads(row) for row in sorted(rows)]

    def age(row: dict[str, Any]) -> tuple[int, str]:
        versions = row.get("versions")
        return len(versions) if isinstance(versions, list) else 0, str(row.get("update_date") or "")

    return max(parsed, key=age, default=None)


def _line(value: Any) -> str | None:
    return " ".join(value.split()) or None if isinstance(value, str) else None


def _when(value: Any) -> dt.datetime | None:
    try:
        found = parsedate_to_datetime(value)
        return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
