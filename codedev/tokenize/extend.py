"""`codedev tokenizer extend`: tokens for a domain, on top of a tokenizer that a model was trained with.

Words of the corpus are encoded by the old tokenizer, and merges are learned on its ids; they go behind the old merges. A text is therefore
cut as before, and its tokens only ever merge further. Old ids stay; new ones follow the highest of them. Old tokens that were added to the
vocabulary are written into it too, since `tokenizers` would number them anew when the vocabulary grows.

    OUT/tokenizer.json    and what lay beside the original: tokenizer_config.json, special_tokens_map.json, chat_template.jinja
    OUT/extension.json    for each new id the old ids that it stands for; `mean_of_pieces` makes the first embeddings of them

A merge whose token the vocabulary has already under an id that no merge gave is kept, and needs no new id. A merge that would spell a
special token is left out, with all that build on it.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import AddedToken, Tokenizer

from codedev._errors import InputError
from codedev._run import Progress, atomic_write, no_progress, write_json
from codedev.corpus.buffers import text_buffers
from codedev.kernels.bpe_extend import LONGEST, learn_further
from codedev.kernels.bpe_tables import MAX_IDS
from codedev.kernels.pretokens import Shape, piece_ends
from codedev.kernels.word_counts import WordCounts, Words
from codedev.tokenize import engine, library
from codedev.tokenize.bpe import COUNT_BYTES, LONGEST_TOKEN, count_texts
from codedev.tokenize.documents import open_corpus
from codedev.tokenize.formats import JSON, converted, read_tokenizer
from codedev.tokenize.tiktoken import added_token
from codedev.tokenize.train import SAMPLE_BYTES, Sample
from codedev.tokenize.vocabulary import Vocabulary, decode, encode_plain, load_vocabulary, tables_file, vocabulary_of

FORMAT = "codedev.tokenizer-extension/1"
ADD = 1000
MOST_BYTES = 1 << 25  # of distinct words: the rarest are left out above
MIN_FREQUENCY = 2
CHECKED_BYTES = 1 << 20  # of held-out text: encoded by the library too, and decoded
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "generation_config.json")
_AT_ONCE = 1 << 16  # words encoded together


class Learned(NamedTuple):
    names: list[str]  # of the new tokens, in the byte-level alphabet, in the order of their ids
    pieces: list[list[int]]  # the old ids that each stands for
    merges: list[list[str]]
    reused: int  # merges that make a token which the vocabulary has
    blocked: int  # merges that would have spelt an added token


def extend_tokenizer(
    tokenizer: Path,
    out: Path,
    *,
    corpus: Path | None = None,
    tokens: Path | None = None,
    add: int | None = None,
    special: Sequence[str] = (),
    sample_bytes: int = SAMPLE_BYTES,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    shape: str | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Extend and write OUT; returns extension.json without its `pieces`.

    `corpus`: learn up to `add` tokens (1000) from a sample of it, a tenth of which, 4 MB at most, is held out to measure on. `tokens`:
    instead a file of one word a line, each of which becomes a token alone and behind a blank; `add` bounds them and what they are built
    from. `special`: names of further special tokens. InputError for a tokenizer that is no byte-level BPE which the kernels cover (special
    tokens alone can be added to any tokenizer.json), and for what else cannot be used.
    """
    if corpus is not None and tokens is not None:
        raise InputError("--tokens: give a corpus to learn from or a list of tokens, not both")
    if corpus is None and tokens is None and not special:
        raise InputError("nothing to add: give a corpus, --tokens FILE or --special NAME")
    if sample_bytes < 1 or (add is not None and add < 0):
        raise InputError("--sample-bytes and --add must be positive")
    home = tokenizer if tokenizer.is_dir() else tokenizer.parent
    if out.resolve() == home.resolve() or (out.exists() and not out.is_dir()):
        raise InputError(f"{out}: is not a directory, or that of the tokenizer. Choose another --out")
    found = read_tokenizer(tokenizer, shape)
    old = vocabulary_of(found, need_eos=False)
    if found.model is None or old.tokenizer is None:
        raise InputError(f"{found.path}: a SentencePiece model cannot be extended here. Use its tokenizer.json, or train anew")
    content = orjson.loads(found.data)
    new_specials = _new_specials(old, found.path, special)
    learned, measured = Learned([], [], [], 0, 0), list[pa.LargeStringArray]()
    facts: dict[str, Any] = {}
    if corpus is not None or tokens is not None:
        if old.engine is None:
            raise InputError(f"{found.path}: no tokens can be learned for it, as {old.why_library}. Special tokens alone can be added")
        room = MAX_IDS - 1 - old.size - len(new_specials)
        if corpus is not None:
            sample = Sample(open_corpus(corpus), sample_bytes, weights or {}, seed, apart=True)
            words, facts = _words_of_corpus(sample, old.engine.shape, progress)
            measured, most, least = sample.measured, min(ADD if add is None else add, room), MIN_FREQUENCY
        else:
            assert tokens is not None
            words, facts = _words_of_list(tokens, old.engine.shape)
            most, least = min(room if add is None else add, room), 1
        learned, more = _learn(old, content, words, most, least, new_specials)
        facts |= more
    extended = _extended(content, old, learned, new_specials, found.path)
    names = {**{name: old.size + number for number, name in enumerate(learned.names)}, **_ids(old.size + len(learned.names), new_specials)}

    file = out / JSON
    with atomic_write(file) as temporary:
        temporary.write_bytes(extended)
    for stale in [*out.glob("tokenizer.*.npz"), *(out / name for name in _BESIDE)]:
        stale.unlink(missing_ok=True)
    for name in _BESIDE:
        if (found.path.parent / name).is_file():
            shutil.copyfile(found.path.parent / name, out / name)
    new = load_vocabulary(file, need_eos=False)
    if new.size != old.size + len(names) or any(
        new.tokenizer is None or new.tokenizer.token_to_id(name) != at for name, at in names.items()
    ):
        raise InputError(f"{found.path}: the library numbers its tokens in another way when some are added. Extend another tokenizer")
    if new.engine is not None:
        engine.save(new.engine, tables_file(file, new.hash))
    result = {
        "format": FORMAT,
        "base": {"file": found.path.name, "hash": old.hash, "size": old.size},
        "hash": new.hash,
        "size": new.size,
        "first": old.size,  # the id of the first of `pieces`
        "tokens": len(learned.names),
        "special": _ids(old.size + len(learned.names), new_specials),
        "merges": len(learned.merges),
        "merges_reused": learned.reused,
        "merges_blocked": learned.blocked,
        "seed": seed,
        **facts,
        "heldout": _measure(old, new, measured),
    }
    write_json(out / "extension.json", {**result, "pieces": [*learned.pieces, *_spelt(old, new_specials)]})
    return result


def mean_of_pieces(rows: np.ndarray, extension: Mapping[str, Any]) -> np.ndarray:
    """(max(N, size), d) of (N, d) `rows`, an embedding or output matrix of the model before the extension: row `first + i` is the mean of
    the rows of extension["pieces"][i], the others stay as they are. Hewitt 2021, "Initializing new word embeddings", says why a mean.

    Rows above the old vocabulary, which models have as padding, are written over. ValueError where a piece has no row.
    """
    first, pieces = int(extension["first"]), extension["pieces"]
    if len(rows) < first or any(not 0 <= piece < first for some in pieces for piece in some):
        raise ValueError(f"{len(rows)} rows are none of a model with {first} tokens")
    grown = np.zeros((max(len(rows), first + len(pieces)), *rows.shape[1:]), rows.dtype)
    grown[: len(rows)] = rows
    for number, some in enumerate(pieces):
        grown[first + number] = rows[list(some or range(first))].mean(axis=0, dtype=np.float64)
    return grown


def _new_specials(old: Vocabulary, file: Path, special: Sequence[str]) -> list[str]:
    """Those that the tokenizer lacks. InputError for a name that text has as a token."""
    assert old.tokenizer is not None
    hidden = {token.content for token in old.tokenizer.get_added_tokens_decoder().values() if token.special}
    for name in special:
        if not name or name.isspace() or (name not in hidden and old.tokenizer.token_to_id(name) is not None):
            raise InputError(f"--special {name}: is a token of text in {file}. Choose a name as <|fim_prefix|>")
    return [name for name in dict.fromkeys(special) if name not in hidden]


def _ids(first: int, names: Iterable[str]) -> dict[str, int]:
    return {name: first + number for number, name in enumerate(names)}


def _spelt(old: Vocabulary, names: list[str]) -> list[list[int]]:
    """What the old tokenizer makes of the names of special tokens."""
    plain = encode_plain(old, pa.array(names, pa.large_string()))
    return [plain.ids[begin:end].tolist() for begin, end in zip(plain.offsets[:-1], plain.offsets[1:], strict=True)]


# Words


def _words_of_corpus(sample: Sample, shape: Shape, progress: Progress) -> tuple[Words, dict[str, Any]]:
    counts = WordCounts(COUNT_BYTES)
    for texts in sample.texts(progress):
        count_texts(counts, texts, shape)
    if sample.bytes == 0:
        raise InputError(f"{sample.corpus.path}: the sample holds no text. Raise --sample-bytes")
    kept = counts.keep(MOST_BYTES)
    taken = {"documents": sample.documents, "bytes": sample.bytes, "of_documents": sample.corpus.rows, "of_bytes": sample.corpus.text_bytes}
    of = {"corpus": {"manifest_hash": sample.corpus.manifest_hash}}
    return kept.words, {**of, "sample": {**taken, "words_dropped": kept.dropped_words, "words_least": kept.least}}


def _words_of_list(path: Path, shape: Shape) -> tuple[Words, dict[str, Any]]:
    """The words of the list that are one piece of text; the others no merge can make."""
    try:
        lines = list(dict.fromkeys(line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of tokens: {error}") from None
    if not lines:
        raise InputError(f"{path}: names no token, one a line")
    words = list(dict.fromkeys(form for line in lines for form in (line.rstrip("\r"), " " + line.strip())))
    data, offsets = text_buffers(pa.array(words, pa.large_string()))
    fits = np.diff(piece_ends(data, offsets, shape)[1]) == 1
    chosen = pa.array(words, pa.large_string()).filter(pa.array(fits))
    torn = [line for line in lines if line.rstrip("\r") not in set(chosen.to_pylist())]
    data, offsets = text_buffers(chosen)
    return Words(data, offsets, np.ones(len(chosen), np.int64)), {"listed": len(lines), "torn": len(torn), "torn_first": torn[:20]}


def _sequences(old: Vocabulary, content: Mapping[str, Any], words: Words) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(int32 ids of the words of 2 to LONGEST tokens and at most LONGEST_TOKEN bytes, int64 offsets, counts; how many words are longer).

    A piece of text can fall into several when it stands alone (blanks before a word), so the model without its pretokenization encodes.
    """
    bare = {**content, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}}
    tokenizer = Tokenizer.from_str(orjson.dumps(bare).decode())
    tokenizer.encode_special_tokens = True
    ids, sizes, counts = [np.empty(0, np.int32)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    long = 0
    for begin, texts in _texts(words):
        found, lengths, _ = library.encode(tokenizer, texts, np.dtype(np.int32), spans=False)
        few = (lengths <= LONGEST) & (np.diff(words.offsets[begin : begin + len(texts) + 1]) <= LONGEST_TOKEN)
        fits = (lengths > 1) & few
        long += int((~few).sum())
        ids.append(found[np.repeat(fits, lengths)])
        sizes.append(lengths[fits])
        counts.append(words.counts[begin : begin + len(texts)][fits])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)
    return np.concatenate(ids), offsets, np.concatenate(counts), long


def _texts(words: Words) -> Iterator[tuple[int, list[str]]]:
    data = words.data.tobytes()
    edges = words.offsets.tolist()
    for begin in range(0, len(words.counts), _AT_ONCE):
        some = edges[begin : begin + _AT_ONCE + 1]
        yield begin, [data[first:last].decode() for first, last in itertools.pairwise(some)]


# Merges


def _learn(
    old: Vocabulary, content: Mapping[str, Any], words: Words, most: int, least: int, new_specials: list[str]
) -> tuple[Learned, dict[str, Any]]:
    """Up to `most` new tokens."""
    ids, offsets, counts, long = _sequences(old, content, words)
    vocab: dict[str, int] = content["model"]["vocab"]
    hidden = {token["content"] for token in content.get("added_tokens") or []} | set(new_specials)
    asked = most
    while True:
        found = learn_further(ids, offsets, counts, old.size, asked, min_frequency=least)
        learned = _named(found.pairs, old.size, vocab, hidden)
        short = most - len(learned.names)
        if short <= 0 or len(found.pairs) < asked:
            return learned, {"words": len(counts), "words_too_long": long}
        asked += short  # some merges needed no new id: the first ones stay the same


def _named(pairs: np.ndarray, size: int, vocab: Mapping[str, int], hidden: set[str]) -> Learned:
    names = {number: name for name, number in vocab.items()}
    own: dict[str, int] = {}  # new tokens
    name_of: dict[int, str | None] = {}  # by the ids of `pairs`, from `size` on; None: left out
    learned = Learned([], [], [], 0, 0)
    pieces: dict[str, list[int]] = {}
    reused = blocked = 0
    for number, (left_id, right_id) in enumerate(pairs.tolist()):
        left, right = (name_of[at] if at >= size else names[at] for at in (left_id, right_id))
        name = None if left is None or right is None else left + right
        name_of[size + number] = None if name in hidden else name
        if left is None or right is None or name is None or name in hidden:
            blocked += 1
            continue
        learned.merges.append([left, right])
        if name in vocab or name in own:
            reused += 1
            continue
        own[name] = size + len(own)
        pieces[name] = [*pieces.get(left, [vocab.get(left, -1)]), *pieces.get(right, [vocab.get(right, -1)])]
        learned.names.append(name)
        learned.pieces.append(pieces[name])
    return learned._replace(reused=reused, blocked=blocked)


def _extended(content: dict[str, Any], old: Vocabulary, learned: Learned, new_specials: list[str], file: Path) -> bytes:
    """The new tokenizer.json."""
    if not learned.merges:
        assert old.tokenizer is not None
        tokenizer = Tokenizer.from_str(orjson.dumps(content).decode())
        tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in new_specials])
        return bytes(tokenizer.to_str(pretty=True).encode())
    model = content["model"]
    added = content.get("added_tokens") or []
    specials = _ids(old.size + len(learned.names), new_specials)
    whole: dict[str, int] = old.tokenizer.get_vocab(with_added_tokens=True) if old.tokenizer is not None else {}
    model["vocab"] |= {token["content"]: whole[token["content"]] for token in added} | _ids(old.size, learned.names) | specials
    as_text = bool(model["merges"]) and isinstance(model["merges"][0], str)
    model["merges"] += [" ".join(pair) if as_text else pair for pair in learned.merges]
    content["added_tokens"] = added + [added_token(number, name, special=True) for name, number in specials.items()]
    return orjson.dumps(converted(file, content).model, option=orjson.OPT_INDENT_2)


def _measure(old: Vocabulary, new: Vocabulary, measured: list[pa.LargeStringArray]) -> dict[str, Any]:
    """Compression before and after on text that nothing was learned from; and whether the library agrees and all decodes exactly."""
    size = before = after = checked = 0
    for texts in measured:
        size += int(pc.sum(pc.binary_length(texts)).as_py() or 0)
        before += len(encode_plain(old, texts).ids)
        plain = encode_plain(new, texts)
        after += len(plain.ids)
        if checked < CHECKED_BYTES and new.tokenizer is not None:
            ids, offsets = plain.ids.tolist(), plain.offsets.tolist()
            given = [text or "" for text in texts.to_pylist()]
            for number, (text, encoding) in enumerate(
                zip(given, new.tokenizer.encode_batch_fast(given, add_special_tokens=False), strict=True)
            ):
                mine = ids[offsets[number] : offsets[number + 1]]
                if encoding.ids != mine or (new.byte_lengths is not None and decode(new, mine) != text):
                    raise AssertionError("the extended tokenizer does not encode or decode as the library does")
                checked += len(text.encode())
    return {
        "bytes": size,
        "tokens_before": before,
        "tokens_after": after,
        "bytes_per_token_before": round(size / before, 4) if before else None,
        "bytes_per_token_after": round(size / after, 4) if after else None,
        "checked_bytes": checked,
    }
