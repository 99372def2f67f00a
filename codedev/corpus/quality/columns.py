"""The statistics as columns `q.<family>.<name>`. Scoring needs the text, and goes over it once for each kernel that the recipe asks for.

    q.chars q.words q.lines     every document: characters; words, by the recipe's definition in prose that is segmented, else by
                                `str.split`; lines that are not blank
    q.code.*                    code; q.code.visible and visible_chars HTML alone
    q.gopher.* and the rest     prose

A column is null where its family does not apply to the document's kind, q.code.comments where a
language's comments are not known. Shares are 0 where there is nothing to divide by.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev.corpus.buffers import text_buffers
from codedev.corpus.document import PROSE_KINDS
from codedev.corpus.language import is_among
from codedev.corpus.quality import bylanguage
from codedev.corpus.quality.moved import moved_spans
from codedev.corpus.recipe import C4, FAMILIES, Code, Gopher, Quality
from codedev.corpus.stage import Stage
from codedev.kernels import linecount, literals, marks, segment, textstats, words
from codedev.kernels import lines as line_kernel
from codedev.kernels.repetition import NGRAM_COLUMNS

VERSION = 5
DEFAULT = Quality(gopher=Gopher(), code=Code())

# Written without spaces between words: their own segmentation, whatever the recipe's definition (kernels/words.py).
UNSPACED = ("zh", "ja", "th", "lo", "km", "my", "bo", "dz", "yue", "wuu", "lzh", "shn", "ksw")

# Comment styles of kernels/textstats.py by programming language; others have no known comments.
_STYLES = {
    "c": "C C++ C# Java JavaScript TypeScript TSX Go Rust Scala Kotlin Swift PHP Dart Groovy Objective-C Objective-C++ Solidity Zig D Cuda "
    "GLSL HLSL Vala Verilog SystemVerilog Less SCSS ActionScript Arduino",
    "hash": "Ruby Perl Shell R Julia Elixir Nim Crystal Makefile CMake Dockerfile YAML TOML Tcl Awk PowerShell Raku Nix Starlark HCL",
    "python": "Python Cython",
    "dash": "Ada VHDL Elm",
    "haskell": "Haskell Agda PureScript Idris",
    "lua": "Lua",
    "sql": "SQL",
    "percent": "TeX Erlang MATLAB Prolog",
    "semicolon": "Clojure Scheme Racket Assembly",
    "ml": "OCaml F# Coq",
    "html": "HTML XML SVG Vue",
    "css": "CSS",
    "bang": "Fortran",
}
_STYLES["semicolon"] += " Common_Lisp Emacs_Lisp"
_STYLES["ml"] += " Standard_ML"

# Whose strings stand between backticks too, between three quotes too.
_BACKTICK = "JavaScript TypeScript JSX TSX Go Vue Svelte".split()
_TRIPLE = "Python Cython Kotlin Scala Swift Java Groovy Julia Elixir TOML Starlark C# F# Nim Dart".split()

_INTEGERS = frozenset({"q.chars", "q.words", "q.lines", "q.gopher.words"})
_COLUMNS: dict[str, tuple[str, ...]] = {
    "gopher": ("words", "mean_word_length", "symbol_ratio", "bullet_lines", "ellipsis_lines", "alpha_words", "stop_words"),
    "repetition": (
        "dup_lines", "dup_paragraphs", "dup_line_chars", "dup_paragraph_chars", *NGRAM_COLUMNS,
    ),
    "c4": ("kept_lines", *(f"{reason}_lines" for reason in line_kernel.REASONS), "lorem_ipsum_lines", "curly_bracket_lines", "sentences"),
    "fineweb": ("terminal_lines", "short_lines", "dup_line_chars", "newlines_per_word"),
    "refinedweb": ("flagged_words",),
    "maths": ("share", "commands"),
    "compression": ("ratio",),
    "code": (
        "max_line", "mean_line", "alnum", "alpha", "comments", "encoded", "encoded_run", "fertility", "max_string",
        "visible", "visible_chars",
    ),
}  # fmt: skip


def families(quality: Quality) -> list[str]:
    return [family for family in FAMILIES if getattr(quality, family) is not None]


def scores(quality: Quality) -> pa.Schema:
    """The columns that `scoring(quality)` appends."""
    names = ["q.chars", "q.words", "q.lines"] + [f"q.{family}.{name}" for family in families(quality) for name in _COLUMNS[family]]
    return pa.schema([pa.field(name, pa.int64() if name in _INTEGERS else pa.float32()) for name in names])


def needs_language(quality: Quality) -> bool:
    """Whether a filter asks what language a document is in, or words are parted by it."""
    return any(family not in ("compression", "code") for family in families(quality))


def version(quality: Quality) -> str:
    """What the columns, and a rewritten text, depend on: bounds are no part of it."""
    c4 = quality.c4
    lines = [*_line_rules(c4).items(), ("rewrite", c4.rewrite, c4.languages)] if c4 else []
    stops = bylanguage.stop_words_of(quality)
    return f"{VERSION}:{quality.words}:{','.join(families(quality))}:{lines}{f':{stops}' if stops else ''}"


def scoring(quality: Quality) -> Stage:
    """The Stage that appends the columns of `scores(quality)`. With `c4.rewrite`, families before C4 see the text as it was, those after it
    the lines that C4 keeps."""

    def stage(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Counter[str]]:
        counts = Counter(rows_in=batch.num_rows, rows_out=batch.num_rows)
        found: dict[str, np.ndarray] = {}
        kind = batch.column("kind").cast(pa.string())
        prose, code = _true(pc.is_in(kind, pa.array(sorted(PROSE_KINDS)))), _true(pc.equal(kind, "code"))
        asked = families(quality)
        text, given = batch.column("text"), [family for family in asked if family in ("gopher", "repetition")]
        segmented = None
        if given or ("fineweb" in asked and not _rewrites(quality)):
            segmented = _segmented(batch, text, quality, prose, ngrams="repetition" in asked)
            _add(found, _from_segments(segmented), given)
        if quality.c4:
            chosen = (
                prose & _true(is_among(batch.column("lang").cast(pa.string()), quality.c4.languages)) if quality.c4.languages else prose
            )
            before, text = text, _c4(text, quality.c4, chosen, found, counts)
            if quality.c4.rewrite:
                batch = batch.set_column(batch.schema.get_field_index("text"), "text", text)
                if (at := batch.schema.get_field_index("q.pii.spans")) >= 0:
                    moved = moved_spans(batch.column(at), before, text, citations=quality.c4.citations)
                    batch = batch.set_column(at, batch.schema.field(at), moved)
                segmented = None
        buffers = text_buffers(text)
        if "fineweb" in asked:
            segmented = _recounted(batch, text, quality, prose) if segmented is None else segmented
            _add(found, _of_lines(segmented), ["fineweb"])
        if "refinedweb" in asked:
            stats = _named(line_kernel.COLUMNS, line_kernel.line_stats(*buffers, wanted=prose))
            found["q.refinedweb.flagged_words"] = _share(stats["flagged_words"], stats["words"])
        if "maths" in asked:
            stats = _named(marks.MATHS_COLUMNS, marks.maths_stats(*buffers, prose))
            marked = stats["formula_chars"] + stats["command_chars"] + stats["symbols"]
            found["q.maths.share"] = np.minimum(_share(marked, stats["chars"]), 1)
            found["q.maths.commands"] = stats["commands"]
        if "compression" in asked:
            sizes = marks.compressed_sizes(*buffers, prose)
            found["q.compression.ratio"] = _share(sizes[:, 1], sizes[:, 0])
        _base(batch, buffers, code, prose, segmented, quality, found)
        schema = scores(quality)
        columns = [_column(found[field.name], field, {"code": ~code}.get(field.name.split(".")[1], ~prose)) for field in schema]
        scored = pa.RecordBatch.from_arrays(
            [*batch.columns, *columns], schema=pa.schema([*batch.schema, *schema], metadata=batch.schema.metadata)
        )
        return scored, counts

    return stage


SCORES = scores(DEFAULT)
score_stage = scoring(DEFAULT)


def _column(values: np.ndarray, field: pa.Field, masked: np.ndarray) -> pa.Array:
    """Not a number is null."""
    if field.type == pa.int64():
        return pa.array(values.astype(np.int64), mask=None if field.name.count(".") == 1 else masked)
    return pa.array(values.astype(np.float32), mask=masked | np.isnan(values))


def _base(
    batch: pa.RecordBatch,
    buffers: tuple[np.ndarray, np.ndarray],
    code: np.ndarray,
    prose: np.ndarray,
    segmented: dict[str, np.ndarray] | None,
    quality: Quality,
    found: dict[str, np.ndarray],
) -> None:
    """q.chars, q.words, q.lines and q.code.*: rows that are segmented already are not counted again."""
    wanted = np.ones(batch.num_rows, bool) if segmented is None else ~prose
    styles = _styles(batch) if quality.code else None
    stats = _named(textstats.COLUMNS, textstats.text_stats(*buffers, wanted=wanted, code=code if quality.code else None, styles=styles))
    for name, other in (("chars", "chars"), ("words", "words"), ("lines", "full_lines")):
        found[f"q.{name}"] = stats[name] if segmented is None else np.where(wanted, stats[name], segmented[other])
    if quality.code:
        found["q.code.max_line"] = stats["max_line"]
        found["q.code.mean_line"] = _share(stats["chars"], np.maximum(stats["lines"], 1))
        for name, column in (("alnum", "alnum"), ("alpha", "alpha"), ("comments", "comment_chars"), ("encoded", "encoded_chars")):
            found[f"q.code.{name}"] = _share(stats[column], stats["chars"])
        found["q.code.comments"][styles == 0] = np.nan
        found["q.code.encoded_run"] = stats["max_encoded"]
        quotes, html = _quotes(batch)
        counted = _named(literals.COLUMNS, literals.literal_stats(*buffers, code, quotes, html))
        found["q.code.fertility"] = _share(stats["chars"], counted["tokens"])
        found["q.code.max_string"] = counted["max_string"]
        found["q.code.visible_chars"] = np.where(html, counted["visible"], np.nan)
        found["q.code.visible"] = np.where(html, _share(counted["visible"], stats["chars"]), np.nan)


def _styles(batch: pa.RecordBatch) -> np.ndarray:
    """uint8[rows]: the comment style of each document's programming language."""
    return _by_name(
        batch, {name.replace("_", " "): list(textstats.STYLES).index(style) for style, names in _STYLES.items() for name in names.split()}
    )


def _quotes(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """(uint8[rows] of quotes beside the two of one character, bool[rows] is HTML)."""
    quotes = _by_name(batch, dict.fromkeys(_BACKTICK, literals.BACKTICK) | dict.fromkeys(_TRIPLE, literals.TRIPLE))
    return quotes, _by_name(batch, {"HTML": 1}).astype(bool)


def _by_name(batch: pa.RecordBatch, styles: dict[str, int]) -> np.ndarray:
    """uint8[rows]: the number of each document's programming language, 0 for others. A Python loop over the distinct languages alone."""
    encoded = batch.column("lang").cast(pa.string()).dictionary_encode()
    table = np.array([*(styles.get(name, 0) for name in encoded.dictionary.to_pylist()), 0], np.uint8)
    indices = encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
    chosen: np.ndarray = table[indices]
    return chosen


def _segmented(batch: pa.RecordBatch, text: pa.Array, quality: Quality, prose: np.ndarray, *, ngrams: bool) -> dict[str, np.ndarray]:
    definitions = _definitions(batch, quality, prose)
    lists, rows = bylanguage.stop_lists(batch.column("lang").cast(pa.string()), quality)
    return _named(segment.COLUMNS, segment.segment_stats(*text_buffers(text), definitions, ngrams=ngrams, stop_words=lists, stop_list=rows))


def _recounted(batch: pa.RecordBatch, text: pa.Array, quality: Quality, prose: np.ndarray) -> dict[str, np.ndarray]:
    """Of those columns the ones that FineWeb's rules and `_base` need."""
    definitions, buffers = _definitions(batch, quality, prose), text_buffers(text)
    spaced = definitions == words.DEFINITIONS.index("whitespace")
    counted = _named(linecount.COLUMNS, linecount.line_counts(*buffers, spaced))
    if (rest := np.where(spaced, segment.SKIP, definitions)).max(initial=segment.SKIP) > segment.SKIP:
        others = _named(segment.COLUMNS, segment.segment_stats(*buffers, rest, ngrams=False))
        counted = {name: values + others[name] for name, values in counted.items()}
    return counted


def _definitions(batch: pa.RecordBatch, quality: Quality, prose: np.ndarray) -> np.ndarray:
    """int8[rows]: what a word is, an index of words.DEFINITIONS; SKIP beyond prose."""
    definitions = np.full(batch.num_rows, words.DEFINITIONS.index(quality.words), np.int8)
    definitions[_true(is_among(batch.column("lang").cast(pa.string()), UNSPACED))] = words.DEFINITIONS.index("scripts")
    definitions[~prose] = segment.SKIP
    return definitions


def _from_segments(stats: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {
        "q.gopher.words": stats["real_words"],
        "q.gopher.mean_word_length": _share(stats["real_word_chars"], stats["real_words"]),
        "q.gopher.symbol_ratio": _share(np.maximum(stats["hashes"], stats["ellipses"]), stats["words"]),
        "q.gopher.bullet_lines": _share(stats["bullet_lines"], stats["split_lines"]),
        "q.gopher.ellipsis_lines": _share(stats["ellipsis_lines"], stats["split_lines"]),
        "q.gopher.alpha_words": _share(stats["alpha_words"], stats["words"]),
        "q.gopher.stop_words": stats["stop_words"],
        "q.repetition.dup_lines": _share(stats["dup_lines"], stats["lines"]),
        "q.repetition.dup_paragraphs": _share(stats["dup_paragraphs"], stats["paragraphs"]),
    }
    for name in ("dup_line_chars", "dup_paragraph_chars", *NGRAM_COLUMNS):
        found[f"q.repetition.{name}"] = _share(stats[name], stats["chars"])
    return found


def _of_lines(stats: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "q.fineweb.terminal_lines": _share(stats["terminal_lines"], stats["full_lines"]),
        "q.fineweb.short_lines": _share(stats["short_lines"], stats["full_lines"]),
        "q.fineweb.dup_line_chars": _share(stats["dup_full_line_chars"], stats["chars"] - stats["newlines"]),
        "q.fineweb.newlines_per_word": _share(stats["newlines"], stats["words"]),
    }


def _add(found: dict[str, np.ndarray], computed: dict[str, np.ndarray], chosen: list[str]) -> None:
    found.update({name: values for name, values in computed.items() if name.split(".")[1] in chosen})


def _rewrites(quality: Quality) -> bool:
    return quality.c4 is not None and quality.c4.rewrite


def _line_rules(config: C4 | None) -> dict[str, Any]:
    config = config or C4()
    return {
        "citations": config.citations,
        "terminal": config.terminal_punctuation,
        "min_words": config.min_line_words,
        "max_word_length": config.max_word_length,
        "javascript": config.javascript,
        "policy": config.policy,
    }


def _c4(text: pa.Array, config: C4, chosen: np.ndarray, found: dict[str, np.ndarray], counts: Counter[str]) -> pa.Array:
    """The columns q.c4.*; the text, rewritten if the recipe asks for it. A document of which no line would stay is left as it is:
    the filter drops it, and shows it."""
    data, offsets = text_buffers(text)
    if config.rewrite:
        kept, bounds, raw = line_kernel.kept_lines(data, offsets, **_line_rules(config), flagged=False, wanted=chosen)
    else:
        raw = line_kernel.line_stats(data, offsets, **_line_rules(config), flagged=False, wanted=chosen)
    stats = _named(line_kernel.COLUMNS, raw)
    for name in _COLUMNS["c4"]:
        is_share = name.endswith("_lines") and name not in ("lorem_ipsum_lines", "curly_bracket_lines")
        found[f"q.c4.{name}"] = _share(stats[name], stats["lines"]) if is_share else stats[name]
    if not config.rewrite:
        return text
    lines = pa.LargeStringArray.from_buffers(len(text), pa.py_buffer(bounds), pa.py_buffer(kept))
    changed = pa.array(chosen & (stats["kept_lines"] > 0) & _true(pc.fill_null(pc.not_equal(lines, text), False)))
    rewritten = pc.if_else(changed, lines, text)
    counts["note.rewritten"] += pc.sum(changed).as_py() or 0
    counts["note.cut_bytes"] += (pc.sum(pc.binary_length(text)).as_py() or 0) - (pc.sum(pc.binary_length(rewritten)).as_py() or 0)
    return rewritten


def _named(names: tuple[str, ...], stats: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(names, stats.T, strict=True))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = part / np.maximum(whole, 1)
    return quotient


def _true(mask: pa.Array) -> np.ndarray:
    values: np.ndarray = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return values
