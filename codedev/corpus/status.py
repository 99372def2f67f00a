"""`codedev corpus status`: where a build stands, by the files it leaves: one that goes on, one that is dead, one that is done.

Reads events.jsonl alone, whose last run counts, and asks for the directory's lock without waiting. Disturbs nothing; 5 µs an event.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from codedev._errors import InputError, printable
from codedev._run import Events, Progress, held
from codedev._terminal import clock

EVENTS = "events.jsonl"
EVERY = 5.0  # seconds between two lines of progress in events.jsonl
_LOST = 5  # newest lost workers that are told
_SHARES = 8  # that are not finished, each with a line
_MINUTE = 60  # lines of progress that are kept
_IN_BYTES = ("plan", "read")


def logged(progress: Progress, events: Events, clock: Callable[[], float] = time.monotonic) -> Progress:
    """`progress` that also writes events: when a phase begins, when it ends, and every few seconds between."""
    last: dict[str, Any] = {"phase": None, "at": 0.0}

    def report(what: str, done: int, total: int | None, note: str = "") -> None:
        progress(what, done, total, note)
        now = clock()
        if what != last["phase"] or done == total or now - last["at"] >= EVERY:
            last.update(phase=what, at=now)
            events.log("progress", phase=what, done=done, total=total)

    return report


def status(directory: Path) -> dict[str, Any]:
    """corpus, state (running, stopped, finished), phase, done, total (bytes in plan and read, else units), per_second (of the last minute
    of the phase), seconds_left (of the phase), seconds (since the build began), seconds_since (the last event), units, bytes, workers,
    lost_workers, lost (the newest of them), error (that ended it), documents (of a finished corpus), shares (share, and the same of each
    share of a build in shares). What there is not is None.

    InputError where no build was.
    """
    path = directory / EVENTS
    if not path.is_file():
        raise InputError(f"{directory}: holds no corpus that was built or is: there is no events.jsonl. Give the directory of --out")
    run: list[dict[str, Any]] = []
    at: deque[dict[str, Any]] = deque(maxlen=_MINUTE)
    for event in _events(path):
        if event["event"] == "begun":
            run, at = [], deque(maxlen=_MINUTE)
        (at if event["event"] == "progress" else run).append(event)
    of = {event["event"]: event for event in run}
    newest = max((one[-1]["time"] for one in (run, at) if one), default=time.time())
    finished = "built" in of or "nothing_to_do" in of
    now = time.time()
    last = at[-1] if at else None
    speed = _speed(at)
    lost = [event for event in run if event["event"] == "lost_worker"]
    shares = _shares(directory)
    running = held(directory) or any(share["state"] == "running" for share in shares)
    left = None
    if running and last and speed and last["total"]:
        left = round((last["total"] - last["done"]) / speed)
    return {
        "corpus": str(directory),
        "state": "running" if running else "finished" if finished else "stopped",
        "phase": last["phase"] if last and not finished else None,
        "done": last["done"] if last and not finished else None,
        "total": last["total"] if last and not finished else None,
        "per_second": speed if not finished else None,
        "seconds_left": left,
        "seconds": round((now if running else newest) - run[0]["time"]) if run else 0,
        "seconds_since": round(now - newest),
        "units": of.get("planned", {}).get("units"),
        "bytes": of.get("planned", {}).get("bytes"),
        "workers": of.get("planned", {}).get("workers"),
        "lost_workers": len(lost),
        "lost": [{name: event.get(name) for name in ("source", "file", "offset", "kind", "detail")} for event in lost[-_LOST:]],
        "error": of["failed"].get("error") if "failed" in of and not running else None,
        "documents": of["built"].get("documents") if "built" in of else None,
        "shares": shares,
    }


def _shares(directory: Path) -> list[dict[str, Any]]:
    """What `status` says of each share of the build that ever ran (see shares.py)."""
    folders = [path for path in (directory / ".work/shares").glob("*-of-*") if (path / EVENTS).exists()]
    folders.sort(key=lambda path: [int(part) for part in reversed(path.name.split("-of-"))])
    return [{"share": path.name.replace("-of-", "/"), **status(path)} for path in folders]


def began(directory: Path) -> bool:
    """Whether the directory's events are those of a build."""
    return next((event["event"] == "begun" for event in _events(directory / EVENTS)), False)


def show(told: dict[str, Any]) -> None:
    begun = f"{clock(told['seconds'])} {'ago' if told['state'] == 'running' else 'before its end'}"
    phase = None
    if told["phase"]:
        unit = _megabytes if told["phase"] in _IN_BYTES else _number
        of = f" of {unit(told['total'])}, {told['done'] / told['total']:.0%}" if told["total"] else ""
        phase = f"{told['phase']}: {unit(told['done'])}{of}"
        phase += f"; {unit(told['per_second'])}/s" if told["per_second"] else ""
        phase += f"; {clock(told['seconds_left'])} left of it" if told["seconds_left"] is not None else ""
    lines = [
        ("corpus", told["corpus"]),
        (
            "",
            f"{told['state']}, begun {begun}, last event {clock(told['seconds_since'])} ago",
        ),
        ("phase", phase),
        (
            "planned",
            f"{told['units']:,} units, {told['bytes'] / 1e6:,.1f} MB{_workers(told)}" if told["units"] else None,
        ),
        ("lost workers", f"{told['lost_workers']:,}" if told["lost_workers"] else None),
        *(("", f"{one['source']} {one['file']} at {one['offset']}: {one['kind']} ({one['detail']})") for one in told["lost"]),
        ("error", told["error"]),
        ("documents", f"{told['documents']:,}" if told["documents"] is not None else None),
        *_lines_of(told["shares"]),
    ]
    for name, value in lines:
        if value is not None:
            print(f"{name:<14} {printable(str(value))}")


def _workers(told: dict[str, Any]) -> str:
    return f", {told['workers'] or 'all'} workers" if told["workers"] or not told["shares"] else ""


def _lines_of(shares: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    if not shares:
        return
    states = [share["state"] for share in shares]
    yield "shares", ", ".join(f"{states.count(state):,} {state}" for state in ("finished", "running", "stopped") if state in states)
    for share in [share for share in shares if share["state"] != "finished"][:_SHARES]:
        done = f" at {share['done']:,} of {share['total']:,} {share['phase']}" if share["total"] else ""
        yield "", f"{share['share']} {share['state']}{done}{': ' + share['error'] if share['error'] else ''}"


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _number(count: float) -> str:
    return f"{count:,.0f}"


def metrics(told: dict[str, Any]) -> str:
    """The same as Prometheus reads it (text format 0.0.4), for a collector of text files."""
    label = json.dumps(told["corpus"], ensure_ascii=False)
    lines = ["# HELP codedev_build_state 1 for the state that the build is in.", "# TYPE codedev_build_state gauge"]
    lines += [
        f'codedev_build_state{{corpus={label},state="{state}"}} {int(told["state"] == state)}'
        for state in ("running", "stopped", "finished")
    ]
    numbers = {
        "done": "Bytes or units of the phase that are done.",
        "total": "Bytes or units of the phase.",
        "per_second": "Bytes or units a second.",
        "seconds": "Seconds since the build began.",
        "seconds_since": "Seconds since its last event.",
        "lost_workers": "Worker processes that were lost.",
        "documents": "Documents of the finished corpus.",
    }
    for name, meaning in numbers.items():
        if told[name] is not None:
            phase = f',phase="{told["phase"]}"' if told["phase"] and name in ("done", "total", "per_second") else ""
            lines += [f"# HELP codedev_build_{name} {meaning}", f"# TYPE codedev_build_{name} gauge"]
            lines.append(f"codedev_build_{name}{{corpus={label}{phase}}} {told[name]}")
    return "\n".join(lines) + "\n"


def _events(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:  # being written, or cut when the disk was full
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("time"), int | float):
                yield event


def _speed(at: Iterable[dict[str, Any]]) -> float | None:
    """Of the last minute of the phase that is going on."""
    at = list(at)
    same = [event for event in at if event["phase"] == at[-1]["phase"] and event["time"] >= at[-1]["time"] - 60]
    if not same:
        return None
    seconds = same[-1]["time"] - same[0]["time"]
    return (same[-1]["done"] - same[0]["done"]) / seconds if seconds > 0 and same[-1]["done"] > same[0]["done"] else None
