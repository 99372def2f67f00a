"""Tables of feedback or prompts as examples to learn from: what the stages of alignment make of `data.tables`. Knows nothing of torch.

    DATA/corpus             the rows as conversations, the others with the reason (codedev corpus build)
    DATA/examples.arrow     SCHEMA, a row an example, in the corpus's order; uncompressed, to be mapped into memory
    DATA/heldout.arrow      the same of the share that data.holdout keeps, by the documents' ids
    DATA/chat_template.jinja
    DATA/prepared.json      what they were made of, what became of every row; written last (instructions/prepared.py)

    kind        learned from                                     columns beside document, prompt, messages, prompt_ids and reference
    pairs       chosen and rejected                              chosen_ids, rejected_ids, chosen, rejected
    rated       an answer, or a whole text, and its reward       answer_ids, answer, reward
    labelled    an answer that is good or not; of a pair both    answer_ids, answer, label
    prompts     any of these, conversations, or prompts alone    none: what stands before the last answer

Prompt and answer are the tokens that generation would see and give (tokenize/chat/tables.py). What is longer than data.seq_len is by
data.overlong: truncate leaves out the oldest exchanges of the prompt and keeps its last question; an answer is never cut, and what is
still too long is dropped with the reason too_long. Every row is an example, or counted under a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from codedev._errors import InputError, RecipeError
from codedev._run import Progress, atomic_write, no_progress, write_text
from codedev.tokenize.chat.tables import TableOptions, Tables, preference_tables, prompt_table
from codedev.tokenize.documents import batches, id_hashes, open_corpus
from codedev.tokenize.hashing import held_out
from codedev.train.instructions import look, prepared
from codedev.train.recipe import TrainRecipe
from codedev.train.use.companions import TEMPLATE

Kind = Literal["pairs", "rated", "labelled", "prompts"]

_IDS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),  # id in the corpus
        pa.field("prompt", pa.large_string(), nullable=False),  # as the template writes it, up to where the answer begins
        pa.field("messages", pa.large_string(), nullable=False),  # JSON, of the prompt
        pa.field("prompt_ids", _IDS, nullable=False),
        pa.field("chosen_ids", _IDS),  # with the token that ends an answer, as the two below
        pa.field("rejected_ids", _IDS),
        pa.field("answer_ids", _IDS),
        pa.field("chosen", pa.large_string()),
        pa.field("rejected", pa.large_string()),
        pa.field("answer", pa.large_string()),
        pa.field("reward", pa.float64()),
        pa.field("label", pa.bool_()),
        pa.field("reference", pa.large_string()),  # JSON: the answer that was given, and the row's other columns
    ]
)
_OF = {"pairs": "pairs", "rated": "rated", "judged": "labelled", "prompts": "prompts"}  # of chat/tables.py
_ROWS = 1024  # documents rendered together
_KEPT = prepared.Kept(
    "codedev.examples/1",
    frozenset({"corpus", "examples.arrow", "heldout.arrow", TEMPLATE}),
    frozenset({"rows", "examples", "heldout", "kind", "seq_len", "tokens", "shortened", "dropped", "errors", "template"}),
    "",
)
_JUDGED = look.Wanted(
    frozenset({"preference"}),
    ("preference", "hh", "kto", "reward"),
    {
        "instruction": "{file}: its rows are answers without a verdict ({columns}). Name the columns that judge them in data.tables: "
        "columns: {{chosen: COLUMN, rejected: COLUMN}}, {{reward: COLUMN}} or {{label: COLUMN}}"
    },
    "judged answers",
    "{{paths: [{file}], columns: {{prompt: COLUMN, chosen: COLUMN, rejected: COLUMN}}}}, or columns: {{prompt: COLUMN, answer: COLUMN, "
    "reward: COLUMN}}",
    ("prompt", "chosen", "rejected", "answer", "reward", "label", "messages"),
)
_PROMPTS = look.Wanted(
    frozenset({"preference"}),
    ("prompts",),
    {},
    "prompts",
    "{{paths: [{file}], columns: {{prompt: COLUMN}}}}, or columns: {{messages: COLUMN}}",
    ("prompt", "input", "messages", "answer"),
    trusting=False,
)


class Examples(NamedTuple):
    table: pa.Table  # SCHEMA, memory-mapped
    heldout: pa.Table
    told: dict[str, Any]  # counts of prepared.json, prepared (folder), reused, again (why it was made once more, or "")


def prepare(recipe: TrainRecipe, kind: Kind | tuple[Kind, ...], progress: Progress = no_progress, workers: int | None = None) -> Examples:
    """The examples of `recipe.data.tables`, made or found made. `recipe` is absolute. Of several kinds the one that the tables hold.

    Raises RecipeError, InputError or RunError with one line for the user.
    """
    kinds = (kind,) if isinstance(kind, str) else kind
    _check(recipe)
    folder = prepared.folder_of(recipe, _KEPT)
    reader = prepared.reader(recipe)
    tables = prepared.listed(recipe.data.tables, folder, partial(look.settled, wanted=_PROMPTS if "prompts" in kinds else _JUDGED))
    data = recipe.data
    settings = {
        "kinds": list(kinds),
        "seq_len": reader.seq_len,
        "overlong": data.overlong,
        "holdout": data.holdout,
        "system": data.system,
        "tokenizer": reader.vocabulary.hash,
        "eos": reader.vocabulary.eos_id,
        "template": xxhash.xxh3_128_hexdigest(reader.template.source.encode()),
    }
    record = {"tables": tables.tables, "settings": settings | tables.settings}

    def make() -> tuple[dict[str, Any], list[str]]:
        what = "a prompt" if "prompts" in kinds else "a judged answer"
        corpus = prepared.corpus_of(tables, folder, what, progress, workers)
        return _make(folder, corpus, reader, kinds, recipe, progress), ["examples.arrow", "heldout.arrow"]

    made = prepared.once(folder, Path(recipe.run.dir), _KEPT, record, make)
    told = {**made.counts, "prepared": str(folder), "reused": made.reused, "again": made.again}
    progress("data", told["rows"], told["rows"], summary(told))
    return Examples(_open(folder / "examples.arrow"), _open(folder / "heldout.arrow"), told)


def opened(folder: Path) -> tuple[pa.Table, pa.Table]:
    """(examples, held out) that `prepare` left in `folder`. InputError where it did not."""
    return _open(folder / "examples.arrow"), _open(folder / "heldout.arrow")


def summary(told: dict[str, Any]) -> str:
    """What became of the rows, in a line."""
    lost = Counter(told["dropped"]) + Counter(told["errors"])
    parts = [
        *([f"prepared again, since {told['again']}"] if told["again"] else []),
        f"{told['examples'] + told['heldout']:,} {told['kind']} of {told['rows']:,} rows",
        f"{told['tokens']:,} tokens",
        f"template {told['template']}",
        *([f"{told['shortened']:,} prompts shortened"] if told["shortened"] else []),
        *([f"{told['heldout']:,} held out"] if told["heldout"] else []),
        *([f"not used: {', '.join(f'{count:,} {reason}' for reason, count in sorted(lost.items()))}"] if lost else []),
    ]
    return "; ".join(parts)


def _check(recipe: TrainRecipe) -> None:
    """RecipeError for keys of `data` that have no effect on examples."""
    data, stage = recipe.data, recipe.stage
    if data.overlong == "split":
        raise RecipeError(f"data.overlong: split makes several of a conversation, and stage {stage} needs it whole. Use truncate or drop")
    if data.train_on != "assistant":
        raise RecipeError(f"data.train_on: has no effect in stage {stage}. Leave it out")
    if any(table.epochs != 1 for table in data.tables):
        raise RecipeError(f"data.tables: epochs has no effect in stage {stage}, which sees every example equally often. Leave it out")


def _make(
    folder: Path, corpus: dict[str, Any], reader: prepared.Reader, kinds: tuple[Kind, ...], recipe: TrainRecipe, progress: Progress
) -> dict[str, Any]:
    data = recipe.data
    overlong: Any = data.overlong
    options = TableOptions(reader.seq_len, overlong, data.system, texts=True, cut_answers=False)
    dropped, errors = prepared.lost(corpus)
    counts = {"examples": 0, "heldout": 0}
    tokens = shortened = 0
    kind = kinds[0] if len(kinds) == 1 else None
    with ExitStack() as stack:
        writers = {name: stack.enter_context(_writer(folder / f"{name}.arrow")) for name in counts}
        for hashes, made in _encoded(folder / "corpus", reader, kinds, options, data.overlong, progress):
            here, other = _examples(made, kinds)
            for found in here:
                if kind is not None and found != kind:
                    raise InputError(
                        f"data.tables: hold both {kind} and {found} answers, and stage {recipe.stage} learns from one of them in a run. "
                        "List them in recipes of their own"
                    )
                kind = found
            dropped.update({reason: number for reason, number in other.items() if number})
            shortened += made.counters["prompts_shortened"]
            for place, table in here.values():
                tokens += sum(len(table.column(name).combine_chunks().flatten()) for name in table.column_names if name.endswith("_ids"))
                held = held_out(hashes[place], data.holdout)
                for name, mask in (("examples", ~held), ("heldout", held)):
                    some = table.filter(pa.array(mask))
                    counts[name] += some.num_rows
                    writers[name].write_table(some)
    lost = f"{', '.join(f'{number:,} {reason}' for reason, number in dropped.most_common(5))}"
    if not sum(counts.values()):
        wanted = " or ".join(kinds)
        raise InputError(f"data.tables: no row is of use for stage {recipe.stage}, which needs {wanted}{f' ({lost})' if lost else ''}")
    if data.holdout and not all(counts.values()):
        total, left = sum(counts.values()), "to train on" if counts["heldout"] else "held out"
        raise InputError(f"data.holdout: a share of {data.holdout:g} leaves none of {total:,} examples {left}. Choose another share")
    write_text(folder / TEMPLATE, reader.template.source)
    return {
        "rows": corpus["totals"]["records"],
        **counts,
        "kind": kind,
        "seq_len": reader.seq_len,
        "tokens": tokens,
        "shortened": shortened,
        "dropped": dict(sorted(dropped.items())),
        "errors": dict(sorted(errors.items())),
        "template": prepared.shown_template(reader.chat),
    }


def _encoded(
    path: Path, reader: prepared.Reader, kinds: tuple[Kind, ...], options: TableOptions, overlong: str, progress: Progress
) -> Iterator[tuple[np.ndarray, Tables]]:
    """(hashes of the documents' ids, their tables) batch by batch. 100 µs and more a document: its template."""
    corpus = open_corpus(path)
    make = prompt_table if "prompts" in kinds else preference_tables
    done = 0
    for part in corpus.parts:
        for group in batches(part, ["id", "kind", "meta"]):
            for begin in range(0, group.num_rows, _ROWS):
                batch = group.slice(begin, _ROWS)
                try:
                    made = make(reader.vocabulary, reader.template, batch, options)
                except InputError as error:
                    if overlong != "error":
                        raise
                    said = str(error).replace("Raise seq_len, or choose overlong:", "Raise data.seq_len, or set data.overlong to")
                    raise InputError(said) from None
                done += batch.num_rows
                progress("examples", done, corpus.rows)
                yield id_hashes(batch.column("id")), made


def _examples(made: Tables, kinds: tuple[Kind, ...]) -> tuple[dict[Kind, tuple[np.ndarray, pa.Table]], Counter[str]]:
    """{kind: (places in the batch, SCHEMA)} of the kinds that are asked for, and why there are not more."""
    dropped = Counter(reason for reason in made.status if reason)
    found: dict[Any, list[tuple[np.ndarray, pa.Table]]] = {}
    for name, batch in made.tables.items():
        places, rows = batch.column("position").to_numpy(), dict(zip(batch.schema.names, batch.columns, strict=True))
        if "completion_ids" in rows:
            rows |= {"answer_ids": rows["completion_ids"], "answer": rows["completion"]}
        kind = _OF[name]
        if kind in kinds:
            found.setdefault(kind, []).append((places, _table(rows, len(places))))
        elif name == "pairs" and "labelled" in kinds:
            for side in ("chosen", "rejected"):
                one = {**rows, "answer_ids": rows[f"{side}_ids"], "answer": rows[side], "label": pa.array([side == "chosen"] * len(places))}
                one = {key: value for key, value in one.items() if key.partition("_")[0] not in ("chosen", "rejected")}
                found.setdefault("labelled", []).append((places, _table(one, len(places))))
        else:
            dropped[f"not_{'_or_'.join(kinds)}"] += len(places)
    merged: dict[Any, tuple[np.ndarray, pa.Table]] = {}
    for kind, pieces in found.items():
        places = np.concatenate([place for place, _ in pieces])
        order = np.argsort(places, kind="stable")
        merged[kind] = (places[order], pa.concat_tables([table for _, table in pieces]).take(pa.array(order)))
    return merged, dropped


def _table(columns: dict[str, pa.Array], rows: int) -> pa.Table:
    arrays = [columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows, field.type) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


@contextmanager
def _writer(path: Path) -> Iterator[Any]:
    """An Arrow file of SCHEMA that takes its place when it is whole."""
    with atomic_write(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        yield writer


def _open(path: Path) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: is missing or damaged ({str(error).splitlines()[0]}). Remove {path.parent} to prepare it again"
        ) from None
    if table.schema != SCHEMA:
        raise InputError(f"{path}: holds no examples of this version. Remove {path.parent} to prepare it again")
    return table
