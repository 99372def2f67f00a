"""What `codedev doctor RECIPE` says before a build, beside what the build took.

    python benchmarks/bench_estimate.py [--sizes 0.03 0.1] [--sample 0.01] [--data .data] [--work DIR] [--json FILE]

Real documents drawn again and again with words changed, and the recipe of the clean stage (see bench_growth.py). "error" is estimate / real
- 1. CPU seconds count all processes; memory is the sum of anonymous pages at its peak, which an estimate ought not to fall below; "work"
and "out" are bytes on disk. GB are 10**9 bytes of UTF-8 text.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from _bench import in_child, machine, write_json
from _clean_input import make, seeds
from bench_clean import _recipe
from bench_growth import _built

_FIGURES = (
    ("cpu_s", "cpu_seconds", 1),
    ("memory_mb", "memory_bytes", 1e6),
    ("work_mb", "work_bytes", 1e6),
    ("out_mb", "output_bytes", 1e6),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.03, 0.1], metavar="GB", help="of text (0.03 0.1)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--sample", type=float, default=0.01, help="share of the input that the estimate reads (0.01)")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent.parent / ".data", help="folder of the real data")
    parser.add_argument("--work", type=Path, metavar="DIR", help="kept: inputs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--estimate", nargs=3, help=argparse.SUPPRESS)  # of a recipe file, share and workers, in a process of its own
    arguments = parser.parse_args()
    if arguments.estimate:
        _estimate(Path(arguments.estimate[0]), float(arguments.estimate[1]), int(arguments.estimate[2]))
        return
    about = machine()
    with tempfile.TemporaryDirectory(prefix="codedev-estimate-") as scratch:
        work = (arguments.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        seeded = seeds(arguments.data.resolve(), work)
        print(f"{about['cpu']}, load {about['load']}, sample {arguments.sample:.1%}\n")
        print(f"{'GB':>5} {'workers':>7}  {'figure':<10} {'estimate':>10} {'real':>10} {'error':>7}\n{'-' * 55}", flush=True)
        rows = []
        for size in arguments.sizes:
            folder = work / f"g{size:g}"
            if not folder.is_dir():
                shutil.rmtree(work / "making", ignore_errors=True)
                make(work / "making", seeded, int(size * 1e9))
                (work / "making").rename(folder)
            for workers in arguments.workers:
                (folder / "recipe.yaml").write_text(json.dumps(_recipe() | {"unit_bytes": 32 << 20}))
                told = in_child(__file__, "--estimate", str(folder / "recipe.yaml"), str(arguments.sample), str(workers))
                real = _built(folder, work / "out", str(workers), "1GB")
                for name, key, unit in _FIGURES:
                    row = {"gb": size, "workers": workers, "figure": name, "estimate": told[key] / unit, "real": real[name]}
                    row["error"] = row["estimate"] / row["real"] - 1
                    rows.append(row)
                    figures = f"{row['estimate']:>10,.0f} {row['real']:>10,.0f} {row['error']:>+7.0%}"
                    print(f"{size:>5g} {workers:>7}  {name:<10} {figures}", flush=True)
    if arguments.json:
        write_json(arguments.json, "estimate", about, {"sizes": arguments.sizes, "sample": arguments.sample}, rows)


def _estimate(recipe: Path, share: float, workers: int) -> None:
    from codedev.corpus import recipe as recipes
    from codedev.corpus.estimate import estimate

    told: dict[str, Any] = estimate(recipes.load(recipe), recipe.parent, share=share, workers=workers, memory=10**9)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
