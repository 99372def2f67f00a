"""results.json as one HTML file, in the frame of the corpus report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from codedev.ablate.variants import BASE
from codedev.corpus.report.charts import esc
from codedev.corpus.report.shell import page

_GUIDE = (
    "Less is better. The difference is taken from the base within each seed; its interval of 95 % is Student's over seeds. "
    "Bold: the interval leaves out zero."
)


def render(results: dict[str, Any]) -> str:
    """The page as text."""
    names = list(results["variants"])
    held = results["held_out"]
    facts = (
        f"{len(names) - 1} variants beside the recipe as it is · {results['seeds']} seeds · {results['tokens']:,} tokens in each run "
        f"· {held['documents']:,} held-out documents, {held['bytes']:,} bytes"
    )
    sections = [
        (
            "bits",
            "Bits per byte of held-out documents",
            _GUIDE,
            _table(["", *names], (_bits(results, domain, names) for domain in results["domains"])),
        ),
        (
            "data",
            "What the variants hold",
            "Epochs: how often a variant's own tokens were trained on.",
            _table(["", *names], _data(results, names)),
        ),
        ("reasons", "What they drop", "Records by stage and reason.", _table(["", *names], _reasons(results, names))),
        ("seeds", "Every run", f"Bits per byte: {next(iter(results['domains']))}.", _table(["seed", *names], _seeds(results, names))),
    ]
    return page("Ablation", esc(facts), sections)


def _bits(results: dict[str, Any], domain: str, names: Sequence[str]) -> list[str]:
    cells = [f"<th scope=row>{esc(domain)} <small>({results['domains'][domain]:,})</small></th>"]
    for name in names:
        one = results["bits"][name][domain]
        value, difference = one["bits_per_byte"]["mean"], one["difference"]
        if difference is None:
            cells.append(f'<td class="n">{value:.4f}</td>')
            continue
        told = difference_told(difference)
        cells.append(f'<td class="n">{value:.4f}<br><small>{f"<b>{esc(told)}</b>" if difference["tells"] else esc(told)}</small></td>')
    return cells


def difference_told(one: dict[str, Any]) -> str:
    """Mean and interval of a difference, with their signs."""
    told = f"{one['mean']:+.4f}"
    if one["low"] is not None:
        told += f" ({one['low']:+.4f} to {one['high']:+.4f})"
    return told.replace("-", "−")


def _data(results: dict[str, Any], names: Sequence[str]) -> Iterable[list[str]]:
    shown = (
        ("documents", "{:,}"),
        ("bytes", "{:,}"),
        ("tokens", "{:,}"),
        ("epochs", "{:.2f}"),
        ("dropped", "{:,}"),
        ("drop_share", "{:.1%}"),
    )
    for key, form in shown:
        label = key.replace("_", " ")
        yield [f"<th scope=row>{label}</th>", *(f'<td class="n">{form.format(results["variants"][name][key])}</td>' for name in names)]


def _reasons(results: dict[str, Any], names: Sequence[str]) -> Iterable[list[str]]:
    reasons = dict.fromkeys(reason for name in names for reason in results["variants"][name]["reasons"])
    for reason in reasons:
        counts = [results["variants"][name]["reasons"].get(reason, 0) for name in names]
        yield [f"<th scope=row>{esc(reason)}</th>", *(f'<td class="n">{count:,}</td>' for count in counts)]


def _seeds(results: dict[str, Any], names: Sequence[str]) -> Iterable[list[str]]:
    for seed in range(results["seeds"]):
        values = [results["bits"][name][next(iter(results["domains"]))]["seeds"][seed] for name in names]
        yield [f"<th scope=row>{seed}</th>", *(f'<td class="n">{value:.4f}</td>' for value in values)]


def _table(heads: Sequence[str], rows: Iterable[list[str]]) -> str:
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    if not body:
        return ""
    aligned = [(head, ' class="n"' if at else "") for at, head in enumerate(heads)]
    marked = "".join(f'<th scope="col"{numeric}>{esc(f"{head} (as it is)" if head == BASE else head)}</th>' for head, numeric in aligned)
    shown = f"<table><thead><tr>{marked}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="table">{shown}</div>'
