"""What `--dry-run` found, as a person reads it: the first rows with what is trained on in colour, or between ⟦ ⟧ where there are none."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from codedev._errors import printable
from codedev._terminal import print_table, size
from codedev.corpus.look import visible

_BLOCKS = "▁▂▃▄▅▆▇█"


def show(told: dict[str, Any]) -> None:
    plan, data, takes, lr = told["plan"], told.get("data"), told["memory"], told["schedule"]
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    steps = f"{plan['steps']:,} steps of {plan['rows_a_step']:,} rows, {plan['tokens_a_step']:,} tokens"
    rows = [
        ["run", f"stage {plan['stage']}, tune {plan['tune']}: {steps}"],
        ["at once", f"{plan['micro_rows']:,} rows a process, {plan['micro_batches']:,} times a step"],
        ["data", f"{plan['rows']:,} rows of {plan['seq_len']:,} tokens, seen {plan['epochs']:.3g} times: {plan['tokens']:,} tokens"]
        if data is not None
        else ["data", f"{plan['rows']:,} {told['examples']['kind']}, seen {plan['epochs']:.3g} times"],
        ["learning rate", f"{_sketch(lr)}  {lr['schedule']}, highest {lr['highest']:g}, at last {lr['last']:.3g}"],
    ]
    _pairs(console, "Plan", rows)
    if data is None:
        _pairs(console, "Examples", [[name, said] for name, said in told["examples"]["said"]])
    else:
        _show_data(console, data)
    _show_takes(told, takes)
    for row in told["batch"]:
        _judged(console, row) if data is None else _row(console, row)
    console.print(Text("Checks", style="bold"))
    _verdict(console, told["isolation"]["ok"], told["isolation"]["said"])
    if "turns" in told:
        _verdict(console, told["turns"]["ok"], told["turns"]["said"])
    for said in told["warnings"]:
        _verdict(console, None, said)
    shown = {told["isolation"]["said"], told.get("turns", {}).get("said")}
    for said in told["faults"]:
        if said not in shown:
            _verdict(console, False, said)


def _show_data(console: Console, data: dict[str, Any]) -> None:
    of = f" (of {data['rows_looked_at']:,} rows)" if data["rows_looked_at"] < data["rows"] else ""
    _pairs(
        console,
        "Data",
        [
            ["tokens", _count(data["tokens"]) + (f" in {data['documents']:,} documents" if data["documents"] is not None else "")],
            ["supervised", f"{data['supervised']:,}, {data['supervised_share']:.1%} of them{of}"],
            ["padding", _count(data["padding"])],
            ["truncated", _count(data["truncated"]) + (" when the shards were made" if data["truncated"] is not None else "")],
            ["rows without", f"{data['rows_unsupervised']:,} have no supervised token{of}"],
        ],
    )


def _show_takes(told: dict[str, Any], takes: dict[str, Any]) -> None:
    names = ("weights", "gradients", "optimizer", "activations", "logits")
    print_table(
        f"Memory of a process ({takes['how']}; {takes['parameters']:,} parameters, of them trained {takes['trained']:,})",
        [*names, "at most"],
        [[*(size(takes[name]) for name in names), size(takes["peak"])]],
    )
    print(f"at most: at one moment, of the {size(takes['total'])} that the {takes['device']} has, {size(takes['free'])} free now")
    if takes["fsdp"]:
        print("with run.parallel: fsdp, each of " + ", of ".join(f"{n} processes {size(held)}" for n, held in takes["fsdp"].items()))
    if takes["device"] == "cpu":
        print(
            f"beside it about {size(takes['libraries'])} of libraries, and what the C library keeps of freed memory, up to as much again:"
        )
        print("less with MALLOC_MMAP_THRESHOLD_=65536 in the environment")
    disk = told["disk"]
    saves = f"a checkpoint {size(disk['checkpoint'])}, at most {disk['checkpoints']} of them, the model {size(disk['model'])}"
    print(f"disk: {saves}; free {size(disk['free'])}")


def _pairs(console: Console, title: str, rows: list[list[str]]) -> None:
    console.print(Text(title, style="bold"))
    for name, value in rows:
        console.print(Text.assemble((f"  {name:<14}", "dim"), printable(value)), soft_wrap=True)


def _count(value: int | None) -> str:
    return "not told" if value is None else f"{value:,}"


def _sketch(schedule: dict[str, Any]) -> str:
    highest = schedule["highest"] or 1.0
    return "".join(_BLOCKS[min(7, int(8 * rate / highest))] for rate in schedule["lr"])


def _row(console: Console, row: dict[str, Any]) -> None:
    console.print()
    marks = "in green" if console.is_terminal else "between ⟦ and ⟧"
    head = f"{row['tokens']:,} tokens, {row['supervised']:,} trained on ({marks}), {row['padding']:,} padding"
    console.print(Text.assemble((f"Row {row['row']:,} of {printable(row['shards'])}", "bold"), (f"  {head}", "dim")), soft_wrap=True)
    for segment in row["segments"]:
        words = f"─── {printable(segment['document'])} · tokens {segment['start']:,}–{segment['end']:,}"
        words += f", from its token {segment['offset']:,}" if segment["offset"] else ""
        console.print(Text(words, style="blue"), soft_wrap=True)
        text = Text()
        for piece in segment["pieces"]:
            shown = visible(piece["text"])
            if not piece["supervised"]:
                text.append(shown, "dim")
            else:
                text.append(shown if console.is_terminal else f"⟦{shown}⟧", "green")
        console.print(text, soft_wrap=True)
    if row["shown"] < row["tokens"]:
        console.print(Text(f"… {row['tokens'] - row['shown']:,} more tokens", style="dim"))


def _judged(console: Console, row: dict[str, Any]) -> None:
    """An example of stage reward: the prompt, and each answer with what is known of it."""
    console.print()
    console.print(Text.assemble((printable(row["document"]), "bold"), (f"  {row['tokens']:,} tokens", "dim")), soft_wrap=True)
    console.print(Text(visible(row["prompt"]), "dim"), soft_wrap=True)
    for said, text in row["answers"]:
        console.print(Text.assemble((f"{said}: ", "green"), visible(text)), soft_wrap=True)


def _verdict(console: Console, ok: bool | None, said: str) -> None:
    mark, style = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("!", "yellow")}[ok]
    console.print(Text.assemble((f"{mark} ", style), printable(said)), soft_wrap=True)
