"""Threads of Reddit: a submission and its comments, read in any order from any files, as one conversation.

Every post becomes a piece under its submission's id. A post that the recipe drops leaves a mark there, without text: its replies move up to
the nearest post that is kept, and a submission marked NSFW takes its comments with it. Of a post that was crawled twice the copy retrieved
last counts, also when that one says that it was deleted. Comments whose parent is nowhere stand at the top.

The text is the submission, then the comments depth first, each under the name of its speaker:

    Title of the submission
    <blank line>
    User1: a reply to the submission
    <blank line>
    OP: a reply to the one above
    <blank line>
    User2 to OP: a reply to the submission, which is not the one above

Labels are given in order of appearance; a participant that is mentioned (u/name) gets the same one. `messages` is the path from the
submission down the best-scored replies as turns of user and assistant, one author's posts in a row in one turn, ending with an assistant's.

Cost: 15 µs a post to read, with its Markdown, and 8 µs to gather. Memory: the posts of one thread. No recursion: a chain may be as deep as
it likes, and a circle is cut. Of a thread over the limits the best comments are taken.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from codedev.corpus.document import meta_json
from codedev.corpus.extract.markdown import entities
from codedev.corpus.source import Document, Drop, Piece
from codedev.corpus.sources.reddit.post import SITE, Post, seconds, url_of

if TYPE_CHECKING:
    from codedev.corpus.sources.reddit.source import Config

_MENTION = re.compile(r"(?<![\w/])/?u/([A-Za-z0-9_-]{1,20})")
_NOBODY = "Someone"  # who has deleted the account
_SUBMITTER = "OP"
_WITHDRAWN = frozenset({"deleted", "removed"})


class Said(msgspec.Struct, array_like=True, gc=False):
    """A post in a piece: what its thread needs."""

    id: str
    parent: str | None = None
    dropped: str | None = None  # why; a mark without text then
    retrieved: int = 0
    created: float | None = None
    score: int | None = None
    author: str | None = None
    text: str = ""
    url: str | None = None  # of a submission, as all below
    meta: dict[str, Any] = {}


encode = msgspec.msgpack.Encoder().encode
decode: Callable[[bytes], Said] = msgspec.msgpack.Decoder(Said).decode


def piece_of(post: Post, own: str, text: str) -> bytes:
    said = Said(own, post.parent_id, None, post.retrieved_on or 0, seconds(post), post.score, _name(post.author), text)
    if post.body is None:
        said.url = url_of(post)
        said.meta = {
            "subreddit": post.subreddit,
            "title": entities(post.title or "").strip() or None,
            "num_comments": post.num_comments,
            "link_flair_text": post.link_flair_text,
            "over_18": post.over_18 or None,
            "retrieved_on": post.retrieved_on,
            "url": None if post.url is None or (post.permalink is not None and post.url.endswith(post.permalink)) else post.url,
        }
    else:
        said.meta = {"subreddit": post.subreddit}
    return encode(said)


def tombstone_of(post: Post, own: str, reason: str) -> bytes:
    return encode(Said(own, post.parent_id, reason, post.retrieved_on or 0))


def _name(author: str | None) -> str | None:
    return None if author in (None, "", "[deleted]") else author


# -- a thread ------------------------------------------------------------------------------------------------------------------------


def gather_thread(key: str, pieces: list[Piece], config: Config) -> Iterator[Document | Drop]:
    """Every post of the thread goes into its document or becomes a Drop."""
    if _size(pieces) > config.max_record_bytes or len(pieces) > _most(config):
        pieces, over = _best(key, pieces, config)
        yield from (_drop((decode(piece.data), piece), "too_large", key) for piece in over if piece.records)
    ordered = sorted(pieces, key=_place)
    latest: dict[str, tuple[Said, Piece]] = {}
    for said, piece in ((decode(piece.data), piece) for piece in ordered):
        other = latest.get(said.id)
        if other is None:
            latest[said.id] = said, piece
            continue
        winner, loser = ((said, piece), other) if _rank(said) >= _rank(other[0]) else (other, (said, piece))
        latest[said.id] = winner
        if loser[1].records:
            withdrawn = winner[0].dropped in _WITHDRAWN
            yield _drop(loser, winner[0].dropped if withdrawn and winner[0].dropped else "duplicate_post", winner[0].id)
    kept = {name: said for name, (said, _) in latest.items() if said.dropped is None}
    submission = latest[key][0] if key in latest else None
    reason = _whole_thread(submission, kept, key, config)
    if reason:
        for name in kept:
            yield _drop(latest[name], reason, key)
        return
    replies, no_parent = _replies(key, kept, latest)
    if config.siblings == "score":
        order = sorted(kept.values(), key=lambda said: (-(said.score or 0), said.created or 0, said.id))
    else:
        order = sorted(kept.values(), key=lambda said: (said.created or 0, said.id))
    rank = {said.id: number for number, said in enumerate(order)}
    for siblings in replies.values():
        siblings.sort(key=rank.__getitem__)
    turns, cut_circles = _depth_first(key, kept, replies, rank)
    for turn in turns[config.max_comments :]:
        yield _drop(latest[turn.said.id], "max_comments", key)
    turns = turns[: config.max_comments]
    absent = (submission and submission.dropped) or "absent"
    yield _document(key, kept.get(key), absent, turns, latest, no_parent + cut_circles, config)


def _size(pieces: list[Piece]) -> int:
    return sum(len(piece.data) for piece in pieces)


def _most(config: Config) -> int:
    """How many posts are put together: a post takes some 1 KB beside its text, all of them as much as a record may, or 64 MiB."""
    return max(config.max_record_bytes, 64 << 20) >> 10


def _place(piece: Piece) -> tuple[str, int, str, bytes]:
    return piece.file or "", piece.offset or 0, piece.member or "", piece.data


def _best(key: str, pieces: list[Piece], config: Config) -> tuple[list[Piece], list[Piece]]:
    """What of a thread is taken, and what is over the limits: first the submission and the marks, which say what was withdrawn, then
    the best-scored comments, earlier ones first among equals."""

    def worth(piece: Piece) -> tuple[bool, bool, int, float]:
        said = decode(piece.data)
        return said.id != key, said.dropped is None, -(said.score or 0), said.created or 0

    ordered = sorted(sorted(pieces, key=_place), key=worth)
    taken = size = 0
    for piece in ordered[: _most(config)]:
        size += len(piece.data)
        if size > config.max_record_bytes:
            break
        taken += 1
    return ordered[:taken], ordered[taken:]


def _rank(said: Said) -> tuple[int, bool]:
    return said.retrieved, said.dropped in _WITHDRAWN


def _whole_thread(submission: Said | None, kept: dict[str, Said], key: str, config: Config) -> str | None:
    """Why the thread is dropped as a whole."""
    if submission is not None and submission.dropped == "nsfw":
        return "nsfw"
    comments = len(kept) - (key in kept)
    if comments < len(kept):
        return "few_comments" if comments < config.min_comments else None
    if config.no_submission == "drop":
        return "no_submission"
    return "few_comments" if comments < max(1, config.min_comments) else None


def _replies(key: str, kept: dict[str, Said], latest: dict[str, tuple[Said, Piece]]) -> tuple[dict[str, list[str]], int]:
    """The ids of the replies to every kept post, and how many comments have a parent that is nowhere: they reply to the submission."""
    above: dict[str, str] = {}  # a dropped post -> the kept one its replies move up to: each way up is gone once
    replies: dict[str, list[str]] = {}
    lost = 0
    for name, said in kept.items():
        if name == key:
            continue
        parent, way = said.parent or key, []
        while parent != key and parent not in kept and parent in latest and parent not in above:
            above[parent] = key  # also what ends a circle
            way.append(parent)
            parent = latest[parent][0].parent or key
        parent = above.get(parent, parent)
        if parent != key and parent not in kept:
            parent = key
            lost += not way
        for passed in way:
            above[passed] = parent
        replies.setdefault(parent, []).append(name)
    return replies, lost


class Turn(NamedTuple):
    said: Said
    parent: str
    depth: int  # 1 for a reply to the submission


def _depth_first(key: str, kept: dict[str, Said], replies: dict[str, list[str]], rank: dict[str, int]) -> tuple[list[Turn], int]:
    """The comments in the order of the text. Posts that reply to each other in a circle hang on nothing: the first of them is put at the
    top; their number is the second result."""
    turns: list[Turn] = []
    seen = {key}
    circles = 0

    def walk(name: str, parent: str) -> None:
        waiting = [(name, parent, 1)]
        while waiting:
            name, parent, depth = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            turns.append(Turn(kept[name], parent, depth))
            waiting += [(reply, name, depth + 1) for reply in reversed(replies.get(name, ()))]

    for name in replies.get(key, ()):
        walk(name, key)
    for name in sorted(kept.keys() - seen, key=rank.__getitem__):
        if name not in seen:
            circles += 1
            walk(name, key)
    return turns, circles


# -- its document --------------------------------------------------------------------------------------------------------------------


def _document(
    key: str,
    root: Said | None,
    absent: str,
    turns: list[Turn],
    latest: dict[str, tuple[Said, Piece]],
    lost: int,
    config: Config,
) -> Document:
    """`absent` says why there is no root, where there is none."""
    speakers = _Speakers(root.author if root else None, config.authors == "labels")
    parts = [root.text] if root else []
    above = key
    for said, parent, _ in turns:
        label = speakers.label(said.author)
        if parent != above:
            label += f" to {speakers.label(latest[parent][0].author) if root or parent != key else _SUBMITTER}"
        parts.append(f"{label}: {said.text}")
        above = said.id
    text = speakers.unnamed("\n\n".join(parts))
    first = root or turns[0].said
    place = latest[first.id][1]
    meta = {
        **first.meta,
        "author": root and root.author,
        "authors": list(speakers.known),
        "comments": len(turns),
        "comment_ids": [turn.said.id for turn in turns],
        "depth": max((turn.depth for turn in turns), default=0),
        "messages": _messages(root, turns, speakers) if config.messages else None,
        "no_parent": lost or None,
        "no_submission": None if root else absent,
        "score": root and root.score,
    }
    return Document(
        key, text, place.offset, place.length, place.member, url=first.url or f"{SITE}/comments/{key.removeprefix('t3_')}/",
        created=_time(first.created), meta=meta_json(meta), file=place.file, records=len(turns) + (root is not None),
    )  # fmt: skip


def _time(created: float | None) -> dt.datetime | None:
    return None if created is None or not 0 <= created <= 253402300799 else dt.datetime.fromtimestamp(created, dt.UTC)


class _Speakers:
    """Who speaks: a label for each author in order of appearance, or the author's own name."""

    def __init__(self, submitter: str | None, labels: bool) -> None:
        self._labels = labels
        self.known: dict[str, str] = {submitter: _SUBMITTER if labels else submitter} if submitter else {}
        self._users = 0

    def label(self, author: str | None) -> str:
        if author is None:
            return _NOBODY
        if author not in self.known:
            self._users += 1
            self.known[author] = f"User{self._users}" if self._labels else author
        return self.known[author]

    def unnamed(self, text: str) -> str:
        """`text` with labels where it mentions those who have one."""
        if not self._labels or "u/" not in text:
            return text
        return _MENTION.sub(lambda found: self.known.get(found[1], found[0]), text)


def _messages(root: Said | None, turns: list[Turn], speakers: _Speakers) -> list[dict[str, str]] | None:
    """The path down the best-scored replies, earlier ones first among equals; None where it has no answer. In a thread without its
    submission it begins with the best comment at the top."""
    best: dict[str, Turn] = {}
    for turn in turns:
        now = best.get(turn.parent)
        if now is None or _worth(turn.said) > _worth(now.said):
            best[turn.parent] = turn
    spoken = [root] if root else []
    at = turns[0].parent if turns else ""
    while at in best:
        spoken.append(best[at].said)
        at = best[at].said.id
    joined: list[tuple[str | None, list[str]]] = []
    for said in spoken:
        if joined and said.author is not None and joined[-1][0] == said.author:
            joined[-1][1].append(said.text)
        else:
            joined.append((said.author, [said.text]))
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": speakers.unnamed("\n\n".join(texts))}
        for number, (_, texts) in enumerate(joined)
    ]
    return messages[: len(messages) // 2 * 2] or None


def _worth(said: Said) -> tuple[int, float, str]:
    """Larger for the better reply."""
    return said.score or 0, -(said.created or 0), said.id


def _drop(one: tuple[Said, Piece], reason: str, about: str) -> Drop:
    said, piece = one
    return Drop(said.id, reason, meta_json({"post": about}), piece.offset, piece.length, piece.member, file=piece.file)
