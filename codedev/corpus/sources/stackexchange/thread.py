"""A question with its answers and comments, and what becomes of them: one document, pairs of answers, or Drops that say why not.

Answers come by score, the accepted one first; comments under their post by date. The licence is that of the parts: each stays under the
version of CC BY-SA it was given under, so where they differ the document's expression joins them with AND, and `parts` in `meta` says
which is whose, with the author and the URL that the licence asks to name. Cost: 40 µs a post, three quarters of it HTML.
"""

from __future__ import annotations

import datetime as dt
import heapq
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import orjson

from codedev.corpus.document import RAW_PREFIX, meta_json
from codedev.corpus.extract.post_html import to_markdown
from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.stackexchange.xml_rows import attributes

if TYPE_CHECKING:
    from codedev.corpus.sources.stackexchange.source import Config

Evidence = dict[str, object]
_MEMORY = 64 << 20  # bytes that the records of a question may take, whatever their text


class Record:
    """A post or a comment: where it lies and what it says."""

    def __init__(self, piece: Piece) -> None:
        tag = piece.data[:1]
        self.piece = piece
        self.row = attributes(piece.data if tag == b"<" else piece.data[1:])
        self.id = int(self.row["Id"])
        self.is_comment = tag in b"cC"
        self.post = int(self.row["PostId"]) if self.is_comment else self.id
        self.score = _integer(self.row.get("Score")) or 0
        self.text = ""

    def drop(self, site: str, reason: str, evidence: Evidence) -> Drop:
        own, piece = f"{site}/comment/{self.id}" if self.is_comment else f"{site}/{self.id}", self.piece
        return Drop(own, reason, meta_json(evidence), piece.offset, piece.length, piece.member, file=piece.file)


class _Thread(NamedTuple):
    site: str
    question: Record
    answers: list[Record]
    comments: list[Record]
    about: dict[int, Evidence]  # names, votes and links of a post
    accepted: int | None


def documents(site: str, number: int, pieces: list[Piece], config: Config) -> Iterator[Document | Drop | Failure]:
    """What becomes of question `number` and all that goes with it."""
    size = sum(len(piece.data) for piece in pieces)
    if size > config.max_record_bytes or len(pieces) > max(config.max_record_bytes, _MEMORY) >> 10:
        message = (
            f"the question has {size:,} bytes in {len(pieces):,} posts and comments; max_record_bytes is {config.max_record_bytes:,}, "
            "and one takes 1 KB of memory beside its text"
        )
        for piece in pieces:
            if piece.records:
                yield Failure("too_large", message, piece.offset, piece.member, piece.data[:RAW_PREFIX], piece.file)
        return
    told = [orjson.loads(piece.data[1:]) for piece in pieces if piece.data.startswith(b"a")]
    records = [Record(piece) for piece in pieces if not piece.data.startswith(b"a")]
    records.sort(key=lambda record: (record.piece.file or "", record.piece.member or "", record.piece.offset or 0))
    known: dict[tuple[bool, int], Record] = {}
    for record in records:
        first = known.setdefault((record.is_comment, record.id), record)
        if first is not record:
            yield record.drop(site, "duplicate", {"file": first.piece.file, "offset": first.piece.offset})
    question = known.pop((False, number), None)
    others = list(known.values())
    if question is None or _integer(question.row.get("PostTypeId")) != 1:
        for record in [question, *others] if question else others:
            yield record.drop(site, "no_question", {"question": number})
        return
    thread = _Thread(
        site, question, [record for record in others if not record.is_comment], [record for record in others if record.is_comment],
        {one["post"]: one for one in told}, _integer(question.row.get("AcceptedAnswerId")),
    )  # fmt: skip
    dropped: list[Drop] = []
    kept = _keep(thread, config, dropped)
    yield from dropped
    if kept:
        yield from _pairs(kept, config) if config.mode == "pairs" else _whole(kept)


# -- what is kept ------------------------------------------------------------------------------------------------------------------


def _keep(thread: _Thread, config: Config, dropped: list[Drop]) -> _Thread | None:
    """The thread in the order of its document, without what goes to `dropped`."""
    question, answers = thread.question, []
    reason, evidence = _why_no_question(question, config)
    left = thread.answers if reason else []
    for answer in [] if reason else thread.answers:
        why, seen = _why_no_answer(answer, thread.accepted, config)
        if why:
            dropped.append(answer.drop(thread.site, why, seen))
        else:
            answers.append(answer)
    if not reason and len(answers) < config.min_answers:
        reason, evidence, left = "few_answers", {"answers": len(answers)}, answers
    if reason:
        told = {"question": question.id, **evidence}
        dropped += [record.drop(thread.site, reason, told) for record in (question, *left, *thread.comments)]
        return None
    answers.sort(key=lambda answer: (answer.id != thread.accepted, -answer.score, answer.id))
    posts = {question.id, *(answer.id for answer in answers)}
    comments = []
    for comment in thread.comments:
        comment.text = " ".join(comment.row.get("Text", "").split())
        if comment.post not in posts:
            dropped.append(comment.drop(thread.site, "no_post", {"post": comment.post}))
        elif not comment.text:
            dropped.append(comment.drop(thread.site, "empty_text", {}))
        else:
            comments.append(comment)
    comments.sort(key=lambda comment: (comment.row.get("CreationDate", ""), comment.id))
    return thread._replace(answers=answers, comments=comments)


def _why_no_question(question: Record, config: Config) -> tuple[str, Evidence]:
    row, tags = question.row, _tags(question.row)
    if config.closed == "drop" and row.get("ClosedDate"):
        return "closed", {"closed": row["ClosedDate"]}
    if config.min_score is not None and question.score < config.min_score:
        return "low_score", {"score": question.score}
    if config.tags is not None and not set(config.tags) & set(tags):
        return "tags", {"tags": tags}
    question.text = to_markdown(row.get("Body", ""))
    return ("", {}) if question.text or row.get("Title", "").strip() else ("empty_text", {})


def _why_no_answer(answer: Record, accepted: int | None, config: Config) -> tuple[str, Evidence]:
    if config.min_answer_score is not None and answer.score < config.min_answer_score:
        return "low_score", {"score": answer.score}
    if config.accepted_only and answer.id != accepted:
        return "not_accepted", {"accepted": accepted}
    answer.text = to_markdown(answer.row.get("Body", ""))
    return ("", {}) if answer.text else ("empty_text", {})


# -- one document a question -------------------------------------------------------------------------------------------------------


def _whole(thread: _Thread) -> Iterator[Document]:
    under: dict[int, list[str]] = {}
    for comment in thread.comments:
        under.setdefault(comment.post, []).append(f"- {comment.text}")
    blocks = []
    for post in (thread.question, *thread.answers):
        if post is thread.question:
            blocks.append(_prompt(post))
        else:
            blocks += ["## Accepted answer" if post.id == thread.accepted else "## Answer", post.text]
        if post.id in under:
            blocks += ["### Comments", "\n".join(under[post.id])]
    parts = [thread.question, *thread.answers, *thread.comments]
    yield _document(thread, str(thread.question.id), "\n\n".join(blocks), parts, len(parts))


def _prompt(question: Record) -> str:
    title = " ".join(question.row.get("Title", "").split())
    return "\n\n".join(filter(None, (f"# {title}" if title else "", question.text)))


# -- pairs of answers --------------------------------------------------------------------------------------------------------------


def _pairs(thread: _Thread, config: Config) -> Iterator[Document | Drop]:
    """One document a pair. Each record is counted with the first document that holds it; one that holds no new record has `records=0`."""

    def measured(answer: Record) -> int:
        return answer.score if config.measure == "score" else measure(answer.score, answer.id == thread.accepted)

    question, prompt = thread.question, _prompt(thread.question)
    ranked = sorted(thread.answers, key=lambda answer: (-measured(answer), -answer.score, answer.id))
    values = [measured(answer) for answer in ranked]
    uncounted = {question.id, *(answer.id for answer in ranked)}
    for better, worse in _widest(values, config.min_margin, config.max_pairs):
        chosen, rejected = ranked[better], ranked[worse]
        parts = [question, chosen, rejected]
        text = f"{prompt}\n\n## Answer\n\n{chosen.text}"  # what is good to learn from: the rejected answer stands in `meta` alone
        told: Evidence = {"prompt": prompt, "chosen": chosen.text, "rejected": rejected.text, "margin": values[better] - values[worse]}
        own = f"{question.id}/{chosen.id}-{rejected.id}"
        yield _document(thread, own, text, parts, sum(part.id in uncounted for part in parts), "preference", told)
        uncounted -= {part.id for part in parts}
    for record in (question, *ranked):
        if record.id in uncounted:
            span = values[0] - values[-1] if values else None
            yield record.drop(thread.site, "no_pair", {"question": question.id, "answers": len(ranked), "margin": span})


def measure(score: int, is_accepted: bool) -> int:
    """How good an answer is, after Askell et al. 2021 (arXiv 2112.00861) and the preference sets made from it: log2(1 + votes), rounded,
    one more where it was accepted, and -1 for a negative score."""
    return -1 if score < 0 else round(math.log2(1 + score)) + is_accepted


def _widest(values: list[int], least: int, most: int) -> Iterator[tuple[int, int]]:
    """Up to `most` pairs (better, worse) of places in `values`, which fall: those with the greatest difference, none under `least`.
    Costs most x log most, whatever the number of values."""
    if len(values) < 2:
        return
    heap = [(values[-1] - values[0], 0, len(values) - 1)]
    seen = {heap[0][1:]}
    for _ in range(most):
        if not heap or -heap[0][0] < least:
            return
        _, better, worse = heapq.heappop(heap)
        yield better, worse
        for pair in ((better, worse - 1), (better + 1, worse)):
            if pair[0] < pair[1] and pair not in seen:
                seen.add(pair)
                heapq.heappush(heap, (values[pair[1]] - values[pair[0]], *pair))


# -- what a document says of itself ------------------------------------------------------------------------------------------------


def _document(
    thread: _Thread, own: str, text: str, parts: list[Record], records: int, kind: str | None = None, told: Evidence | None = None
) -> Document:
    site, question = thread.site, thread.question
    row, piece = question.row, question.piece
    about = thread.about.get(question.id, {})
    meta: Evidence = {
        "site": site,
        "question_id": question.id,
        "title": row.get("Title"),
        "tags": _tags(row),
        "score": question.score,
        "views": _integer(row.get("ViewCount")),
        "accepted_answer_id": thread.accepted,
        "closed": row.get("ClosedDate"),
        "linked": about.get("linked"),
        "duplicate_of": about.get("duplicate_of"),
        "parts": [_attribution(thread, part) for part in parts],
        "stream": None if piece.data.startswith(b"<") else "decompressed",
        **(told or {}),
    }
    licences = sorted({licence for part in parts if (licence := licence_of(part.row))})
    return Document(
        f"{site}/{own}",
        text,
        piece.offset,
        piece.length,
        piece.member,
        kind,
        lang=_LANGUAGES.get(site),
        licence=" AND ".join(licences) or None,
        url=_url(site, f"q/{question.id}"),
        created=_date(row.get("CreationDate", "")),
        meta=meta_json(meta),
        file=piece.file,
        records=records,
    )


def _attribution(thread: _Thread, part: Record) -> Evidence:
    """Whom and what CC BY-SA asks to name."""
    row, site = part.row, thread.site
    about = thread.about.get(part.post, {})
    names = about.get("names")
    user, own_name = (row.get("UserId"), "UserDisplayName") if part.is_comment else (row.get("OwnerUserId"), "OwnerDisplayName")
    word = "comment" if part.is_comment else "question" if part is thread.question else "answer"
    told: Evidence = {
        word: part.id,
        "url": _url(site, f"posts/comments/{part.id}" if part.is_comment else f"{word[0]}/{part.id}"),
        "author": (names.get(user) if isinstance(names, dict) else None) or row.get(own_name),
        "author_id": _integer(user),
        "author_url": _url(site, f"users/{user}") if user and not user.startswith("-") else None,
        "licence": licence_of(row),
        "score": part.score,
        "accepted": True if word == "answer" and part.id == thread.accepted else None,
        "votes": None if part.is_comment else about.get("votes"),
    }
    return {key: value for key, value in told.items() if value is not None}


def _url(site: str, path: str) -> str | None:
    return f"https://{site}/{path}" if "." in site and "/" not in site else None


_STATED = re.compile(r"CC BY-SA ([0-9]\.[0-9])")
# What was posted before these days stands under the older licence.
_SINCE = (("2018-05-02", "CC-BY-SA-4.0"), ("2011-04-08", "CC-BY-SA-3.0"), ("2005-01-01", "CC-BY-SA-2.5"))


def licence_of(row: dict[str, str]) -> str | None:
    """SPDX: what the row states, else what held on the day it was written."""
    stated = _STATED.fullmatch(row.get("ContentLicense", ""))
    if stated:
        return f"CC-BY-SA-{stated[1]}"
    return next((licence for day, licence in _SINCE if row.get("CreationDate", "") >= day), None)


# The sites that are not in English, or about it.
_LANGUAGES = {host: word for word in ("ru", "es", "pt", "ja") for host in (f"{word}.stackoverflow.com", f"{word}.meta.stackoverflow.com")}
_LANGUAGES["rus.stackexchange.com"] = "ru"


def _tags(row: dict[str, str]) -> list[str]:
    """Written `<a><b>` until 2023 and `|a|b|` since."""
    return re.findall(r"[^<>|]+", row.get("Tags", ""))


def _integer(text: str | None) -> int | None:
    """None for what is no integer, or too long a one for JSON."""
    try:
        return int(text) if text and len(text) <= 18 else None
    except ValueError:
        return None


def _date(text: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
        return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
