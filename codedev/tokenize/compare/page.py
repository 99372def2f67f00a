"""A comparison as one HTML file that asks for nothing: no network, no fonts, no images, and a policy that forbids them.

Document text comes from strangers: it is escaped, and its invisible characters are spelled out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codedev import __version__
from codedev.corpus.report import charts, shell
from codedev.corpus.report.charts import esc
from codedev.corpus.report.figure import table
from codedev.corpus.report.text import count, size
from codedev.tokenize.compare import Comparison
from codedev.tokenize.compare.excerpts import Excerpt, Token
from codedev.tokenize.compare.figures import BY, METRICS
from codedev.tokenize.compare.tables import TITLES, Row, by_group, cell, labels, overall

_COLOURS = "abcde"
_BARS = 24  # groups that get a chart; all are in the table
_UNREADABLE = re.compile("([\udc80-\udcff]+)")  # how `surrogateescape` writes bytes that are no UTF-8
_BY_TABLES = (
    "bytes_per_token",
    "fertility",
    "words_whole",
    "tokens_per_document",
    "commands_aligned",
    "commands_whole",
    "lexemes_aligned",
    "one_byte_tokens",
    "partial_tokens",
    "lossless",
)


def render(comparison: Comparison) -> str:
    """The page as text; the same comparison gives the same bytes."""
    figures = comparison.figures
    short = labels([one["name"] for one in figures["tokenizers"]])
    sections = [
        ("overall", "Overall", "Over the whole sample. The best of a row is in colour.", _overall(figures, short)),
        *((f"by-{by}", TITLES[by], "Bytes per token: more bytes, fewer tokens to train on.", _by(figures, short, by)) for by in BY),
        ("texts", "Texts", "The same texts, token by token. Point at a token for its id and bytes.", _texts(comparison, short)),
        (
            "worst",
            "Worst documents",
            "Where a tokenizer needs most tokens beside the others: the piece where the difference is largest, beside the best of them.",
            _worst(comparison, short),
        ),
        ("how", "How it is measured", "What the rows of the first table count.", _how(figures)),
    ]
    return shell.page("Tokenizers compared", _facts(figures), sections, Path(__file__).parent / "tokens.css")


def _facts(figures: dict[str, Any]) -> str:
    sample, corpus = figures["sample"], figures["corpus"]
    facts = (
        f"codedev {esc(__version__)} · corpus <code>{esc(corpus['path'])}</code>, manifest <code>{esc(corpus['manifest_hash'])}</code> · "
        f"a sample of {size(sample['bytes'])} in {count(sample['documents'])} documents, seed {sample['seed']}"
    )
    if sample["cut_documents"]:
        facts += f" · of {count(sample['cut_documents'])} documents the first {size(sample['document_bytes'])}"
    return facts


def _overall(figures: dict[str, Any], short: list[str]) -> str:
    names = [
        [label, one["name"], one["size"], one["hash"], "kernels" if one["why_library"] is None else f"library: {one['why_library']}"]
        for label, one in zip(short, figures["tokenizers"], strict=True)
    ]
    who = [("tokenizer", "text"), ("path", "text"), ("vocabulary", "count"), ("hash", "text"), ("encoded by", "text")]
    drawn = _table("Figures", ["", *short], [(None, row) for row in overall(figures)])
    return drawn + charts.table(table("The tokenizers", who, names))


def _by(figures: dict[str, Any], short: list[str], by: str) -> str:
    rows = by_group(figures, by, "bytes_per_token")
    if not rows:
        return ""
    total = sum(held for held, _ in rows)
    cards = []
    for held, row in rows[:_BARS]:
        best = max(value for value in row.values if value is not None)
        bars = [
            {
                "label": label,
                "value": round(value, 3),
                "share": value / best,
                "note": "of the best",
                "tone": "kept" if value == best else "joined",
            }
            for label, value in zip(short, row.values, strict=True)
            if value is not None
        ]
        cards.append({"name": row.title, "note": f"{size(held)}, {held / total:.1%} of these", "unit": "text", "bars": bars})
    heads = [TITLES[by].removeprefix("By ").capitalize(), "bytes", *short]
    tables = [
        _table(metric.title, heads, list(some))
        for metric in METRICS
        if metric.key in _BY_TABLES and (some := by_group(figures, by, metric.key))
    ]
    words = "As tables, with fertility, LaTeX commands, lexemes and parts of characters" if by != "programming_language" else "As tables"
    return charts.bars({"groups": cards}) + f'<details class="more"><summary>{words}</summary>{"".join(tables)}</details>'


def _table(caption: str, heads: list[str], rows: Sequence[tuple[int | None, Row]]) -> str:
    """Rows of figures, the best of each marked; with the bytes of the sample where they are given."""
    drawn = []
    for held, row in rows:
        cells = f'<th scope="row" dir="auto">{esc(row.title)}</th>'
        if held is not None:
            cells += f'<td class="n" data-v="{held}">{size(held)}</td>'
        for value, best in zip(row.values, row.best, strict=True):
            sort = "" if value is None else f' data-v="{value}"'
            cells += f'<td class="n{" best" * best}"{sort}>{esc(cell(value, row.unit))}</td>'
        drawn.append(f"<tr>{cells}</tr>")
    first, *others = heads
    head = f'<th scope="col">{esc(first)}</th>' + "".join(f'<th scope="col" class="n">{esc(name)}</th>' for name in others)
    label = esc(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><caption>{label}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(drawn)}</tbody></table></div>"
    )


def _texts(comparison: Comparison, short: list[str]) -> str:
    return f'<div class="texts">{"".join(_excerpt(comparison, text, short, range(len(short)), "") for text in comparison.texts)}</div>'


def _worst(comparison: Comparison, short: list[str]) -> str:
    drawn = []
    for own, some in enumerate(comparison.worst):
        for bad, text in some:
            others = [index for index in range(len(short)) if index != own]
            best = min(others, key=lambda index: len(text.tokens[index]), default=None)
            said = f"{bad.ratio:.2f} times the {'others' if others else 'mean'}, {count(bad.tokens)} tokens in all"
            drawn.append(_excerpt(comparison, text, short, [own] if best is None else [own, best], f"{short[own]}: {said}"))
    return f'<div class="texts">{"".join(drawn)}</div>' if drawn else ""


def _excerpt(comparison: Comparison, text: Excerpt, short: list[str], which: Any, said: str) -> str:
    sample, row = comparison.sample, text.document
    kind = " ".join(filter(None, (sample.kinds[row], sample.languages[row])))
    head = f"<h3>{esc(said or kind)}</h3>"
    head += f'<span class="badge">{esc(kind if said else sample.sources[row])}</span><code>{esc(sample.ids[row])}</code>'
    length = len(text.text.encode())
    sides = "".join(_side(short[index], text.tokens[index], length) for index in which)
    return f'<article class="excerpt"><header>{head}</header><div class="sides">{sides}</div></article>'


def _side(label: str, tokens: list[Token], length: int) -> str:
    said = f"{count(len(tokens))} tokens, {length / max(1, len(tokens)):.2f} bytes each"
    head = f"<p><b>{esc(label)}</b><span>{said}</span></p>"
    return f'<div class="side">{head}<pre dir="auto" tabindex="0">{_tokens(tokens)}</pre></div>'


def _tokens(tokens: list[Token]) -> str:
    return "".join(
        f'<i class="{colour}" data-t="{_told(token)}">{_shown(token)}</i>'
        for token, colour in zip(tokens, itertools.cycle(_COLOURS), strict=False)
    )


def _told(token: Token) -> str:
    octets = token.data[:24].hex(" ") + " …" * (len(token.data) > 24)
    part = f" of {token.text}" if _UNREADABLE.search(token.data.decode("utf-8", "surrogateescape")) else ""
    return esc(f"id {token.id} · {len(token.data)} {'byte' if len(token.data) == 1 else 'bytes'}: {octets}{part} · {token.name[:40]}")


def _shown(token: Token) -> str:
    """The token's text; bytes that are no characters by themselves in hexadecimal, line ends and tabs with a sign; its name where it covers
    nothing."""
    if not token.data:
        return f"<b>{esc(token.name) or '∅'}</b>"
    parts = []
    for piece in _UNREADABLE.split(token.data.decode("utf-8", "surrogateescape")):
        if _UNREADABLE.match(piece):
            parts.append(f"<b>{piece.encode('utf-8', 'surrogateescape').hex(' ')}</b>")
        else:
            parts.append(esc(piece).replace("\n", "<s>↵</s>\n").replace("\t", "<s>→</s>\t"))
    return "".join(parts)


def _how(figures: dict[str, Any]) -> str:
    facts, sample = figures["facts"]["overall"], figures["sample"]
    rows = [
        ["tokens per word", f"{count(facts['words'])} words of natural language, punctuation among them; an ideograph is a word"],
        [
            "words that are one token",
            f"{count(facts['lettered'])} words with a letter or a digit; the token may begin with the blank before",
        ],
        ["LaTeX commands", f"{count(facts['commands'])} of a backslash and letters. Aligned: both ends are ends of tokens"],
        [
            "code lexemes",
            f"{count(facts['lexemes'])} names, numbers, operators and keywords, by Python's tokenize and tree-sitter's grammars",
        ],
        ["numbers", f"{count(facts['numbers'])} of 4 and more digits; with 3, 6, 9 … digits threes from either side are the same"],
        ["decoded to themselves", f"{count(facts['documents'])} documents"],
        ["speed", "per second of CPU time on one thread: the sample once, and once more"],
    ]
    rows += [[f"lexemes of {language}", f"not looked at: {why}"] for language, why in sample["not_parsed"].items()]
    return charts.table(table("What is counted", [("row", "text"), ("of what", "text")], rows))
