"""A comparison of evaluations as one HTML file: scores side by side, then the questions on which models differ.

Questions and answers come from strangers and from models: they are escaped, and their invisible characters are spelled out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codedev import __version__
from codedev.corpus.report import charts, shell
from codedev.corpus.report.charts import esc
from codedev.corpus.report.figure import table
from codedev.corpus.report.text import clip, count
from codedev.eval.compare import Comparison, Differing, Said, between, difference, figure, interval, lower_is_better
from codedev.tokenize import compare as tokenizers

_CUT = 4000  # characters of a prompt, whose end is shown, and of an answer


def render(comparison: Comparison) -> str:
    """The page as text; the same comparison gives the same bytes."""
    figures = comparison.figures
    labels = [run["label"] for run in figures["runs"]]
    paired = (
        "Both models on the same questions, the other less the first, with 95 % of the bootstrap over questions drawn for both at once."
    )
    sections: list[shell.Section] = [
        (
            "scores",
            "Scores",
            "With intervals of 95 %. The best of a row is in colour; the arrow says where better is.",
            _scores(figures, labels),
        ),
        ("differences", "Differences", paired, _differences(figures, labels)),
        ("groups", "By group", "Each task's first metric, where all models were asked the same groups.", _groups(figures, labels)),
        *_questions(comparison, labels),
        ("models", "Models", "What was evaluated.", _models(figures)),
    ]
    tasks = len(figures["tasks"])
    facts = f"codedev {esc(__version__)} · {len(labels)} models · {tasks} task{'s' * (tasks != 1)} · " + ", ".join(
        f"<code>{esc(label)}</code>" for label in labels
    )
    sheets = (Path(tokenizers.__file__).parent / "tokens.css", Path(__file__).parent / "page.css")
    return shell.page("Models compared", facts, sections, *sheets)


def _scores(figures: dict[str, Any], labels: list[str]) -> str:
    rows = []
    for task in figures["tasks"]:
        for metric, found in task["scores"].items():
            arrow = "↓" if lower_is_better(metric) else "↑" if metric not in ("gzip", "zstd") else ""
            rows.append((f"{task['name']} · {metric} {arrow}".strip(), metric, found))
            rows += _without_seen(task, metric)
    return _table("Scores", ["task and metric", *labels], rows)


def _without_seen(task: dict[str, Any], metric: str) -> list[tuple[str, str, list[Any]]]:
    """The score without the questions that a training corpus holds, where a model has some."""
    held = task["contamination"]
    if not any(one and one["seen"] for one in held):
        return []
    scores = [((one or {}).get("scores") or {}).get("unseen") or {} for one in held]
    return [(f"{task['name']} · {metric}, not in training", metric, [one.get(metric) for one in scores])] if any(scores) else []


def _table(caption: str, heads: list[str], rows: list[tuple[str, str, list[dict[str, Any] | None]]]) -> str:
    drawn = []
    for title, metric, found in rows:
        values = [one["value"] for one in found if one is not None and one["value"] is not None]
        best = (min if lower_is_better(metric) else max)(values, default=None) if len(set(values)) > 1 else None
        cells = f'<th scope="row" dir="auto">{esc(title)}</th>'
        for one in found:
            if one is None or one["value"] is None:
                cells += '<td class="n">–</td>'
                continue
            told = interval(metric, one["low"], one["high"])
            mark = " best" * (one["value"] == best and metric not in ("gzip", "zstd"))
            cells += f'<td class="n{mark}" data-v="{one["value"]}">{esc(figure(metric, one["value"]))}'
            cells += (f'<small class="range">{esc(told)}</small>' if told else "") + "</td>"
        drawn.append(f"<tr>{cells}</tr>")
    return _frame(caption, heads, drawn)


def _frame(caption: str, heads: list[str], rows: list[str]) -> str:
    first, *others = heads
    head = f'<th scope="col">{esc(first)}</th>' + "".join(f'<th scope="col" class="n">{esc(name)}</th>' for name in others)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}"><table><caption>{esc(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _differences(figures: dict[str, Any], labels: list[str]) -> str:
    rows = []
    for task in figures["tasks"]:
        for label, found in zip(labels[1:], task["against_first"][1:], strict=True):
            if found is None:
                continue
            metric = task["metric"]
            told, shown = between(metric, found), difference(metric, found["value"])
            sure = found["low"] is not None and (found["low"] > 0 or found["high"] < 0)
            verdict = "more than chance" if sure else "may be chance"
            cells = [f'<th scope="row" dir="auto">{esc(task["name"])} · {esc(metric)}: {esc(label)} less {esc(labels[0])}</th>']
            cells.append(f'<td class="n" data-v="{found["value"]}">{esc(shown)}<small class="range">{esc(told)}</small></td>')
            cells.append(f"<td>{verdict}</td>")
            cells += [
                f'<td class="n" data-v="{number}">{count(number)}</td>' for number in (found["better"], found["worse"], task["common"])
            ]
            rows.append(f"<tr>{''.join(cells)}</tr>")
    if not rows:
        return ""
    heads = ["", "difference", "", "better", "worse", "questions"]
    drawn = _frame("Differences on the same questions", heads, rows)
    notes = [
        f"{task['name']}: {count(task['other_prompts'])} of its {count(task['common'])} questions were put in other words to some models"
        for task in figures["tasks"]
        if task["other_prompts"]
    ]
    notes += [
        f"{task['name']}: compared on the {count(task['common'])} questions that all were asked"
        for task in figures["tasks"]
        if any(number != task["common"] for number in task["questions"])
    ]
    notes += [f"Only {label} was asked {', '.join(own)}" for label, own in figures["only"].items()]
    return drawn + "".join(f'<p class="note">{esc(one)}.</p>' for one in notes)


def _groups(figures: dict[str, Any], labels: list[str]) -> str:
    parts = []
    for task in figures["tasks"]:
        if task["groups"]:
            rows = [(group, task["metric"], found) for group, found in task["groups"].items()]
            drawn = _table(f"{task['name']}, {task['metric']}", ["group", *labels], rows)
            words = f"{task['name']}: {len(rows)} group{'s' * (len(rows) != 1)}"
            parts.append(f'<details class="more"{" open" if len(rows) <= 12 else ""}><summary>{esc(words)}</summary>{drawn}</details>')
    return "".join(parts)


def _questions(comparison: Comparison, labels: list[str]) -> list[shell.Section]:
    sections = []
    for number, task in enumerate(comparison.figures["tasks"]):
        some = comparison.differing[task["name"]]
        if not some:
            continue
        kind = "documents" if task["kind"] == "text" else "questions"
        guide = f"{count(task['differ'])} of {count(task['common'])} {kind} have another score"
        if task["other_words"]:
            guide += f", {count(task['other_words'])} another answer and the same score"
        if len(some) < task["differ"] + task["other_words"]:
            guide += f"; the {len(some)} with the largest difference are here"
        drawn = "".join(_article(task, one, labels) for one in some)
        sections.append((f"task-{number}", task["name"], guide + ".", f'<div class="texts">{drawn}</div>'))
    return sections


def _article(task: dict[str, Any], one: Differing, labels: list[str]) -> str:
    group = f'<span class="badge">{esc(one.group)}</span>' if one.group else ""
    head = f"<h3>{esc(one.id)}</h3>{group}"
    gold = f'<span class="gold">gold: <b dir="auto">{esc(clip(one.gold, 200))}</b></span>' if one.gold and task["kind"] != "code" else ""
    asked = one.asked if len(one.asked) <= _CUT else "…" + one.asked[-_CUT:]
    quoted = f'<pre class="asked" dir="auto" tabindex="0" aria-label="what was asked">{esc(asked)}</pre>'
    sides = "".join(_side(task, label, said) for label, said in zip(labels, one.said, strict=True))
    return f'<article class="excerpt"><header>{head}{gold}</header>{quoted}<div class="sides">{sides}</div></article>'


def _side(task: dict[str, Any], label: str, one: Said) -> str:
    if task["kind"] == "text":
        return f'<div class="side"><p><b>{esc(label)}</b><span>{esc(figure("bits_per_byte", one.score))} bits per byte</span></p></div>'
    verdict = {0.0: ("wrong", "✗ wrong"), 1.0: ("right", "✓ right")}.get(
        one.score, ("", f"{100 * one.score:.0f} %" if one.score == one.score else "–")
    )
    told = f'<span class="verdict {verdict[0]}">{esc(verdict[1])}</span>'
    text = clip(one.text or one.said, _CUT)
    answer = (
        f'<p class="note">answer: <b dir="auto">{esc(clip(one.said, 200))}</b></p>'
        if one.text and one.text != one.said and task["kind"] != "code"
        else ""
    )
    shown = (
        f'<pre dir="auto" tabindex="0" aria-label="what {esc(label)} said">{esc(text)}</pre>' if text else '<p class="note">Nothing.</p>'
    )
    return f'<div class="side"><p><b>{esc(label)}</b>{told}</p>{answer}{shown}</div>'


def _models(figures: dict[str, Any]) -> str:
    columns = [("evaluation", "text"), ("folder", "text"), ("model", "text"), ("hash of what answers", "text"), ("codedev", "text")]
    rows = [[run["label"], run["path"], run["model"], run["identity"], run["codedev"]] for run in figures["runs"]]
    return charts.table(table("The models", columns, rows))
