"""Posts, comments and look-ups brought together: the rounds of the stackexchange source.

    users      key <site>/u/<user>       names meet the posts that mention their users, and go there
    posts      key <site>/p/<post>       comments, votes, links and names meet the post, learn its question, and go on to it
    questions  key <site>/q/<question>   the document: question, answers, comments (thread.py)

Posts themselves travel once, straight to their question, as the bytes of their row; what meets elsewhere are pieces of some ten bytes, so
that a user with a million posts costs a million of those. A round that the recipe has no use for is left out. `gather` depends on no order:
it sorts what comes.

What it does not do: votes are counted as the dump has them, which names neither voters nor what was withdrawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import orjson

from codedev.corpus.source import Document, Drop, Failure, Piece
from codedev.corpus.sources.stackexchange.thread import Record, documents

if TYPE_CHECKING:
    from codedev.corpus.sources.stackexchange.source import Config

VOTES = {2: "up", 3: "down", 5: "favourite"}
_LINKS = {1: "linked", 3: "duplicate_of"}


class Rounds(NamedTuple):
    """Numbers of the rounds; -1 for one that is left out."""

    users: int
    posts: int
    questions: int
    total: int


def rounds_of(config: Config) -> Rounds:
    if config.comments == "none" and not config.lookups:
        return Rounds(-1, -1, 0, 1)
    return Rounds(0, 1, 2, 3) if "users" in config.lookups else Rounds(-1, 0, 1, 2)


def gather(number: int, key: str, pieces: list[Piece], config: Config) -> Iterator[Document | Drop | Failure | Piece]:
    """The first byte of a piece says what it is: `<` or Z a post, c or C a comment (capitals: from a stream), q the question of a post,
    n a name, m a post that mentions it, v a vote, l a link, a what was gathered about a post."""
    site, _, own = key.rsplit("/", 2)
    rounds = rounds_of(config)
    if number == rounds.users:
        yield from _name_users(site, own, pieces, rounds)
    elif number == rounds.posts:
        yield from _meet_post(site, int(own), pieces, rounds)
    else:
        yield from documents(site, int(own), pieces, config)


def _name_users(site: str, user: str, pieces: list[Piece], rounds: Rounds) -> Iterator[Piece]:
    names = {piece.data[1:] for piece in pieces if piece.data.startswith(b"n")}
    if names:
        data = b"n%s\0%s" % (user.encode(), min(names))  # of several dumps of one site: any, but always the same
        for post in sorted({piece.data[1:] for piece in pieces if piece.data.startswith(b"m")}):
            yield Piece(rounds.posts, f"{site}/p/{post.decode()}", data, 0)


def _meet_post(site: str, post: int, pieces: list[Piece], rounds: Rounds) -> Iterator[Drop | Piece]:
    by_tag: dict[bytes, list[Piece]] = {}
    for piece in pieces:
        by_tag.setdefault(piece.data[:1], []).append(piece)
    comments = [*by_tag.get(b"c", ()), *by_tag.get(b"C", ())]
    questions = [int(piece.data[1:]) for piece in by_tag.get(b"q", ())]
    if not questions:
        for piece in comments:
            yield Record(piece).drop(site, "no_post", {"post": post})
        return
    key = f"{site}/q/{min(questions)}"
    for piece in comments:
        yield piece._replace(round=rounds.questions, key=key)
    about: dict[str, object] = {}
    if names := [piece.data[1:].split(b"\0", 1) for piece in by_tag.get(b"n", ())]:
        about["names"] = {user.decode(): name.decode() for user, name in names}
    if votes := Counter(VOTES[int(piece.data[1:])] for piece in by_tag.get(b"v", ())):
        about["votes"] = votes
    links = {tuple(map(int, piece.data[1:].split())) for piece in by_tag.get(b"l", ())}
    for kind, name in _LINKS.items():
        if others := sorted(other for found, other in links if found == kind):
            about[name] = others
    if about:
        yield Piece(rounds.questions, key, b"a" + orjson.dumps({"post": post, **about}, option=orjson.OPT_SORT_KEYS), 0)
