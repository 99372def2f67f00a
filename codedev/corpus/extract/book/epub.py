"""EPUB 2 and 3 -> the text of a book in reading order, and what its package says of it.

`read` takes the files of the container by name, as a zip or an unpacked folder gives them. The container names the package, whose spine
orders the documents; each goes through `book_html`. The table of contents (navigation document or NCX) becomes no text, but the titles and
places of chapters. A book under digital rights management is refused by the name of its scheme; fonts that are obfuscated do not matter.
Cost: about 12 MB of documents a second. What it does not do: follow fallbacks of foreign media types, or render fixed layouts: what
stands in pictures is lost. A document of the spine that the container lacks is named in `missing`.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

from codedev import _archive
from codedev.corpus.extract import markup
from codedev.corpus.extract.blocks import MarkupError, visible
from codedev.corpus.extract.book import html as book_html
from codedev.corpus.extract.paragraphs import Chapter

CONTAINER = "META-INF/container.xml"
NONLINEAR = "nonlinear"
_MOST_DOCUMENTS = 20_000  # in the spine; the largest books have some thousand

# Obfuscation of fonts, which is no protection of the text.
_FONTS = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})
_SCHEMES = (
    (b"ns.adobe.com/adept", "Adobe ADEPT"),
    (b"readium.org/2014/01/lcp", "Readium LCP"),
    (b"fairplay", "Apple FairPlay"),
    (b"itunes.apple.com", "Apple FairPlay"),
    (b"kdrm", "Kobo DRM"),
    (b"barnesandnoble", "Barnes & Noble"),
    (b"marlin", "Marlin"),
)
_TEXT_TYPES = ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/xml", "text/xml", "application/x-dtbook+xml")
_ROLES = {"aut": "authors", "trl": "translators", "edt": "editors"}


class Book(NamedTuple):
    text: str
    chapters: list[Chapter]
    removed: Counter[str]  # characters left out, by part
    meta: dict[str, Any]  # title, authors, language, identifiers, rights, publisher, date, …


class Options(NamedTuple):
    html: book_html.Options
    nonlinear: Literal["end", "drop"] = "end"


class _Item(NamedTuple):
    path: str
    media_type: str
    properties: str
    linear: bool = True


def read(files: Mapping[str, bytes], get: Callable[[str], bytes | None], options: Options) -> Book:
    """The book in `files`; `get` gives a file of the spine that is not among them, or None. Raises MarkupError."""
    _refuse_protected(files)
    package_path = _package_path(files)
    package_bytes = get(package_path)
    if package_bytes is None:
        raise MarkupError("no_package", f"the container names the package {package_path[:200]}, which is not there")
    package = markup.parse_xml(markup.decode(package_bytes), recover=True)
    if markup.local(package) != "package":
        raise MarkupError("no_package", f"{package_path[:200]} is no package but a {markup.local(package)[:50]}")
    manifest = _manifest(package, posixpath.dirname(package_path))
    meta = _metadata(package)
    spine, ncx = _spine(package, manifest)
    entries = _contents(manifest, ncx, get)
    return _text(spine, entries, get, options, meta)


# --- what protects the book, and where it is


def _refuse_protected(files: Mapping[str, bytes]) -> None:
    rights = files.get("META-INF/rights.xml", b"").lower()
    encryption = files.get("META-INF/encryption.xml", b"")
    licence = "META-INF/license.lcpl" in files
    algorithms = {
        found.decode("utf-8", "replace")
        for found in re.findall(rb"EncryptionMethod[^>]{0,300}?Algorithm\s*=\s*[\"']([^\"']{1,200})", encryption)
    }
    protected = sorted(algorithms - _FONTS)
    scheme = next((name for mark, name in _SCHEMES if mark in rights or mark in encryption.lower()), "")
    if licence:
        scheme = "Readium LCP"
    elif "META-INF/sinf.xml" in files:
        scheme = "Apple FairPlay"
    if protected or licence or (rights and scheme):
        what = scheme or f"a scheme that it does not name ({protected[0] if protected else 'rights.xml'})"
        raise MarkupError("encrypted", f"the book is protected by {what}: its text cannot be read")


def _package_path(files: Mapping[str, bytes]) -> str:
    container = files.get(CONTAINER)
    if container is None:
        found = sorted(name for name in files if name.lower().endswith(".opf"))
        if not found:
            raise MarkupError("no_package", f"neither {CONTAINER} nor a package file")
        return found[0]
    root = markup.parse_xml(markup.decode(container), recover=True)
    for element in root.iter("{*}rootfile"):
        kind = element.get("media-type") or "application/oebps-package+xml"
        if kind == "application/oebps-package+xml" and element.get("full-path"):
            return _inside("", element.get("full-path"))
    raise MarkupError("no_package", f"{CONTAINER} names no package")


def _inside(folder: str, reference: str) -> str:
    """The path in the container that a reference names. Raises MarkupError where it leads out."""
    path = unquote(reference.partition("#")[0].partition("?")[0]).replace("\\", "/")
    if ":" in path.split("/")[0]:
        raise MarkupError("unsafe_path", f"a reference that leads out of the book: {reference[:200]}")
    path = posixpath.normpath(posixpath.join(folder, path))
    if why := _archive.unsafe(path):
        raise MarkupError("unsafe_path", f"{why}: {reference[:200]}")
    return path


# --- the package


def _manifest(package: Any, folder: str) -> dict[str, _Item]:
    items: dict[str, _Item] = {}
    for element in package.iter("{*}item"):
        reference, name = element.get("href"), element.get("id")
        if not reference or not name or re.match(r"(?:https?|data|mailto):", reference):
            continue
        items.setdefault(name, _Item(_inside(folder, reference), element.get("media-type") or "", element.get("properties") or ""))
    return items


def _spine(package: Any, manifest: dict[str, _Item]) -> tuple[list[_Item], _Item | None]:
    spine = next(package.iter("{*}spine"), None)
    if spine is None:
        raise MarkupError("no_spine", "the package has no spine: nothing says what to read")
    items: dict[str, _Item] = {}
    for reference in spine.iter("{*}itemref"):
        item = manifest.get(reference.get("idref") or "")
        if item is not None:
            items.setdefault(item.path, item._replace(linear=(reference.get("linear") or "yes").lower() != "no"))
        if len(items) > _MOST_DOCUMENTS:
            raise MarkupError("too_large", f"a spine of more than {_MOST_DOCUMENTS:,} documents")
    ordered = sorted(items.values(), key=lambda item: not item.linear)  # what is outside the reading order comes last
    return ordered, manifest.get(spine.get("toc") or "")


def _metadata(package: Any) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    roles: dict[str, str] = {}
    for element in package.iter("{*}meta"):
        if element.get("property") == "role" and element.get("refines"):
            roles.setdefault(element.get("refines").removeprefix("#"), (element.text or "").strip())
    people: dict[str, list[str]] = {}
    for element in package.iter("{http://purl.org/dc/elements/1.1/}*", "{http://purl.org/dc/elements/1.0/}*"):
        said = visible(element)[:5000]
        if not said:
            continue
        name = markup.local(element).lower()
        role = next(
            (value for key, value in element.attrib.items() if key.rpartition("}")[2] == "role"), roles.get(element.get("id") or "", "")
        )
        if name == "creator" or (name == "contributor" and role in _ROLES):
            people.setdefault(_ROLES.get(role, "authors"), []).append(said)
        elif name == "date" and found.get("date") and any(value == "modification" for value in element.attrib.values()):
            continue
        else:
            found.setdefault(name, []).append(said)

    def first(name: str) -> str | None:
        return found[name][0] if name in found else None

    return {
        "title": first("title"),
        **{role: names[:50] for role, names in people.items()},
        "language": first("language"),
        "languages": found["language"][:20] if len(found.get("language", ())) > 1 else None,
        "identifiers": found.get("identifier", [])[:20] or None,
        "rights": first("rights"),
        "publisher": first("publisher"),
        "date": first("date"),
        "subjects": found.get("subject", [])[:50] or None,
        "source": first("source"),
        "epub": package.get("version"),
    }


# --- the table of contents


class _Entry(NamedTuple):
    path: str
    fragment: str
    title: str


def _contents(manifest: dict[str, _Item], ncx: _Item | None, get: Callable[[str], bytes | None]) -> list[_Entry]:
    """Titles and places of chapters by the navigation document, else by the NCX; none where both are missing or broken."""
    navigation = next((item for item in manifest.values() if "nav" in item.properties.split()), None)
    ncx = ncx or next((item for item in manifest.values() if item.media_type == "application/x-dtbncx+xml"), None)
    for item, entries in ((navigation, _navigation_entries), (ncx, _ncx_entries)):
        data = get(item.path) if item else None
        if item is None or data is None:
            continue
        try:
            found = entries(markup.parse_xhtml(markup.decode(data)), posixpath.dirname(item.path))
        except MarkupError:
            continue  # a book without chapters is still a book
        if found:
            return found[:_MOST_DOCUMENTS]
    return []


def _navigation_entries(root: Any, folder: str) -> list[_Entry]:
    for nav in root.iter("{*}nav"):
        kinds = " ".join(value for key, value in nav.attrib.items() if key.rpartition("}")[2] in ("type", "epub:type", "role")).split()
        if "toc" in kinds or "doc-toc" in kinds:
            return [entry for link in nav.iter("{*}a") if (entry := _entry(folder, link.get("href"), visible(link)))]
    return []


def _ncx_entries(root: Any, folder: str) -> list[_Entry]:
    entries = []
    for point in root.iter("{*}navPoint", "{*}navpoint"):
        label = next(point.iter("{*}text"), None)
        content = next(point.iter("{*}content"), None)
        if content is not None and (entry := _entry(folder, content.get("src"), visible(label) if label is not None else "")):
            entries.append(entry)
    return entries


def _entry(folder: str, reference: str | None, title: str) -> _Entry | None:
    if not reference or not title:
        return None
    return _Entry(_inside(folder, reference), unquote(reference.partition("#")[2]), title[:300])


# --- the text


def _text(spine: list[_Item], entries: list[_Entry], get: Callable[[str], bytes | None], options: Options, meta: dict[str, Any]) -> Book:
    wanted: dict[str, set[str]] = {}
    for entry in entries:
        wanted.setdefault(entry.path, set()).add(entry.fragment)
    texts: list[str] = []
    removed: Counter[str] = Counter()
    starts: dict[str, int] = {}
    anchors: dict[tuple[str, str], int] = {}
    headings: list[Chapter] = []
    missing: list[str] = []
    at = documents = 0
    for item in spine:
        if item.media_type not in _TEXT_TYPES and item.media_type.startswith(("image/", "font/", "audio/", "video/", "text/css")):
            continue
        data = get(item.path)
        if data is None:
            missing.append(item.path)
            continue
        root = markup.parse_xhtml(markup.decode(data))
        found = book_html.extract(root, options.html, wanted=frozenset(wanted.get(item.path, ())), own_files=True)
        documents += 1
        removed.update(found.removed)
        if not item.linear and options.nonlinear == "drop":
            removed[NONLINEAR] += len(found.text)
            continue
        if found.text:  # a page of which nothing is left begins no chapter
            starts[item.path] = at
            anchors |= {(item.path, name): at + offset for name, offset in found.anchors.items()}
            headings += [Chapter(at + heading.offset, heading.title) for heading in found.headings]
            texts.append(found.text)
            at += len(found.text) + 2
    if missing and not documents:
        raise MarkupError("no_document", f"none of the {len(missing):,} documents of the spine is there: {missing[0][:200]}")
    text = "\n\n".join(texts)
    chapters = [Chapter(anchors.get((e.path, e.fragment), starts[e.path]), e.title) for e in entries if e.path in starts]
    places: dict[int, Chapter] = {}
    for chapter in chapters or headings:
        if chapter.offset < len(text):
            places.setdefault(chapter.offset, chapter)
    meta = {**meta, "documents": documents, "missing": missing[:100] or None}
    return Book(text, [places[offset] for offset in sorted(places)], removed, meta)
