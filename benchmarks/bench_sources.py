"""What each source costs: MB of raw bytes a second of one core and peak memory, beside the obvious tool for the format.

    python benchmarks/bench_sources.py [--data .data] [--only WORD] [--budget SECONDS] [--json FILE] [--profile SOURCE/CASE]

Each file of benchmarks/sources/ names the cases of one source: `cases(data, work)` gives them by title, made of the real data under DATA,
repeated where that is small. MB are 10**6 decompressed bytes. Every case runs in a process of its own with one thread a library
(see _bench.py), its peers after it in the same process. The last column says how many times faster than the peer codedev is.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from _bench import Case, SkipError, in_child, machine, measure, print_header, print_profile, print_row, write_json

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent / ".data", help="folder of the real data")
    parser.add_argument("--only", default="", metavar="WORD", help=f"sources whose name holds WORD: {', '.join(_names())}")
    parser.add_argument("--budget", type=float, default=10.0, metavar="SECONDS", help="time to measure a case in (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--profile", metavar="SOURCE/CASE", help="instead: where the time of one case goes, by function")
    parser.add_argument("--child", nargs=3, metavar=("SOURCE", "CASE", "WORK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_child(*arguments.child, arguments)))
        return
    if not arguments.data.is_dir():
        raise SystemExit(f"{arguments.data}: no such folder. Name that of the real data with --data")
    with tempfile.TemporaryDirectory(prefix="codedev-bench-") as folder:
        _run(Path(folder), arguments)


def _names() -> list[str]:
    return sorted(path.stem for path in (HERE / "sources").glob("*.py"))


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_source_{name}", HERE / "sources" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cases(name: str, arguments: argparse.Namespace, work: Path) -> dict[str, Case]:
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, Case] = _module(name).cases(arguments.data, work)
    return found


def _child(name: str, title: str, work: str, arguments: argparse.Namespace) -> dict[str, Any]:
    try:
        cases = _cases(name, arguments, Path(work))
        if not title:
            return {"titles": list(cases)}
        if arguments.profile:
            print_profile(cases[title])
            return {}
        return measure(cases[title], arguments.budget)
    except SkipError as reason:
        return {"skipped": str(reason)}


def _run(work: Path, arguments: argparse.Namespace) -> None:
    script = str(Path(__file__).resolve())
    options = ["--data", str(arguments.data.resolve()), "--budget", str(arguments.budget)]
    if arguments.profile:
        name, _, title = arguments.profile.partition("/")
        in_child(script, "--child", name, title, str(work / name), *options, "--profile", title)
        return
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load']}, {about['memory_gb']} GB. Python {about['python']}, ", end="")
    print(", ".join(f"{package} {version}" for package, version in about["packages"].items()), end="\n\n")
    print_header()
    rows = []
    for name in _names():
        if arguments.only not in name:
            continue
        listed = in_child(script, "--child", name, "", str(work / name), *options)
        if "skipped" in listed:
            rows.append({"source": name, **listed})
            print_row(name, listed)
        for title in listed.get("titles", ()):
            row = in_child(script, "--child", name, title, str(work / name), *options)
            row["times_faster"] = {peer: row["rate"] / rate for peer, rate in row.get("peers", {}).items()}
            rows.append({"source": name, "case": title, **row})
            print_row(f"{name}: {title}", {**row, "peers": _with_ratios(row)})
    if arguments.json:
        write_json(arguments.json, "sources", about, {"budget": arguments.budget}, rows)


def _with_ratios(row: dict[str, Any]) -> dict[str, float]:
    return {f"{row['times_faster'][peer]:.1f}x {peer}": rate for peer, rate in row.get("peers", {}).items()}


if __name__ == "__main__":
    main()
