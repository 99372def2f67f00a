"""Stack Exchange dumps: against a join in memory over what lxml reads, in every layout, and with everything that can be wrong."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import math
import os
import random
import tarfile
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard
from conftest import ROOT
from lxml import etree
from pydantic import ValidationError

from codedev.corpus import recipe as recipes
from codedev.corpus.build import build
from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.stackexchange import source as stackexchange
from codedev.corpus.sources.stackexchange import thread
from codedev.corpus.sources.stackexchange.thread import _widest, licence_of, measure

Thing = Document | Drop | Failure
SAMPLE = ROOT / "samples/stackexchange/toolshed"
TABLES = ("posts", "comments", "users", "votes", "postlinks")


def config(**keys: Any) -> stackexchange.Config:
    return stackexchange.Config(type="stackexchange", name="s", **{"paths": (".",), **keys})


def run(base: Path, unit_bytes: int = 1 << 40, **keys: Any) -> list[Thing]:
    """What the source makes of the files, its pieces brought together in a dictionary. Checks that no record is lost or invented."""
    chosen = config(**keys)
    rounds = stackexchange.rounds(chosen)
    groups: list[dict[str, list[Piece]]] = [defaultdict(list) for _ in range(rounds)]
    found: list[Thing] = []

    def take(things: Iterator[Any], name: str) -> int:
        records = 0
        for thing in things:
            thing = thing if thing.file else thing._replace(file=name)
            records += getattr(thing, "records", 1)
            if isinstance(thing, Piece):
                groups[thing.round][thing.key].append(thing)
            else:
                found.append(thing)
        return records

    for extent in stackexchange.plan(chosen, base, unit_bytes):
        take(stackexchange.read(extent._replace(hash="h"), chosen, base), extent.name)
    for number in range(rounds):
        for key, pieces in groups[number].items():
            random.Random(key).shuffle(pieces)  # in whatever order they come
            came = sum(piece.records for piece in pieces)
            assert take(stackexchange.gather(number, key, pieces, chosen), str(pieces[0].file)) == came, key
    return sorted(found, key=lambda thing: (type(thing).__name__, repr(thing)))


def documents(things: list[Thing]) -> dict[str, Document]:
    found = [thing for thing in things if isinstance(thing, Document)]
    assert len({one.id for one in found}) == len(found)
    return {one.id: one for one in found}


def kinds(things: list[Thing]) -> dict[str, int]:
    return dict(Counter("ok" if isinstance(t, Document) else t.reason if isinstance(t, Drop) else t.kind for t in things))


def meta(document: Document) -> dict[str, Any]:
    return json.loads(document.meta)  # type: ignore[no-any-return]


def table(root: str, *rows: str, encoding: str = "utf-8") -> bytes:
    return f'<?xml version="1.0" encoding="{encoding}"?>\n<{root}>\n{"".join(f"  {row}{chr(10)}" for row in rows)}</{root}>\n'.encode(
        encoding
    )


def row(**attributes: Any) -> str:
    escaped = {k: str(v).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;") for k, v in attributes.items()}
    return "<row " + " ".join(f'{name}="{value}"' for name, value in escaped.items()) + " />"


def question(own: int, **more: Any) -> str:
    return row(**{"Id": own, "PostTypeId": 1, "CreationDate": "2020-01-01T00:00:00.000", "Score": 1, "Title": f"T{own}",
                  "Body": f"<p>q{own}</p>", **more})  # fmt: skip


def answer(own: int, parent: int, score: int = 1, **more: Any) -> str:
    return row(**{"Id": own, "PostTypeId": 2, "ParentId": parent, "CreationDate": "2020-01-02T00:00:00.000", "Score": score,
                  "Body": f"<p>a{own}</p>", **more})  # fmt: skip


def site(folder: Path, **tables: bytes) -> Path:
    """A folder of the files <Table>.xml."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in tables.items():
        (folder / f"{name}.xml").write_bytes(data)
    return folder


# -- real dumps --------------------------------------------------------------------------------------------------------------------


def by_lxml(path: Path) -> list[dict[str, str]]:
    return [dict(element.attrib) for element in etree.parse(str(path)).getroot()] if path.exists() else []  # type: ignore[misc]


@pytest.mark.realdata
def test_every_real_dump_as_a_join_in_memory_has_it(data_dir: Path) -> None:
    folders = sorted({path.parent for path in (data_dir / "stackexchange").rglob("Posts.xml")})
    assert len(folders) >= 5
    for folder in folders:
        posts = {post["Id"]: post for post in by_lxml(folder / "Posts.xml")}
        comments, votes = by_lxml(folder / "Comments.xml"), by_lxml(folder / "Votes.xml")
        names = {user["Id"]: user["DisplayName"] for user in by_lxml(folder / "Users.xml")}
        things = run(folder, comments="all")
        found = documents(things)
        questions = {own: post for own, post in posts.items() if post["PostTypeId"] == "1"}
        made = {one.id.rsplit("/", 1)[1]: one for one in found.values()}
        assert set(made) == set(questions)
        in_documents = 0
        for own, post in questions.items():
            answers = [other for other in posts.values() if other["PostTypeId"] == "2" and other["ParentId"] == own]
            answers.sort(key=lambda a: (a["Id"] != post.get("AcceptedAnswerId"), -int(a["Score"]), int(a["Id"])))
            below = [own, *(other["Id"] for other in answers)]
            said = [comment for comment in comments if comment["PostId"] in below]
            told = meta(made[own])
            assert [str(part["answer"]) for part in told["parts"] if "answer" in part] == below[1:]
            assert {str(part["comment"]) for part in told["parts"] if "comment" in part} == {comment["Id"] for comment in said}
            for part in told["parts"]:
                ids = str(part.get("question", part.get("answer", part.get("comment"))))
                source = posts[ids] if "comment" not in part else next(comment for comment in said if comment["Id"] == ids)
                user = source.get("OwnerUserId", source.get("UserId"))
                assert part.get("author") == names.get(user or "", source.get("OwnerDisplayName", source.get("UserDisplayName")))
                assert part.get("author_id") == (int(user) if user else None)
                if "comment" not in part:
                    ups = sum(vote["PostId"] == ids and vote["VoteTypeId"] == "2" for vote in votes)
                    assert part.get("votes", {}).get("up", 0) == ups
            assert made[own].records == 1 + len(answers) + len(said)
            in_documents += made[own].records
        lost = Counter(thing.reason for thing in things if isinstance(thing, Drop))
        assert not [thing for thing in things if isinstance(thing, Failure)]
        assert in_documents + sum(lost.values()) - lost["not_read"] == len(posts) + len(comments)
        assert lost["post_type"] == sum(post["PostTypeId"] not in ("1", "2") for post in posts.values())


@pytest.mark.realdata
@pytest.mark.parametrize("keys", [{"comments": "all"}, {"mode": "pairs", "lookups": ()}])
def test_units_of_any_size_give_the_same(data_dir: Path, keys: dict[str, Any]) -> None:
    base = data_dir / "stackexchange"
    whole = run(base, **keys)
    assert len(documents(whole)) > 900
    for unit_bytes in (70_000, 1_333_333):
        assert run(base, unit_bytes, **keys) == whole


@pytest.mark.realdata
def test_the_record_at_the_origin_holds_the_text(data_dir: Path) -> None:
    base = data_dir / "stackexchange"
    found = sorted(documents(run(base)).values(), key=lambda one: one.id)
    for document in random.Random(0).sample(found, 100):
        raw = (base / str(document.file)).read_bytes()[document.offset :][: document.length]
        element = etree.fromstring(raw)
        title, body = str(element.get("Title")), str(element.get("Body"))
        assert document.text.startswith(f"# {' '.join(title.split())}\n\n")
        plain = " ".join("".join(etree.HTML(body).itertext()).split())[:15]
        assert plain[:3] in document.text
        assert element.get("Id") == document.id.rsplit("/", 1)[1]


# -- layouts -----------------------------------------------------------------------------------------------------------------------

FILES = {path.name: path.read_bytes() for path in sorted(SAMPLE.glob("*.xml"))}


def sevenzip(files: dict[str, bytes]) -> bytes:
    py7zr = pytest.importorskip("py7zr")
    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writef(io.BytesIO(data), name)
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


HOST = "toolshed.stackexchange.com"
LAYOUTS = {
    "folder": lambda: {f"{HOST}/{name}": data for name, data in FILES.items()},
    "gzip": lambda: {f"dump/{HOST}/{name}.gz": gzip.compress(data) for name, data in FILES.items()},
    "bzip2": lambda: {f"{HOST}/{name}.bz2": bz2.compress(data) for name, data in FILES.items()},
    "xz": lambda: {f"{HOST}/{name}": lzma.compress(data) for name, data in FILES.items()},
    "zstd": lambda: {f"{HOST}/{name}.zst": zstandard.compress(data) for name, data in FILES.items()},
    "7z": lambda: {f"{HOST}.7z": sevenzip(FILES)},
    "7z of each": lambda: {f"{HOST}-{name.removesuffix('.xml')}.7z": sevenzip({name: data}) for name, data in FILES.items()},
    "zip": lambda: {f"x/{HOST}.zip": zipped(FILES)},
    "tar": lambda: {"dump.tar": tarred({f"./{HOST}/{name}": data for name, data in FILES.items()})},
    "tar.gz": lambda: {f"{HOST}.tar.gz": gzip.compress(tarred(FILES))},
    "tar of gzip": lambda: {f"{HOST}.tar": tarred({f"{name}.gz": gzip.compress(data) for name, data in FILES.items()})},
    "names in any case": lambda: {f"{HOST.upper()}/{number}.txt": data for number, data in enumerate(FILES.values())},
}


def unpacked(base: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(data)
    return base


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_documents(tmp_path: Path, layout: str) -> None:
    expected = run(unpacked(tmp_path / "plain", LAYOUTS["folder"]()), comments="all")
    base = unpacked(tmp_path / "other", LAYOUTS[layout]())
    found = run(base, comments="all")
    assert kinds(found) == kinds(expected)
    made = documents(found)
    assert set(made) == {f"{HOST}/{own}" for own in (1, 5, 8, 12)}
    for own, one in documents(expected).items():
        other = made[own]
        assert (other.text, other.licence, other.created, other.url) == (one.text, one.licence, one.created, one.url)
        told = meta(other)
        streamed = told.pop("stream", None)
        assert told == meta(one)
        assert (other.offset, other.length) == (one.offset, one.length)
        assert (streamed == "decompressed") == (layout in ("gzip", "bzip2", "xz", "zstd", "tar of gzip"))
        assert (other.member is not None) == ("7z" in layout or "tar" in layout or "zip" in layout.split())


@pytest.mark.parametrize(
    ("name", "member", "expected"),
    [
        ("dump/ru.stackoverflow.com/Posts.xml", None, "ru.stackoverflow.com"),
        ("stackoverflow.com-Posts.7z", "Posts.xml", "stackoverflow.com"),
        ("meta.stackexchange.com.7z", "Posts.xml", "meta.stackexchange.com"),
        ("stackoverflow.com-Posts.xml.gz", None, "stackoverflow.com"),
        ("all.tar", "x/MathOverflow.net/Posts.xml", "mathoverflow.net"),
        ("https://stackoverflow.com/files/dump/Posts.xml", None, "files/dump"),
        ("s3://bucket/askubuntu.com/Posts.xml", None, "askubuntu.com"),
        ("../data/shed/Posts.xml", None, "data/shed"),
        ("dump.7z", "Posts.xml", "dump"),
        ("x/shed-Posts.7z", "Posts.xml", "x/shed"),
        ("all.tar", "shed/Posts.xml", "all/shed"),
        ("all.tar", "a" + ".xml" * 300_000 + "!/Posts.xml", "all"),
        ("Posts.xml", None, "s"),
        ("evilstackoverflow.com/Posts.xml", None, "evilstackoverflow.com"),
    ],
)
def test_sites(name: str, member: str | None, expected: str) -> None:
    assert stackexchange.site_of(name, member, config()) == expected
    assert stackexchange.site_of(name, member, config(site="a.example.org")) == "a.example.org"


def test_folders_of_unknown_sites_do_not_mix(tmp_path: Path) -> None:
    for folder in "ab":
        site(tmp_path / folder, Posts=table("posts", question(1, Title=folder), answer(2, 1)))
    found = documents(run(tmp_path))
    assert {one.id: meta(one)["title"] for one in found.values()} == {"a/1": "a", "b/1": "b"}
    assert {one.url for one in found.values()} == {None}


def test_the_language_of_the_site(tmp_path: Path) -> None:
    for host in ("ru.stackoverflow.com", "ja.meta.stackoverflow.com", "stackoverflow.com"):
        site(tmp_path / host, Posts=table("posts", question(1)))
    langs = {one.id.split("/")[0]: one.lang for one in documents(run(tmp_path)).values()}
    assert langs == {"ru.stackoverflow.com": "ru", "ja.meta.stackoverflow.com": "ja", "stackoverflow.com": None}


# -- the sample, by hand -----------------------------------------------------------------------------------------------------------

SAMPLE_TEXT = """# How do I read a file line by line without holding all of it?

My log has 40 GB. This dies:

```py
for line in open("log").read().split("\\n"):
    if line & line[0] != "#":
        count(line)
```

What is the usual way?

### Comments

- Which version of Python? It is an iterator since 2.2.
- Thanks, that was it!

## Accepted answer

A file *is* an iterator over its lines:

```
with open("log") as file:
    for line in file:
        count(line)
```

1. One line is held at a time.
2. The file is closed at the end, whatever happens.

### Comments

- Mind the encoding: `open(..., encoding="utf-8")`.

## Answer

Buy more memory, it is cheap.

## Answer

Use `sed`."""


def test_a_question_with_all_that_belongs_to_it() -> None:
    things = run(SAMPLE, comments="all", site="toolshed.example.org")
    found = documents(things)
    one = found["toolshed.example.org/1"]
    assert one.text == SAMPLE_TEXT
    assert (one.records, one.kind, one.lang) == (7, None, None)
    assert one.licence == "CC-BY-SA-2.5 AND CC-BY-SA-3.0 AND CC-BY-SA-4.0"
    assert one.url == "https://toolshed.example.org/q/1"
    assert str(one.created) == "2010-09-14 08:12:40.103000+00:00"
    told = meta(one)
    assert told["tags"] == ["python", "files"]
    assert (told["score"], told["views"], told["accepted_answer_id"]) == (14, 2210, 3)
    assert told["parts"][0] == {
        "question": 1, "author": "Marta Anker", "author_id": 7, "author_url": "https://toolshed.example.org/users/7", "score": 14,
        "licence": "CC-BY-SA-2.5", "url": "https://toolshed.example.org/q/1", "votes": {"favourite": 2, "up": 3},
    }  # fmt: skip
    authors = [part["author"] for part in told["parts"]]
    assert authors == ["Marta Anker", "Jörg & Söhne", "<anna>", "user4711", "Jörg & Söhne", "Marta Anker", "user4711"]
    assert meta(found["toolshed.example.org/8"])["duplicate_of"] == [1]
    assert meta(found["toolshed.example.org/5"])["linked"] == [1]
    assert meta(found["toolshed.example.org/12"])["tags"] == ["materials", "units"]
    assert "$$H_n - \\ln n$$" in found["toolshed.example.org/5"].text
    assert kinds(things) == {"ok": 4, "not_read": 1, "post_type": 1, "no_question": 1, "no_post": 1, "invalid_xml": 1}


@pytest.mark.parametrize(
    ("keys", "expected", "lost"),
    [
        ({}, {1, 5, 8, 12}, {"not_read": 2}),
        ({"lookups": ()}, {1, 5, 8, 12}, {"not_read": 5}),
        ({"closed": "drop"}, {1, 5, 12}, {"not_read": 2, "closed": 1}),
        ({"min_score": 5}, {1, 5}, {"not_read": 2, "low_score": 3}),
        ({"min_answers": 1}, {1, 5, 12}, {"not_read": 2, "few_answers": 1}),
        ({"min_answers": 2}, {1, 5}, {"not_read": 2, "few_answers": 3}),
        ({"min_answer_score": 2}, {1, 5, 8, 12}, {"not_read": 2, "low_score": 2}),
        ({"accepted_only": True, "min_answers": 1}, {1}, {"not_read": 2, "not_accepted": 5, "few_answers": 3}),
        ({"tags": ("python", "units")}, {1, 8, 12}, {"not_read": 2, "tags": 3}),
        ({"comments": "scored"}, {1, 5, 8, 12}, {"not_read": 1, "low_score": 1, "no_post": 1}),
        ({"comments": "scored", "min_comment_score": 4, "closed": "drop"}, {1, 5, 12}, {"not_read": 1, "low_score": 4, "closed": 1}),
        ({"comments": "all", "min_score": 5, "lookups": ()}, {1, 5}, {"not_read": 4, "low_score": 4, "no_post": 1}),
    ],
)
def test_recipes(keys: dict[str, Any], expected: set[int], lost: dict[str, int]) -> None:
    things = run(SAMPLE, **keys)
    assert set(documents(things)) == {f"s/{own}" for own in expected}
    always = {"post_type": 1, "no_question": 1, "invalid_xml": 1}
    assert kinds(things) == {"ok": len(expected), **always, **lost}


def test_keys_that_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="pairs hold none"):
        config(mode="pairs", comments="all")


@pytest.mark.parametrize(
    ("written", "stated", "expected"),
    [
        ("2009-01-01T00:00:00.000", None, "CC-BY-SA-2.5"),
        ("2011-04-07T23:59:59.999", None, "CC-BY-SA-2.5"),
        ("2011-04-08T00:00:00.000", None, "CC-BY-SA-3.0"),
        ("2018-05-01T23:59:59.999", None, "CC-BY-SA-3.0"),
        ("2018-05-02T00:00:00.000", None, "CC-BY-SA-4.0"),
        ("2009-01-01T00:00:00.000", "CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("2019-01-01T00:00:00.000", "who knows", "CC-BY-SA-4.0"),
        ("", None, None),
    ],
)
def test_licences(written: str, stated: str | None, expected: str | None) -> None:
    assert licence_of({"CreationDate": written, **({"ContentLicense": stated} if stated else {})}) == expected


# -- pairs -------------------------------------------------------------------------------------------------------------------------


def test_pairs_of_the_sample() -> None:
    things = run(SAMPLE, mode="pairs", site="toolshed.example.org")
    found = documents(things)
    # log2(1 + 21) + 1 = 5 for the accepted answer, 2 for the one with 2 votes, -1 for the one below zero; then 3 against 1.
    assert {one.id.split("/", 1)[1]: meta(one)["margin"] for one in found.values()} == {"1/3-4": 6, "1/3-2": 3, "1/2-4": 3, "5/6-7": 2}
    one = found["toolshed.example.org/1/3-4"]
    told = meta(one)
    assert one.kind == "preference"
    assert one.text == f"{told['prompt']}\n\n## Answer\n\n{told['chosen']}"
    assert told["prompt"].startswith("# How do I read a file")
    assert told["rejected"] == "Use `sed`."
    assert [part.get("author") for part in told["parts"]] == ["Marta Anker", "Jörg & Söhne", "user4711"]
    assert kinds(things) == {"ok": 4, "not_read": 2, "post_type": 1, "no_question": 1, "invalid_xml": 1, "no_pair": 3}
    assert sum(other.records for other in found.values()) == 4 + 3


@pytest.mark.parametrize(("how", "margin", "most"), [("log", 1, 10), ("score", 3, 4), ("score", 1, 1), ("log", 2, 1000)])
def test_pairs_as_trying_all_of_them_finds(tmp_path: Path, how: str, margin: int, most: int) -> None:
    rng = random.Random(7)
    rows, answers, own = [], defaultdict(list), 100
    for number in range(1, 40):
        accepted = own + 1 if rng.random() < 0.5 else 0
        rows.append(question(number, **({"AcceptedAnswerId": accepted} if accepted else {})))
        for _ in range(rng.randrange(7)):
            own += 1
            score = rng.randrange(-3, 40)
            rows.append(answer(own, number, score))
            value = score if how == "score" else -1 if score < 0 else round(math.log2(1 + score)) + (own == accepted)
            answers[number].append((own, value))
        own += 1
    site(tmp_path, Posts=table("posts", *rows))
    things = run(tmp_path, mode="pairs", measure=how, min_margin=margin, max_pairs=most)
    found: dict[int, list[int]] = defaultdict(list)
    for one in documents(things).values():
        told = meta(one)
        found[told["question_id"]].append(told["margin"])
        values = dict(answers[told["question_id"]])
        chosen, rejected = map(int, one.id.rsplit("/", 1)[1].split("-"))
        assert values[chosen] - values[rejected] == told["margin"] >= margin
    for number, listed in answers.items():
        margins = sorted((a - b for (_, a), (_, b) in itertools.permutations(listed, 2) if a - b >= margin), reverse=True)
        assert sorted(found.get(number, []), reverse=True) == margins[:most]


def test_the_widest_pairs_of_very_many_answers_cost_little() -> None:
    values = sorted(random.Random(1).choices(range(10_000), k=100_000), reverse=True)
    began = time.process_time()
    found = list(_widest(values, 1, 1000))
    assert time.process_time() - began < 3
    assert [values[a] - values[b] for a, b in found] == sorted((values[a] - values[b] for a, b in found), reverse=True)
    assert found[0] == (0, len(values) - 1)
    assert measure(-1, True) == -1


def test_more_pairs_than_records_balance(tmp_path: Path) -> None:
    site(tmp_path, Posts=table("posts", question(1), *(answer(own, 1, 2**own) for own in range(2, 62))))
    manifest, _ = _built(tmp_path, tmp_path / "out", 1 << 30, 1, mode="pairs", max_pairs=1000)
    totals = manifest["totals"]
    assert (totals["documents"], totals["dropped"], totals["errors"]) == (1000, 0, 0)
    read = manifest["waterfall"]["s"][0]
    assert min(read["joined"], *read["drop"].values(), 0) == 0
    assert read["rows_in"] == read["rows_out"] + read["joined"] + sum(read["drop"].values())
    assert read["rows_in"] > 1000 > 61


# -- through the build -------------------------------------------------------------------------------------------------------------


def _built(base: Path, out: Path, unit_bytes: int, workers: int, **keys: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    source = {"name": "s", "type": "stackexchange", "paths": ["."], **keys}
    recipe = recipes.check({"name": "j", "sources": [source], "unit_bytes": unit_bytes}, "j")
    manifest = build(recipe, base, out, workers=workers)
    return manifest, [row for part in sorted((out / "documents/s").glob("*")) for row in pq.read_table(part).to_pylist()]


@pytest.mark.parametrize("keys", [{"comments": "all"}, {"mode": "pairs"}])
def test_a_corpus(tmp_path: Path, keys: dict[str, Any]) -> None:
    expected = run(SAMPLE, **keys, site="x.org")
    manifest, rows = _built(SAMPLE, tmp_path / "a", 1 << 20, 1, **keys, site="x.org")
    assert {row["id"]: row["text"] for row in rows} == {one.id: one.text for one in documents(expected).values()}
    totals = manifest["totals"]
    lost = Counter(type(thing).__name__ for thing in expected)
    assert (totals["documents"], totals["dropped"], totals["errors"]) == (lost["Document"], lost["Drop"], lost["Failure"])
    assert totals["records"] == sum(getattr(thing, "records", 1) or 1 for thing in expected)
    if "mode" in keys:
        return
    again, same = _built(SAMPLE, tmp_path / "b", 1024, 2, **keys, site="x.org")
    assert same == rows
    assert again["totals"]["records"] == totals["records"]


@pytest.mark.realdata
@pytest.mark.slow
def test_a_corpus_of_every_real_dump(data_dir: Path, tmp_path: Path) -> None:
    base = data_dir / "stackexchange"
    one, rows = _built(base, tmp_path / "a", 1 << 25, 1, comments="all")
    two, same = _built(base, tmp_path / "b", 1 << 20, 2, comments="all")
    assert rows == same
    assert one["totals"] | {"units": 0} == two["totals"] | {"units": 0}
    assert len(rows) == len(documents(run(base, comments="all")))


# -- what can be wrong -------------------------------------------------------------------------------------------------------------


def test_rows_without_what_they_need(tmp_path: Path) -> None:
    site(
        tmp_path,
        Posts=table(
            "posts", question(1), row(PostTypeId=1), row(Id=3), row(Id="x", PostTypeId=1), row(Id=4, PostTypeId=2), row(Id=5, PostTypeId=99)
        ),
        Comments=table("comments", row(Id=1, PostId=1, Text="a"), row(Id=2, Text="b"), row(PostId=1), row(Id=3, PostId=1, Text=" ")),
        Users=table("users", row(Id=1), row(DisplayName="a")),
        Votes=table("votes", row(Id=1, PostId=1, VoteTypeId=2), row(Id=2, PostId=1), row(Id=3, PostId=1, VoteTypeId=8)),
        PostLinks=table("postlinks", row(Id=1, PostId=1, RelatedPostId=2, LinkTypeId=7), row(Id=2)),
    )  # fmt: skip
    things = run(tmp_path, comments="all")
    assert kinds(things) == {"ok": 1, "invalid_row": 3 + 2 + 1 + 1 + 1, "no_question": 1, "post_type": 1, "empty_text": 1}


def test_posts_without_text_and_values_without_sense(tmp_path: Path) -> None:
    huge = "9" * 5000
    site(
        tmp_path,
        Posts=table(
            "posts",
            question(1, Body="", Title=" "), answer(2, 1), question(3, Body="<p> </p>"), answer(4, 3, Body="<p></p>"),
            question(5, Score=huge, ViewCount=huge, AcceptedAnswerId=huge, CreationDate="yesterday", OwnerUserId=huge),
            question(6, CreationDate="9999-12-31T23:59:59-23:00", Tags="<a><<b>|"),
            question(7, Title="&#xD800;".replace("&", "\0"), Body="nul \0"),
        ).replace(b"\0#xD800;", b"&#xD800;"),
    )  # fmt: skip
    things = run(tmp_path, lookups=())
    assert kinds(things) == {"empty_text": 3, "ok": 4}
    found = documents(things)
    assert found["s/3"].text == "# T3"
    assert found["s/5"].created is None
    assert "views" not in meta(found["s/5"])
    assert found["s/7"].text == "# \ufffd\n\nnul \ufffd"
    for one in found.values():
        one.text.encode()


def test_of_two_posts_with_one_id_the_first_is_taken(tmp_path: Path) -> None:
    for year in ("2023", "2024"):
        posts = table("posts", question(1, Title=year), answer(2, 1), answer(1, 1))
        site(tmp_path / year / HOST, Posts=posts, Comments=table("comments", row(Id=5, PostId=2, Text=year)))
    things = run(tmp_path, comments="all")
    (one,) = documents(things).values()
    assert one.text == "# 2023\n\nq1\n\n## Answer\n\na2\n\n### Comments\n\n- 2023"
    assert kinds(things) == {"ok": 1, "duplicate": 5}


def test_a_question_larger_than_allowed(tmp_path: Path) -> None:
    rows = [question(1), *(answer(own, 1, Body="x" * 500) for own in range(2, 10)), question(20, Body="y" * 5000), question(30)]
    site(tmp_path, Posts=table("posts", *rows))
    things = run(tmp_path, max_record_bytes=3000)
    assert kinds(things) == {"ok": 1, "too_large": 9 + 1}
    assert {thing.offset is not None for thing in things if isinstance(thing, Failure)} == {True}


def test_a_question_of_very_many_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "_MEMORY", 100 << 10)
    site(tmp_path, Posts=table("posts", question(1), *(answer(own, 1) for own in range(2, 202)), question(300), answer(301, 300)))
    assert kinds(run(tmp_path, max_record_bytes=100 << 10)) == {"ok": 1, "too_large": 201}


@pytest.mark.parametrize("unit_bytes", [1 << 10, 1 << 40])
@pytest.mark.parametrize("before", [b" " * (1 << 20), b"\xef\xbb\xbf" + b"\n" * (3 << 20), b"<!--" + b"x" * (1 << 20) + b"-->"])
def test_much_before_the_root(tmp_path: Path, before: bytes, unit_bytes: int) -> None:
    whole = table("posts", question(1), question(2))
    declaration, rest = whole.split(b"\n", 1)
    for content in (before + rest, declaration + before.removeprefix(b"\xef\xbb\xbf") + rest):
        (tmp_path / "Posts.xml").write_bytes(content)
        assert kinds(run(tmp_path, unit_bytes)) == {"ok": 2}
        (tmp_path / "Posts.xml").write_bytes(gzip.compress(content))
        assert kinds(run(tmp_path, max_ratio=1 << 20)) == {"ok": 2}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", {"empty": 1}),
        (b"no xml at all", {"not_read": 1}),
        (b"<html><body><row/></body></html>", {"not_read": 1}),
        (table("badges", row(Id=1)), {"not_read": 1}),
        (table("posts", question(1)).decode().encode("utf-16"), {"unsupported": 1}),
        (table("posts", question(1), encoding="iso-8859-1"), {"unsupported": 1}),
        (b"\xef\xbb\xbf" + table("posts", question(1)), {"ok": 1}),
        (table("posts", question(1)).replace(b"\n", b"\r\n"), {"ok": 1}),
        (table("posts", question(1)).replace(b"\n", b""), {"ok": 1}),
        (table("posts"), {}),
        (b"garbage " + table("posts", question(1)), {"invalid_xml": 1, "ok": 1}),  # the file's name tells the table
        (table("posts", question(1))[:-40], {"truncated": 1}),
        (b'<!DOCTYPE posts [<!ENTITY a "b">]>' + table("posts", question(1)), {"entity_declaration": 1, "ok": 1}),
        (gzip.compress(table("posts", question(1), question(2)))[:-20], {"truncated": 1}),
        (gzip.compress(table("posts", *(question(n, Body=str(random.Random(n).random())) for n in range(3000))))[:-3000], None),
        (b"\x1f\x8b" + b"\0" * 100, {"corrupt": 1}),
        (gzip.compress(zipped(FILES)), {"unsupported": 1}),
        (b"7z\xbc\xaf\x27\x1c" + b"\0" * 500, {"corrupt": 1}),
        (b"7z\xbc\xaf\x27\x1c\0\4", {"truncated": 1}),
        (b"PK\x03\x04" + b"\0" * 500, {"corrupt": 1}),
    ],
    ids=range(20),
)
def test_files_that_are_damaged_or_something_else(tmp_path: Path, content: bytes, expected: dict[str, int] | None) -> None:
    (tmp_path / "Posts.xml").write_bytes(content)
    things = run(tmp_path)
    if expected is None:  # a clipped stream: what comes before the cut is there
        found = kinds(things)
        assert found.pop("ok") > 1000
        assert found == {"truncated": 1}
    elif expected != {"corrupt": 1} or not content.startswith(b"7z"):
        assert kinds(things) == expected
    else:
        assert set(kinds(things)) <= {"corrupt", "truncated"}


def test_a_bomb_ends_in_one_error(tmp_path: Path) -> None:
    def bomb() -> Iterator[bytes]:
        yield b'<posts><row Id="1" PostTypeId="1" Body="'
        yield from itertools.repeat(b"\0" * (1 << 20), 200)

    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    data = b"".join(map(compressor.compress, bomb())) + compressor.flush()
    (tmp_path / "Posts.xml.zst").write_bytes(data)
    began = time.process_time()
    things = run(tmp_path, max_record_bytes=1 << 20)
    assert set(kinds(things)) == {"too_large", "bomb"}
    assert time.process_time() - began < 5


def test_archives_that_mean_harm(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred({"../../Posts.xml": FILES["Posts.xml"], "Users.xml": b"<users/>", "x/README": b"hello"}))
    link = io.BytesIO()
    with tarfile.open(fileobj=link, mode="w") as archive:
        info = tarfile.TarInfo("Posts.xml")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    (tmp_path / "b.tar").write_bytes(link.getvalue())
    (tmp_path / "c.zip").write_bytes(zipped({"Posts.xml": table("posts", question(1)), "inner.zip": zipped(FILES)}))
    things = run(tmp_path)
    assert kinds(things) == {"unsafe_path": 1, "not_read": 3, "ok": 1}
    assert [thing.member for thing in things if isinstance(thing, Failure)] == ["../../Posts.xml"]


def test_no_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Posts.xml")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert kinds(run(tmp_path)) == {"unreadable": 1}


def test_a_name_is_no_bomb(tmp_path: Path) -> None:
    posts = [question(number, OwnerUserId=1) for number in range(1, 200)]
    site(tmp_path, Posts=table("posts", *posts), Users=table("users", row(Id=1, DisplayName="x" * 1_000_000)))
    assert {len(meta(one)["parts"][0]["author"]) for one in documents(run(tmp_path)).values()} == {256}


def test_a_user_of_very_many_posts(tmp_path: Path) -> None:
    posts = [question(number, OwnerUserId=1) for number in range(1, 2001)]
    site(tmp_path, Posts=table("posts", *posts), Users=table("users", row(Id=1, DisplayName="Busy & <co>")))
    found = documents(run(tmp_path))
    assert len(found) == 2000
    assert {meta(one)["parts"][0]["author"] for one in found.values()} == {"Busy & <co>"}
