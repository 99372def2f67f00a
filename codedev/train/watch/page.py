"""A run as one HTML file that asks for nothing: RUN/index.html, its curves drawn as they stand and, while it goes on, loaded anew.

Style and script are the corpus report's, with some of their own for the curves. Names of documents and messages come from strangers: they
are escaped, their invisible characters spelled out, and the page's policy runs one script and one style sheet, known by their hashes.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import math
from pathlib import Path
from typing import Any

import orjson

from codedev._terminal import clock
from codedev.corpus import report
from codedev.corpus.report import charts
from codedev.corpus.report.charts import esc
from codedev.corpus.report.figure import table
from codedev.corpus.report.text import count
from codedev.train.watch.curves import Curve, smoothed

_ROOM = 168  # pixels of a curve's plot from its lowest to its highest value
_TOP = 8
_PART = "reward/"
# name -> (title, what it is, unit: how a value reads, whether powers of ten stand apart evenly where the values spread)
_DRAWN = {
    "loss": ("Loss", "nats a supervised token; the line is smoothed, the band runs from lowest to highest", "number", False),
    "bits_per_byte": ("Held-out bits per byte", "on rows that are not trained on", "number", False),
    "heldout_answer_loss": ("Held-out loss of answers", "nats a supervised token of rows that are not trained on", "number", False),
    "accuracy": ("Pairs judged right", "of those that a step learns", "share", False),
    "margin": ("Margin", "reward of the chosen answer less that of the rejected one, of the pairs of a step", "number", False),
    "heldout_accuracy": ("Held-out pairs judged right", "of pairs that are not trained on; 50 % is chance", "share", False),
    "heldout_margin": ("Held-out margin", "of pairs that are not trained on", "number", False),
    "heldout_ece": ("Held-out calibration error", "expected, in ten bins of how sure the model is; 0 is best", "number", False),
    "heldout_brier": ("Held-out Brier score", "mean square of the probability given to the wrong answer; 0.25 is chance", "number", False),
    "heldout_r2": ("Held-out R²", "share of the rewards' variance that is explained", "number", False),
    "heldout_spearman": ("Held-out Spearman", "correlation of the ranks", "number", False),
    "heldout_mse": ("Held-out mean squared error", "in the rewards' own scale", "number", False),
    "reward": ("Reward", "of the answers that were sampled: the weighted sum of its parts", "number", False),
    "reward_std": ("Spread of the reward", "its deviation over the answers of a step; at 0 nothing is learned", "number", False),
    "groups_alike": ("Prompts that teach nothing", "all of whose answers earn the same", "share", False),
    "heldout_reward": ("Held-out reward", "of answers to prompts that are never trained on", "number", False),
    "kl": ("Divergence from the reference", "nats an answer", "number", False),
    "entropy": ("Entropy", "nats a token of the policy; near 0 nothing new is sampled", "number", False),
    "answer_tokens": ("Length of answers", "tokens", "number", False),
    "unended": ("Answers that do not end", "those that met max_tokens", "share", False),
    "repetition": ("Repetition", "share of four tokens in a row that an answer has had before", "share", False),
    "policy_loss": ("Policy loss", "clipped, a token", "number", False),
    "value_loss": ("Value loss", "clipped, a token", "number", True),
    "explained_variance": ("Explained variance", "of the returns, by the values; 1 is best", "number", False),
    "clip_share": ("Clipped", "share of tokens whose step the clipping decided", "share", False),
    "kl_coef": ("Price of the divergence", "its coefficient in the reward", "number", False),
    "mismatch": ("Mismatch", "the largest difference of ln p as sampled and as trained; rounding alone is right", "number", True),
    "reward_margin": ("Margin", "implicit reward of good answers less that of bad ones", "number", False),
    "reward_accuracy": ("Pairs judged right", "by the implicit reward, of those that a step learns", "share", False),
    "heldout_loss": ("Held-out loss", "on examples that are not trained on", "number", False),
    "heldout_reward_margin": ("Held-out margin", "implicit reward of good answers less that of bad ones", "number", False),
    "heldout_reward_accuracy": ("Held-out pairs judged right", "by the implicit reward", "share", False),
    "lr": ("Learning rate", "of matrices and vectors alike", "number", False),
    "grad_norm": ("Gradient norm", "before clipping", "number", True),
    "tokens_per_second": ("Tokens per second", "of all processes, padding left out", "count", False),
    "mfu": ("MFU", "of the devices' peak arithmetic", "share", False),
}


def render(facts: dict[str, Any], state: dict[str, Any], curves: dict[str, Curve]) -> str:
    """`facts`: name, recipe (as YAML), environment [(what, value)], command. `state`: as follow.Follow.write makes it."""
    folder, own = Path(report.__file__).parent, Path(__file__).parent
    style = "\n".join(path.read_text(encoding="utf-8").strip() for path in (folder / "page.css", own / "run.css"))
    script = "\n".join(path.read_text(encoding="utf-8").strip() for path in (folder / "page.js", own / "run.js"))
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    parts = sorted(name for name in curves if name not in _DRAWN and name.startswith(_PART))
    order = [one for name in _DRAWN for one in (name, *(parts if name == "reward" else ()))]
    drawn = {name: curves[name] for name in order if name in curves and curves[name].buckets}
    sections = [
        ("headline", "Where it stands", "", _tiles(state, curves)),
        ("curves", "Curves", "Point at a curve for its values; every one of them is in metrics.jsonl.", _curves(drawn)),
        (
            "spikes",
            "Spikes",
            "Steps whose loss stands out from the fifty before, and skipped ones, with their documents.",
            _spikes(facts, state),
        ),
        ("recipe", "Recipe", "With every default, as recipe.yaml holds it.", f'<pre class="plain">{esc(facts["recipe"])}</pre>'),
        ("environment", "Environment", "", charts.table(table("What it runs on", [("", "text"), ("", "text")], facts["environment"]))),
    ]
    links = "".join(f'<li><a href="#{name}">{esc(title)}</a></li>' for name, title, _, _ in sections)
    body = "".join(
        f'<section class="figure" id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{esc(title)}</h2>'
        f'<p class="guide">{esc(guide)}</p>{content}</section>\n'
        for name, title, guide, content in sections
    )
    refresh = f'<meta http-equiv="refresh" content="{max(5, math.ceil(state["refresh"]))}">' if state["refresh"] else ""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    step, steps = state["row"].get("step", 0), state["steps"]
    said = f"step {count(step)} of {count(steps)}, {step / max(steps, 1):.0%}"
    status = f'<span class="status {esc(state["status"])}">{esc(state["status"])}</span>'
    told = f'<code class="command">codedev train explain {esc(facts["run_dir"])} --step N</code>'
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{refresh}<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{esc(facts["name"])} – {esc(said)}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the figures</a>
<nav aria-label="Figures">
<p class="brand">Training run</p>
<ol>{links}</ol>
<button type="button" id="theme" hidden>Theme: auto</button>
</nav>
<main id="main">
<header class="top">
<h1>{esc(facts["name"])}</h1>
<p class="facts">{status} {esc(said)} · {esc(facts["what"])} · as of {now}</p>
<svg class="done" role="img" aria-label="{esc(said)}"><rect class="track" width="100%" height="100%"/>\
<rect class="kept" width="{charts.percent(step, steps)}" height="100%"/></svg>
</header>
{_message(state, facts)}{_alarm(state)}{body}<footer><p>The same numbers, a row a step: <code>metrics.jsonl</code>.
The documents of any step, with their losses: {told}</p></footer>
</main>
<script type="application/json" id="curves-data">{_data(drawn)}</script>
<script>{script}</script>
</body>
</html>
"""


def _hash(inline: str) -> str:
    """The source expression of a Content Security Policy that allows this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def _message(state: dict[str, Any], facts: dict[str, Any]) -> str:
    if not state["message"]:
        return ""
    title = {"failed": "The run failed", "stopped": "The run was stopped"}.get(state["status"], state["status"])
    head = f'<h2 id="alarms-title">{esc(title)}</h2>'
    go_on = f'<p>Goes on with <code class="command">{esc(facts["command"])}</code></p>' if state["status"] != "finished" else ""
    return f'<section class="alarms" id="alarms" aria-labelledby="alarms-title">{head}<p>{esc(state["message"])}</p>{go_on}</section>\n'


def _alarm(state: dict[str, Any]) -> str:
    if not state.get("alarm"):
        return ""
    head = '<h2 id="alarm-title">Look at this</h2>'
    return f'<section class="alarms" id="alarm" aria-labelledby="alarm-title">{head}<p>{esc(state["alarm"])}</p></section>\n'


def _measured(state: dict[str, Any], curves: dict[str, Curve]) -> tuple[str, str, str, str]:
    """The tile of what stands for the held-out rows."""
    risen = {
        "heldout_accuracy": ("Held-out pairs judged right", "share"),
        "heldout_r2": ("Held-out R²", "number"),
        "heldout_reward": ("Held-out reward", "number"),
        "heldout_reward_accuracy": ("Held-out pairs judged right", "share"),
    }
    for name, (title, unit) in risen.items():
        if curves[name].buckets:
            first, last = curves[name].buckets[0].mean, curves[name].buckets[-1].mean
            return title, _value(last, unit), f"{_value(first, unit)} at the beginning", "kept" if last >= first else ""
    if (answers := curves["heldout_answer_loss"]).buckets:
        first, last = answers.buckets[0].mean, answers.buckets[-1].mean
        return "Held-out loss of answers", f"{last:.4f}", f"{first:.4f} at the beginning", "kept" if last <= first else ""
    bits, first_bits = curves["bits_per_byte"].last(), state["first_bits"]
    return (
        "Held-out bits per byte",
        "–" if bits is None else f"{bits:.4f}",
        "" if bits is None or first_bits is None else f"{first_bits:.4f} at the beginning",
        "kept" if bits is not None and first_bits is not None and bits <= first_bits else "",
    )


def _tiles(state: dict[str, Any], curves: dict[str, Curve]) -> str:
    row = state["row"]
    loss = smoothed([bucket.mean for bucket in curves["loss"].buckets])
    speed = row.get("tokens_per_second")
    mfu = row.get("mfu")
    seen = row.get("tokens_seen", 0)
    padded = row.get("padded")
    last = f"smoothed; last {row['loss']:.4f}" if "loss" in row else "smoothed"
    skipped = f"; {count(state['skips'])} steps skipped" if state["skips"] else ""
    tiles = [
        ("Loss", f"{loss[-1]:.4f}" if loss else "–", f"{last}{skipped}", "kept"),
        _measured(state, curves),
        (
            "Tokens seen",
            _short(seen),
            f"{count(seen)}; {count(padded)} places of the last step were padding" if padded else count(seen),
            "",
        ),
        ("Tokens per second", _short(speed) if speed else "–", f"MFU {'–' if mfu is None else f'{mfu:.1%}'}", ""),
        ("Time left" if state["left"] is not None else "Took", *_time(state), ""),
        ("Gradient norm", _value(row.get("grad_norm"), "number"), f"learning rate {_value(row.get('lr'), 'number')}", ""),
    ]

    def tile(name: str, value: str, words: str, tone: str) -> str:
        return f'<div class="tile {tone}"><dt>{esc(name)}</dt><dd class="value">{esc(value)}</dd><dd class="note">{esc(words)}</dd></div>'

    return f'<dl class="tiles three">{"".join(tile(*one) for one in tiles)}</dl>'


def _time(state: dict[str, Any]) -> tuple[str, str]:
    if state["seconds"] is None:  # it was finished before
        return "–", "it was finished when last started"
    took = clock(state["seconds"])
    return (took, "since it was last started") if state["left"] is None else (clock(state["left"]), f"{took} since it was last started")


def _short(value: float) -> str:
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.3g} {unit}"
    return count(value)


def _value(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1%}" if unit == "share" else count(value) if unit == "count" else f"{value:.4g}"


def _curves(drawn: dict[str, Curve]) -> str:
    if not drawn:
        return '<p class="empty">No step is finished yet.</p>'
    return f'<div class="cards plots">{"".join(_plot(name, curve) for name, curve in drawn.items())}</div>'


def _words(name: str) -> tuple[str, str, str, bool]:
    if name in _DRAWN:
        return _DRAWN[name]
    return f"Reward: {name.removeprefix(_PART)}", "a part of it, without its weight", "number", False


def _plot(name: str, curve: Curve) -> str:
    """A curve: the band of each bucket's lowest and highest value, their means smoothed, and the last value in words."""
    title, words, unit, spreads = _words(name)
    buckets = curve.buckets
    means = [bucket.mean for bucket in buckets]
    logarithmic = spreads and min(bucket.low for bucket in buckets) > 0 and max(b.high for b in buckets) > 20 * min(b.low for b in buckets)
    line = smoothed(means) if name in ("loss", "grad_norm", "tokens_per_second", "mfu") else means
    low, high = _range(buckets, logarithmic, from_zero=name in ("lr", "tokens_per_second", "mfu"))
    first, last = buckets[0].step, buckets[-1].step

    def x(step: float) -> str:
        return f"{1000 * (step - first) / max(last - first, 1):.1f}"

    def y(value: float) -> str:
        place = (_scaled(min(max(value, low), high), logarithmic) - _scaled(low, logarithmic)) / (
            _scaled(high, logarithmic) - _scaled(low, logarithmic)
        )
        return f"{1000 * (1 - place):.1f}"

    upper = [f"{x(bucket.step)},{y(bucket.high)}" for bucket in buckets]
    lower = [f"{x(bucket.step)},{y(bucket.low)}" for bucket in reversed(buckets)]
    shapes = f'<polygon class="band" points="{" ".join(upper + lower)}"/>'
    if line is not means:
        shapes += f'<polyline class="raw" points="{" ".join(f"{x(b.step)},{y(b.mean)}" for b in buckets)}"/>'
    shapes += f'<polyline class="line" points="{" ".join(f"{x(b.step)},{y(value)}" for b, value in zip(buckets, line, strict=True))}"/>'
    inner = f'<svg x="0" y="{_TOP}" width="100%" height="{_ROOM}" viewBox="0 0 1000 1000" preserveAspectRatio="none">{shapes}</svg>'
    grid = ""
    for value in _ticks(low, high, logarithmic):
        at = _TOP + float(y(value)) / 1000 * _ROOM
        grid += f'<line class="grid" x1="0" x2="100%" y1="{at:.1f}" y2="{at:.1f}"/>'
        grid += f'<text x="0" dx="-6" y="{at + 4:.1f}" text-anchor="end">{esc(_tick(value, unit))}</text>'
    floor = _TOP + _ROOM
    axis = "".join(
        f'<text x="{place}%" y="{floor + 15}" text-anchor="{anchor}">{count(round(first + (last - first) * place / 100))}</text>'
        for place, anchor in ((0, "start"), (50, "middle"), (100, "end"))
        if place in (0, 100) or last - first > 3
    )
    dot = f'<circle class="dot" r="3" cx="100%" cy="{_TOP + float(y(line[-1])) / 1000 * _ROOM:.1f}"/>' if len(buckets) > 1 else ""
    if len(buckets) == 1:
        dot = f'<circle class="dot" r="3" cx="0" cy="{_TOP + float(y(line[0])) / 1000 * _ROOM:.1f}"/>'
    cursor = f'<line class="cursor" x1="0" x2="0" y1="{_TOP}" y2="{floor}" visibility="hidden"/>'
    label = f"{title} from step {first} to {last}: {_value(line[0], unit)} at first, {_value(line[-1], unit)} at last"
    plot = f'<svg class="curve" role="img" aria-label="{esc(label)}" height="{floor + 20}">{grid}{inner}{axis}{dot}{cursor}</svg>'
    scale = "; powers of ten stand evenly apart" if logarithmic else ""
    head = f'<span class="name">{esc(title)}</span> <output>{esc(_value(line[-1], unit))}</output>'
    head += f'<span class="note">{esc(words)}{scale}</span>'
    return f'<figure class="card plot-{name}" data-curve="{name}" data-unit="{unit}"><figcaption>{head}</figcaption>{plot}</figure>'


def _range(buckets: list[Any], logarithmic: bool, from_zero: bool) -> tuple[float, float]:
    """What the plot shows from bottom to top: all of it, but for the highest hundredth where that alone would flatten the rest."""
    low, high = min(bucket.low for bucket in buckets), max(bucket.high for bucket in buckets)
    means = sorted(bucket.mean for bucket in buckets)
    usual = means[min(len(means) - 1, math.ceil(0.99 * len(means)))]
    if not logarithmic and len(means) >= 100 and high > 3 * usual > 0:
        high = 1.5 * usual
    low = 0.0 if from_zero and low >= 0 else low
    if high <= low:
        return (low - 1.0, high + 1.0) if low == 0 else (low - abs(low) / 2, high + abs(high) / 2)
    room = 0.0 if logarithmic else 0.04 * (high - low)
    return (low if from_zero else low - room), high + room


def _scaled(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """About four round values from `low` to `high`."""
    if logarithmic:
        powers = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        return powers[:: max(1, math.ceil(len(powers) / 5))] if len(powers) > 1 else [low, high]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    start = math.ceil(low / step)
    return [round(at * step, 12) for at in range(start, start + 7) if at * step <= high]


def _tick(value: float, unit: str) -> str:
    return f"{value:.3g}" if unit == "number" else f"{100 * value:.3g} %" if unit == "share" else charts.tick(value)


def _spikes(facts: dict[str, Any], state: dict[str, Any]) -> str:
    skipped = {row["step"]: row for row in state["skipped"]}
    spikes = {spike["step"]: spike for spike in state["spikes"]}
    if not skipped and not spikes:
        return '<p class="empty">None so far.</p>'
    drawn = []
    for step in sorted(skipped.keys() | spikes.keys()):
        row, spike = skipped.get(step), spikes.get(step)
        loss = spike["loss"] if spike else row.get("bad_loss") if row else None
        said = f"loss {_value(loss, 'number')}" + (f", {spike['ratio']:.2f} times the median before it" if spike else "")
        badge = f'<span class="badge">skipped: {esc(row["skipped"])}</span>' if row else ""
        documents = row["documents"] if row else spike["documents"]["first"] if spike else []
        total = spike["documents"]["count"] if spike and not row else None
        items = "".join(f"<li>{_document(one)}</li>" for one in documents)
        more = f'<p class="note">{count(total - len(documents))} more</p>' if total is not None and total > len(documents) else ""
        command = f"codedev train explain {facts['run_dir']} --step {step}"
        drawn.append(
            f'<article class="reason"><header><h3>Step {count(step)}</h3>{badge}<span class="said">{esc(said)}</span></header>'
            f'<ul class="documents">{items}</ul>{more}<p class="see"><code class="command">{esc(command)}</code></p></article>'
        )
    return f'<div class="reasons">{"".join(drawn)}</div>'


def _document(one: dict[str, Any]) -> str:
    """A document's id, leading to its address where it has one on the web, and its place in the shards."""
    name = f"<code>{esc(one['document'])}</code>"
    url = one.get("url") or ""
    if url.startswith(("https://", "http://")):
        name = f'<a href="{esc(url)}" rel="noreferrer noopener">{name}</a>'
    loss = f" · loss {_value(one['loss'], 'number')}" if one.get("loss") is not None else ""
    return f'{name} <span class="from">row {count(one["row"])}, token {count(one["start"])}{loss}</span>'


def _data(drawn: dict[str, Curve]) -> str:
    """What the script reads: step, mean, lowest and highest value of every bucket. No text of strangers is in it."""
    data = {
        name: {
            "width": curve.width,
            "rows": [[bucket.step, _rounded(bucket.mean), _rounded(bucket.low), _rounded(bucket.high)] for bucket in curve.buckets],
        }
        for name, curve in drawn.items()
    }
    return orjson.dumps(data).decode().replace("<", "\\u003c")


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
