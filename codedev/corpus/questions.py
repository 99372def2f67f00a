"""Questions of evaluation sets, read from the files in which they are published, into one Arrow table.

Files are JSON, JSON lines, CSV, TSV or Parquet, the text ones perhaps compressed with gzip. How a row is laid out is told by its keys:

    choice   MMLU (a CSV without a header, or {question, choices, answer: 0}), CMMLU (Question, A, B, …, Answer), AGIEval ({passage,
             question, options, label}), ARC ({question, choices: {text, label}, answerKey}), HellaSwag ({ctx, endings, label})
    answer   GSM8K ({question, answer}), MATH ({problem, solution}), CMath ({question, golden}), SVAMP ({Body, Question, Answer})
    code     HumanEval ({prompt, test, entry_point}), MBPP ({text, code, test_list}), MultiPL-E ({prompt, tests, language})

Other keys are read where `columns` says which is which. Sets are small, so rows are Python objects here.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from codedev._errors import InputError, nearest

SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # unique in the table: the row's own, or FILE/NUMBER
        ("kind", pa.string()),  # choice, answer, code
        ("group", pa.string()),  # the row's subject or topic, else the file's name
        ("passage", pa.large_string()),  # what the question is about, or ""
        ("question", pa.large_string()),  # of code: the prompt
        ("choices", pa.list_(pa.large_string())),
        ("golds", pa.list_(pa.large_string())),  # letters of right choices; the answer; the canonical program
        ("details", pa.large_string()),  # JSON; of code: test, entry_point, setup, language, stop
    ]
)
KINDS = ("choice", "answer", "code")
COLUMNS = ("id", "group", "passage", "question", "choices", "answer")  # what `columns` may map
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_LEFT_OUT = 0.1
MAX_FILE = 1 << 30  # bytes of a file, uncompressed
_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_LABELLED = re.compile(r"^\s*(?:\(([A-Z])\)|([A-Z])[).:、．])\s*")
_INLINE = re.compile(r"(?:^|\s)\(?([A-Z])[).]\s")
_PLAIN = ("test", "train", "dev", "val", "valid", "validation", "data", "questions", "all")
_GROUPS = ("subject", "topic", "category", "type", "level")

Row = dict[str, Any]


class Question(NamedTuple):
    kind: str
    question: str
    golds: list[str]
    passage: str = ""
    choices: list[str] = []  # noqa: RUF012  never changed
    details: Mapping[str, Any] = {}


class BadRowError(ValueError):
    """A row that is no question, with the reason."""


class LeftOut(NamedTuple):
    """A row that is no question."""

    file: str
    row: int
    why: str


class Questions(NamedTuple):
    table: pa.Table  # SCHEMA
    left_out: list[LeftOut]


def read_questions(paths: Sequence[Path], columns: Mapping[str, str] | None = None) -> Questions:
    """The questions of `paths`, files and folders, in the order of names within a folder.

    `columns`: {meaning: key} for rows of another layout, meanings being COLUMNS. Raises InputError for a file that cannot be read, and
    for one of which MAX_LEFT_OUT of the rows are no questions: published sets have a few.
    """
    columns = columns or {}
    for meaning in columns:
        if meaning not in COLUMNS:
            raise InputError(f"columns: unknown '{meaning}': {nearest(meaning, COLUMNS)}")
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    taken: Counter[str] = Counter()
    for file in files_of(paths):
        name, bad, number = _name(file), [], -1
        for number, raw in enumerate(rows_of(file)):
            try:
                made = _question(raw, columns)
            except BadRowError as error:
                bad.append(LeftOut(str(file), number, str(error)))
                continue
            own = next((raw[key] for key in (columns.get("id", "task_id"), "task_id", "name", "id") if key in raw), number)
            id_ = str(own) if isinstance(own, str) and not own.isdecimal() else f"{name}/{own}"
            taken[id_] += 1
            group = next((raw[key] for key in (columns.get("group", _GROUPS[0]), *_GROUPS) if isinstance(raw.get(key), str)), name)
            details = json.dumps(made.details, ensure_ascii=False, sort_keys=True, default=str)
            rows.append(made._asdict() | {"id": id_ + (f"~{taken[id_]}" if taken[id_] > 1 else ""), "group": group, "details": details})
        if len(bad) > MAX_LEFT_OUT * (number + 1):
            raise InputError(f"{file}: row {bad[0].row}: {bad[0].why}" + (f"; so are {len(bad) - 1} more rows" if bad[1:] else ""))
        left_out += bad
    if not rows:
        raise InputError(f"{', '.join(map(str, paths))}: there are no questions in it")
    try:
        return Questions(pa.Table.from_pylist(rows, SCHEMA), left_out)
    except (pa.ArrowException, UnicodeEncodeError, TypeError) as error:
        raise InputError(f"{paths[0]}: a question is no text: {str(error).splitlines()[0]}") from None


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The files that `read_questions` reads of `paths`."""
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and _suffix(file) in _SUFFIXES)
        if not found:
            raise InputError(f"{path}: holds no {', '.join(_SUFFIXES)} file")
        return found
    if not path.is_file():
        raise InputError(f"{path}: there is no such file of questions")
    if _suffix(path) not in _SUFFIXES:
        raise InputError(f"{path}: is none of {', '.join(_SUFFIXES)}, perhaps with .gz behind it")
    return [path]


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _name(path: Path) -> str:
    """Of a set: its file's, with the folder's where that says nothing (test.jsonl)."""
    stem = path.name.split(".")[0]
    folder = next((parent.name for parent in path.absolute().parents if parent.name.lower() not in _PLAIN), "")
    return f"{folder}-{stem}" if stem.lower() in _PLAIN else stem


def rows_of(file: Path) -> Iterator[Row]:
    """The rows of a file as objects with keys. InputError."""
    suffix = _suffix(file)
    if suffix == ".parquet":
        try:
            yield from pq.read_table(file).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
        return
    text = _text(file)
    if suffix in (".csv", ".tsv"):
        yield from _separated(text, "\t" if suffix == ".tsv" else ",", file)
        return
    try:
        found = json.loads(text) if suffix == ".json" else [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        try:  # JSON lines in a file called .json
            found = [json.loads(line) for line in text.split("\n") if line.strip()]
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}: is no {suffix[1:].upper()}: {error}") from None
    for number, row in enumerate(found if isinstance(found, list) else [found]):
        if not isinstance(row, dict):
            raise InputError(f"{file}: row {number} is no object with keys")
        yield row


def _text(file: Path) -> str:
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as source:
            data = source.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise InputError(f"{file}: holds more than {MAX_FILE >> 20} MB, too much for a set of questions")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None


def _separated(text: str, delimiter: str, file: Path) -> Iterator[Row]:
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise InputError(f"{file}: is no CSV: {error}") from None
    lines = [line for line in lines if line]
    if lines and len(lines[0]) in range(4, 9) and lines[0][-1].strip() in LETTERS[: len(lines[0]) - 2]:  # MMLU's have no header
        for line in lines:
            yield {"question": line[0], "choices": line[1:-1], "answer": line[-1]}
        return
    for line in lines[1:]:
        yield dict(zip(lines[0], line, strict=False))


def _question(raw: Row, columns: Mapping[str, str]) -> Question:
    for meaning, key in columns.items():
        if key not in raw:
            raise BadRowError(f"has no '{key}', which columns.{meaning} names; it has {', '.join(raw)}")
    row = {str(key).lower(): value for key, value in raw.items()} | {meaning: raw[key] for meaning, key in columns.items()}
    for needs, reader in _LAYOUTS:
        if all(row.get(key) is not None for key in needs):
            return reader(row)
    raise BadRowError(f"no known layout has the keys {', '.join(map(str, raw))}: say with columns which is question, choices and answer")


def _choice(row: Row) -> Question:
    options = next(row[key] for key in ("options", "choices", "endings") if row.get(key) is not None)
    labels = list(LETTERS)
    if isinstance(options, dict):
        labels = [str(label) for label in options.get("label") or LETTERS]
        options = options.get("text")
    if isinstance(options, str):
        options = _parted(options)
    if (
        not isinstance(options, list)
        or not 2 <= len(options) <= len(LETTERS)
        or not all(isinstance(one, str | int | float) for one in options)
    ):
        raise BadRowError(f"its choices are {str(options)[:60]!r}: a list of 2 to {len(LETTERS)} texts is expected")
    options = [str(one) for one in options]
    if all((found := _LABELLED.match(one)) and (found[1] or found[2]) == LETTERS[i] for i, one in enumerate(options)):
        options = [_LABELLED.sub("", one, count=1) for one in options]
    gold = next((row[key] for key in ("answerkey", "label", "answer", "gold", "target") if row.get(key) is not None), None)
    golds = [_letter(one, labels, options) for one in (gold if isinstance(gold, list) else [gold])]
    details = {"continues": True} if "ctx" in row else {}  # the choices go on from the text
    return Question("choice", _str(row, "question", "ctx", "query"), golds, _str(row, "passage", default=""), options, details)


def _lettered(row: Row) -> Question:
    """Choices in columns a, b, c, …"""
    choices = []
    for letter in LETTERS.lower():
        if row.get(letter) is None:
            break
        choices.append(str(row[letter]))
    return _choice(row | {"choices": choices, "answer": row["answer"]})


def _parted(text: str) -> list[str]:
    """`A) one B) two` -> [one, two]"""
    inner: list[re.Match[str]] = []
    for mark in _INLINE.finditer(text):  # in their order alone: the text may speak of A
        if mark[1] == LETTERS[len(inner)]:
            inner.append(mark)
    ends = [mark.start() for mark in inner[1:]] + [len(text)]
    return [text[mark.end() : end].strip() for mark, end in zip(inner, ends, strict=False)]


def _letter(gold: Any, labels: list[str], options: list[str]) -> str:
    if isinstance(gold, bool) or gold is None:
        raise BadRowError("does not say which choice is right")
    if isinstance(gold, str) and gold.strip().strip("()") in labels[: len(options)]:
        return LETTERS[labels.index(gold.strip().strip("()"))]
    if isinstance(gold, str) and gold in options:
        return LETTERS[options.index(gold)]
    if str(gold).strip().isdecimal() and int(gold) < len(options):
        return LETTERS[int(gold)]
    raise BadRowError(f"its right choice {str(gold)[:60]!r} is none of {len(options)} choices")


def _answer(row: Row) -> Question:
    question = _str(row, "question", "problem", "body")
    if "body" in row and "question" in row:
        question = f"{_str(row, 'body')} {question}"
    return Question("answer", question, [_gold(row)], _str(row, "passage", default=""))


def _asked(row: Row) -> Question:
    """Messages of one turn, and the answer."""
    messages = row["messages"]
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        raise BadRowError("its messages are no list of {role, content}")
    return Question("answer", _str({"content": messages[0].get("content")}, "content"), [_gold(row)])


def _gold(row: Row) -> str:
    return _str(row, "golden", "answer", "solution", "target")


def _humaneval(row: Row) -> Question:
    entry = row.get("entry_point")
    test = _str(row, "test")
    if not entry:  # some copies leave it out: the function that is asked for is the last one declared
        declared = re.findall(r"^def\s+(\w+)", _str(row, "prompt"), re.MULTILINE)
        entry = declared[-1] if declared else None
    details = {"language": "python", "test": f"{test}\ncheck({entry})" if entry else test, "entry_point": entry, "stop": _FUNCTION_ENDS}
    return Question("code", _str(row, "prompt"), [_str(row, "canonical_solution", default="")], details=details)


def _mbpp(row: Row) -> Question:
    tests = row["test_list"] if row.get("test_list") is not None else row["test"]
    if not isinstance(tests, list) or not all(isinstance(one, str) for one in tests):
        raise BadRowError("its tests are no list of texts")
    setup = _str(row, "test_setup_code", default="")
    details = {"language": "python", "test": "\n".join([setup, *tests]).strip(), "shown": tests, "stop": ["\n[DONE]"]}
    return Question("code", _str(row, "text", "prompt"), [_str(row, "code")], details=details)


def _multipl_e(row: Row) -> Question:
    details = {"language": _str(row, "language"), "test": _str(row, "tests"), "stop": row.get("stop_tokens") or []}
    return Question("code", _str(row, "prompt"), [_str(row, "canonical_solution", default="")], details=details)


_FUNCTION_ENDS = ["\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@", "\n```"]
_LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[Row], Question]], ...] = (
    (("prompt", "tests", "language"), _multipl_e),
    (("code", "test_list"), _mbpp),
    (("prompt", "code", "test"), _mbpp),
    (("prompt", "test"), _humaneval),
    (("question", "options"), _choice),
    (("question", "choices"), _choice),
    (("ctx", "endings"), _choice),
    (("query", "choices"), _choice),
    (("question", "a", "b", "answer"), _lettered),
    (("question", "golden"), _answer),
    (("question", "answer"), _answer),
    (("problem", "answer"), _answer),
    (("problem", "solution"), _answer),
    (("messages", "answer"), _asked),
)


def _str(row: Row, *keys: str, default: str | None = None) -> str:
    for key in keys:
        value = row.get(key)
        if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            return str(value)
    if default is not None:
        return default
    raise BadRowError(f"has no text for {' or '.join(keys)}")
