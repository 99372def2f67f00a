"""One post of Reddit, submission or comment, as the dumps have written it since 2005, and what a recipe thinks of it.

Only the fields that something needs are decoded; all others (up to a hundred a record) are passed over, which is where the speed comes
from: 0.7 µs a record and 1 ns a byte. Fields whose type has drifted (numbers as text, null for false, integers for base-36 ids) fail that
decoder and take the lenient way through orjson, ten times as slow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import orjson
from msgspec import Meta

from codedev.corpus.document import meta_json
from codedev.corpus.extract.markdown import entities, plain
from codedev.corpus.source import Failure

if TYPE_CHECKING:
    from codedev.corpus.sources.reddit.source import Config

SITE = "https://www.reddit.com"


Whole = Annotated[int, Meta(ge=-(1 << 53), le=1 << 53)]  # a larger number is none that Reddit wrote, and JSON would not hold it


class Later(msgspec.Struct, gc=False):
    """What Arctic Shift saw when it came back after 36 hours."""

    was_deleted_later: bool = False
    removal_type: str | None = None


class Post(msgspec.Struct, gc=False, omit_defaults=True, rename={"later": "_meta"}):
    """Names as in the dumps, sorted: what is left after `take` has taken its own is `meta`, in canonical JSON."""

    later: Later | None = None
    author: str | None = None
    body: str | None = None  # a comment has one
    created_utc: Whole | float | str | None = None  # text from 2008 to 2015: see `seconds`
    distinguished: str | None = None
    id: str | None = None  # without t1_ or t3_
    link_flair_text: str | None = None
    link_id: str | None = None  # the submission of a comment
    num_comments: Whole | None = None
    over_18: bool = False
    parent_id: str | None = None
    permalink: str | None = None
    removed_by_category: str | None = None
    retrieved_on: Whole | None = None
    score: Whole | None = None
    selftext: str | None = None
    stickied: bool = False
    subreddit: str | None = None
    title: str | None = None
    url: str | None = None


_decoder = msgspec.json.Decoder(Post)
decode: Callable[[bytes | memoryview], Post] = _decoder.decode
decode_lines: Callable[[bytes], list[Post]] = _decoder.decode_lines  # which takes any white space for the end of a line
_encode_lines = msgspec.json.Encoder().encode_lines


# -- reading a record ----------------------------------------------------------------------------------------------------------------


def parse(raw: bytes, offset: int) -> Post | Failure | None:
    """The record of a line that `decode` did not take; None for a blank line."""
    if not raw.strip():
        return None
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _bad_json(raw, offset, error)
    if not isinstance(record, dict):
        return Failure("not_an_object", f"a JSON {type(record).__name__} where a record should be", offset, raw=raw)
    return lenient(record)


def _bad_json(raw: bytes, offset: int, error: orjson.JSONDecodeError) -> Failure:
    try:
        raw.decode()
    except UnicodeDecodeError as bad:
        return Failure("invalid_utf8", f"byte {bad.start} of the line: {bad.reason}", offset, raw=raw)
    return Failure("invalid_json", str(error), offset, raw=raw)


def lenient(record: dict[str, Any]) -> Post:
    """A record whose fields may be of any type: what can be understood is, the rest counts as missing."""
    later = record.get("_meta")
    found = Later(bool(later.get("was_deleted_later")), _text(later.get("removal_type"))) if isinstance(later, dict) else None
    link = _full_id(record.get("link_id"), "t3_")
    parent = record.get("parent_id")
    fields: dict[str, Any] = {name: _text(record.get(name)) for name in _WORDS}
    fields |= {name: None if (value := _number(record.get(name))) is None else int(value) for name in _NUMBERS}
    return Post(
        later=found,
        id=_id(record.get("id")) or _id(record.get("name")),
        created_utc=_number(record.get("created_utc", record.get("created"))),
        link_id=link,
        # Integers do not say what they name. Equal to the submission's they are its; all others are comments'.
        parent_id=link if _full_id(parent, "t3_") == link else _full_id(parent, "t1_"),
        over_18=_flag(record.get("over_18")),
        stickied=_flag(record.get("stickied")),
        **fields,
    )


_WORDS = (
    "author", "body", "distinguished", "link_flair_text", "permalink", "removed_by_category", "selftext", "subreddit", "title", "url",
)  # fmt: skip
_NUMBERS = ("num_comments", "retrieved_on", "score")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: Any) -> bool:
    return value in (True, "True", "true", "1")


def _number(value: Any) -> float | int | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
        value = int(value) if value.is_integer() else value
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 53
    return value if known else None


def seconds(post: Post) -> float | int | None:
    """When the post was written, in seconds since 1970."""
    value = post.created_utc
    return _number(value) if isinstance(value, str) else value


def _id(value: Any) -> str | None:
    """An id without its kind; integers are the decimal form of base 36."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63:
        digits = ""
        while value:
            value, digit = divmod(value, 36)
            digits = _DIGITS[digit] + digits
        return digits
    return value.removeprefix("t1_").removeprefix("t3_") or None if isinstance(value, str) else None


def _full_id(value: Any, kind: str) -> str | None:
    if isinstance(value, str) and value.startswith(("t1_", "t3_")):
        return value
    own = _id(value)
    return own and kind + own


def all_usual(posts: list[Post]) -> bool:
    """Whether `decode` has understood all of them: ids without their kind, submissions' ids with it, and a text. 0.1 µs a post."""
    for post in posts:
        own, link = post.id, post.link_id
        if not own or "_" in own or (post.body is None and post.title is None and post.selftext is None):
            return False
        if link is not None and post.body is not None and link[:3] != "t3_":
            return False
    return True


def is_post(post: Post) -> bool:
    return post.body is not None or post.title is not None or post.selftext is not None


def no_post(raw: bytes, offset: int) -> Failure:
    return Failure("not_a_post", "a record with neither body nor selftext nor title", offset, raw=raw)


# -- what the recipe thinks of it ------------------------------------------------------------------------------------------------------

# What stands in the place of a text, in lower case and without blanks, and who took the text away.
_GONE = {
    "[deleted]": "deleted",
    "[deletedbyuser]": "deleted",
    "[removed]": "removed",
    "[removedbyreddit]": "removed",
    "[unavailable]": "removed",
}
_GONE_AS_IT_IS = {"[deleted]": "deleted", "[removed]": "removed"}  # nearly all of them
_GONE_BEGINS = "[removedbyredditinresponseto"  # a copyright notice, with more words behind it
_USERS_OWN = frozenset({"deleted", "author"})  # values of removed_by_category and removal_type: the user's own deletion
_BOTS = frozenset({"automoderator", "automoderater", "wikisummarizerbot", "transcribersofreddit", "videotrim", "savevideo"})
_NO_BOTS = ("robot", "abbot", "talbot", "cabot", "turbot")


def judge_of(config: Config) -> Callable[[list[Post]], list[str | None]]:
    """A function that says of each post why the recipe drops it, or None. 0.2 µs a post."""
    threads = config.mode == "threads"
    link_posts = config.link_posts == "keep" or (config.link_posts is None and threads)
    drop_bots, drop_nsfw, drop_stickied = config.bots == "drop", config.nsfw == "drop", config.stickied == "drop"
    drop_removed = config.removed == "drop"
    min_score = config.min_score
    only = frozenset(name.lower() for name in config.subreddits or ())
    never = frozenset(name.lower() for name in config.not_subreddits)
    names = _BOTS | {name.lower() for name in config.bot_names}

    def judge(post: Post) -> str | None:
        text = post.body
        if text is None:
            text = post.selftext or ""
        if (only or never) and not _wanted(post.subreddit, only, never):
            return "subreddit"
        if post.over_18 and drop_nsfw:
            return "nsfw"
        if post.stickied and drop_stickied:
            return "stickied"
        if text[:1] == "[" and text[-1] == "]" and (gone := _gone(text)):
            return "deleted" if post.removed_by_category in _USERS_OWN else gone
        if drop_removed:
            if post.removed_by_category is not None:
                return "deleted" if post.removed_by_category in _USERS_OWN else "removed"
            if post.later is not None and post.later.was_deleted_later:
                return "deleted" if post.later.removal_type in _USERS_OWN else "removed"
        if drop_bots and post.author is not None and _is_bot(post.author.lower(), names):
            return "bot"
        if min_score is not None and post.score is not None and post.score < min_score:
            return "low_score"
        if not text and (post.body is not None or not link_posts or not post.title):
            return "no_text"
        return None

    return lambda posts: [judge(post) for post in posts]


def _wanted(subreddit: str | None, only: frozenset[str], never: frozenset[str]) -> bool:
    name = (subreddit or "").lower()
    return name not in never and (not only or name in only)


def _gone(text: str) -> str | None:
    if text in _GONE_AS_IT_IS:
        return _GONE_AS_IT_IS[text]
    words = "".join(text[:80].lower().split())
    return _GONE.get(words) or ("removed" if words.startswith(_GONE_BEGINS) else None)


def _is_bot(author: str, names: frozenset[str]) -> bool:
    """`author` in lower case. Names that end in "bot" are bots' (MetricConversionBot, sneakpeekbot) but for people's (Abbot, Mr_Robot)."""
    return author in names or (author.endswith("bot") and not author.endswith(_NO_BOTS))


def evidence(post: Post, reason: str) -> str:
    match reason:
        case "low_score":
            return meta_json({"score": post.score})
        case "bot":
            return meta_json({"author": post.author})
        case "subreddit":
            return meta_json({"subreddit": post.subreddit})
        case "deleted" | "removed":
            later = post.later and post.later.removal_type
            if post.removed_by_category is not None or later is not None:
                return _who_removed(post.removed_by_category, later)
    return "{}"


@lru_cache(maxsize=256)  # a dozen are known
def _who_removed(category: str | None, removal_type: str | None) -> str:
    return meta_json({"removed_by_category": category, "removal_type": removal_type})


# -- what becomes columns --------------------------------------------------------------------------------------------------------------


def text_of(post: Post) -> str:
    if post.body is not None:
        return plain(post.body)
    return f"{entities(post.title or '').strip()}\n\n{plain(post.selftext or '')}".strip()


def url_of(post: Post) -> str | None:
    """Where the post is on Reddit; a submission without a permalink gives the page it links to."""
    link = post.permalink
    if link:
        return SITE + link if link[0] == "/" else link
    if post.body is None:
        return post.url or (f"{SITE}/comments/{post.id}/" if post.id else None)
    return f"{SITE}/comments/{post.link_id[3:]}/_/{post.id}/" if post.link_id and post.id else None


def metas(posts: list[Post]) -> list[bytes]:
    """`meta` of each post: what a document does not hold elsewhere. Of a submission, `url` stays where it is a link to somewhere else,
    under that name. What is held elsewhere is taken from the posts."""
    for post in posts:
        if post.body is None:
            post.selftext = post.removed_by_category = None
            if post.url is not None and (post.permalink is None or post.url.endswith(post.permalink)):
                post.url = None
            if post.title is not None:
                post.title = entities(post.title)
        post.later = post.body = post.created_utc = post.id = post.permalink = None
    return _encode_lines(posts).splitlines()
