"""Openly licensed texts to learn languages from, as they lie in an unpacked folder of data: (tag, name of the set, lines).

    nltk__nltk_data/packages/corpora/udhr2.zip            Universal Declaration of Human Rights, public domain, 330 languages and more
    facebookresearch__LASER/data/tatoeba/v1/tatoeba.*     sentences of Tatoeba, CC-BY 2.0 FR, 112 languages
    christos-c__bible-corpus/bibles/*.xml                 bibles, CC0 compilation
    any TAG.txt or TAG.*.txt of a folder given by name    the user's own

A tag whose script is not the language's first has it as subtag: sr-Latn, uz-Cyrl.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from codedev._errors import InputError
from codedev.corpus.language.tags import short_tag, with_script

Lines = tuple[str, str, list[str]]  # tag, set, lines

_UDHR, _TATOEBA = "nltk__nltk_data/packages/corpora/udhr2.zip", "facebookresearch__LASER/data/tatoeba/v1"
_BIBLES = "christos-c__bible-corpus/bibles"
_SCRIPTS = {"cyrl": "Cyrl", "latn": "Latn", "arab": "Arab", "tfng": "Tfng", "mong": "Mong", "tglg": "Tglg"}
# Files that are not what their names say: numbered drafts, and a Kurmanji text under the code of Sorani.
_UDHR_TAGS = {"ckb": "ku", "auv": "oc", "prv": "oc", "lnc": "oc", "gax": "om", "mly": "ms", "aka": "ak", "knc": "kr", "kng": "kg"}
_UDHR_DRAFTS = re.compile(r"\d+")
_TATOEBA_TAGS = {"kur": "ku", "nor": "nb", "nob": "nb", "arq": "ar", "arz": "ar", "wuu": "zh", "yue": "zh"}
_BIBLE_TAGS = {
    "Basque": "eu", "Manx": "gv", "Romani": "rmn", "Tuareg": "tmh", "Wolaytta": "wal", "Kabyle": "kab", "Dinka": "din", "Cabecar": "cjp",
    "Quichua": "qug", "Shuar": "jiv", "Zulu": "zu", "Ewe": "ee",
}  # fmt: skip
_SEGMENT = re.compile(r"<seg\b[^>]*>([^<]*)</seg>")
_ENTITY = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


def gather(data: Path) -> Iterator[Lines]:
    """The texts of all the sets that `data` holds, in a fixed order. Raises InputError when it holds none of them."""
    found = False
    for read, path in ((_udhr, data / _UDHR), (_tatoeba, data / _TATOEBA), (_bibles, data / _BIBLES), (_own, data)):
        if path.exists():
            for lines in read(path):
                found = True
                yield lines
    if not found:
        raise InputError(f"{data}: none of {_UDHR}, {_TATOEBA}, {_BIBLES} or TAG.txt; unpack ../shared/data there, or name another folder")


def _udhr(path: Path) -> Iterator[Lines]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            stem = Path(name).stem
            if not name.endswith(".txt") or _UDHR_DRAFTS.fullmatch(stem) or archive.getinfo(name).file_size > 1 << 24:
                continue
            code, *rest = re.split("[_-]", stem)
            tag = _UDHR_TAGS.get(code) or short_tag(code)
            script = next((_SCRIPTS[part] for part in rest if part in _SCRIPTS), None)
            yield with_script(tag, script) if script else tag, "udhr", _lines(archive.read(name).decode("utf-8", "replace"), 16)


def _tatoeba(path: Path) -> Iterator[Lines]:
    for file in sorted(path.glob("tatoeba.*.*")):
        _, pair, code = file.name.split(".")
        if code != "eng" or pair == "deu-eng":  # English stands in every pair
            yield _TATOEBA_TAGS.get(code) or short_tag(code), "tatoeba", _lines(file.read_text("utf-8", "replace"), 1)


def _bibles(path: Path) -> Iterator[Lines]:
    for file in sorted(path.glob("*.xml")):
        if tag := _BIBLE_TAGS.get(file.stem.split("-")[0]):
            # Verses between tags; nothing else of XML is needed, and no parser sees the file.
            verses = (re.sub(r"&(\w+);", lambda m: _ENTITY.get(m[1], " "), verse).strip() for verse in _SEGMENT.findall(file.read_text()))
            yield tag, "bible", [verse for verse in verses if len(verse) > 15]


def _own(path: Path) -> Iterator[Lines]:
    for file in sorted(path.glob("*.txt")):
        if re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", tag := file.name.split(".")[0]):
            yield tag, file.name, _lines(file.read_text("utf-8", "replace"), 1)


def _lines(text: str, least: int) -> list[str]:
    return [line for raw in text.split("\n") if len(line := raw.strip()) >= least]
