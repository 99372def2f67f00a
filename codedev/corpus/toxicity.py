"""Toxic language: words of lists per language (q.toxic.words, matches a thousand words) and a trained classifier (q.toxic.score).

Lists are files that the recipe names, one word or phrase a line (LDNOOBW's files are such, CC-BY-4.0); none come with codedev, and what
counts as toxic is the recipe's to say. Whole words match, case folded; where a script writes no spaces, runs of characters do. Words alone
cannot tell an insult from a quotation, a dictionary or a medical text: they are a column first, the bound is the recipe's.
The classifier is any fastText model, one of `codedev corpus quality train` with toxic documents as the positive ones among them.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError, printable
from codedev._run import content_key
from codedev.corpus.buffers import text_buffers
from codedev.corpus.learned.classifier import learned_stage
from codedev.corpus.learned.classifier import version as learned_version
from codedev.corpus.learned.config import Learned, Toxicity, ToxicityModel
from codedev.corpus.learned.files import Stamp, content_hash, stamp, unreadable
from codedev.corpus.learned.rows import scattered, shared_out
from codedev.corpus.stage import Filter, Rule, Stage, rule_filter
from codedev.kernels import wordlist
from codedev.kernels.wordlist import WordList

VERSION = 2
MISSING = "there is no such list; a list has one word or phrase a line"
LARGEST = 16 << 20  # bytes of a list
_WORDS, _SCORE = pa.field("q.toxic.words", pa.float32()), pa.field("q.toxic.score", pa.float32())


def columns(config: Toxicity) -> pa.Schema:
    """The columns that `toxicity_stage` appends."""
    return pa.schema([*([_WORDS] if config.lists else []), *([_SCORE] if config.classifier else [])])


def version(config: Toxicity, base: Path = Path()) -> str:
    """What the columns depend on."""
    lists = {tag: [content_hash(stamp(base / path, MISSING)) for path in paths] for tag, paths in config.lists.items()}
    return content_key(VERSION, lists, learned_version(_learned(config.classifier), base) if config.classifier else None)


def read_list(paths: tuple[str, ...], base: Path = Path()) -> WordList:
    """The lists as one. Lines are stripped, case is folded; empty lines and those that are "#" or begin with "#" and a blank are none.
    Raises InputError for a file that is no list, or holds no word."""
    return _read(tuple(stamp(base / name, MISSING) for name in paths))


@functools.lru_cache(maxsize=64)
def _read(files: tuple[Stamp, ...]) -> WordList:
    phrases: list[str] = []
    found = wordlist.listed([])
    for path, _, size, _ in files:
        if size > LARGEST:
            raise InputError(f"{path}: {size} bytes; lists of at most {LARGEST} are read")
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is not UTF-8 text (at byte {error.start}); save it as UTF-8") from None
        except OSError as error:
            raise unreadable(path, error) from None
        own = [unicodedata.normalize("NFC", line.strip()) for line in lines if line.strip() not in ("", "#") and not line.startswith("# ")]
        try:
            found = wordlist.listed(folded(own))
        except ValueError as error:
            raise InputError(printable(f"{path}: {error}")) from None
        if not found.longest:
            raise InputError(f"{path}: holds no word; a list has one word or phrase a line")
        phrases += own
    return found if len(files) == 1 else wordlist.listed(folded(phrases))


def folded(phrases: list[str]) -> list[str]:
    """The phrases as texts have them once their case is folded: as they are written, and as they are written in capitals, whose small
    letters may be others (STRASSE, ΚΑΚΟΣ with another sigma). Not where there is a Turkish ı: an I is no sign of one."""
    spelt = [*phrases, *(phrase.upper() for phrase in phrases if "ı" not in phrase)]
    lower: list[str] = pc.utf8_lower(pa.array(spelt, pa.large_string())).to_pylist()
    return lower


def per_thousand(words: WordList, texts: pa.Array) -> np.ndarray:
    """float32[rows]: matches a thousand words of a large_string array; NaN for a text without words."""
    hits, totals = wordlist.count(words, *text_buffers(pc.utf8_lower(texts)))
    return (1000 * hits / np.where(totals > 0, totals, np.nan)).astype(np.float32)


def toxicity_stage(config: Toxicity, base: Path = Path()) -> Stage:
    """A Stage: the columns of `columns`, null for documents that are not judged. Languages are to be known before."""
    lists = {tag: read_list(paths, base) for tag, paths in config.lists.items()}
    classify = learned_stage("toxic", _learned(config.classifier), base, _SCORE.name) if config.classifier else None

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
        if lists:
            schema = pa.schema([*batch.schema, _WORDS], metadata=batch.schema.metadata)
            batch = pa.RecordBatch.from_arrays([*batch.columns, _counted(batch, lists)], schema=schema)
        return (classify(batch)[0] if classify else batch), counts

    return stage


def _counted(batch: pa.RecordBatch, lists: dict[str, WordList]) -> pa.Array:
    """q.toxic.words of each row, by the list of its language."""
    found = np.full(batch.num_rows, np.nan, np.float32)
    for tag, mine in shared_out(batch, lists):
        found[mine] = per_thousand(lists[tag], batch.column("text").filter(pa.array(mine)))
    return scattered(found, pa.array(np.ones(batch.num_rows, bool)))


def toxicity_filter(config: Toxicity) -> Filter:
    """Reasons `toxic_words` and `toxic_score`."""
    words, score = (
        Rule(_WORDS.name, None, config.max_words, too_high="toxic_words"),
        Rule(_SCORE.name, None, config.max_score, too_high="toxic_score"),
    )
    return rule_filter([*([words] if config.lists else []), *([score] if config.classifier else [])])


def _learned(config: ToxicityModel) -> Learned:
    return Learned(**config.model_dump())
