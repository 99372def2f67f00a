"""A local model, adapter or run, evaluated: the protocol of codedev/eval/lm.py over `generate.open_model`.

Sequences of like length are computed together, by the same call as in training (attention.Call), so that logits exist only where a token
is asked for. What many begin with, as the examples before a question or a question before its choices, is read once, and all go on from its
keys and values; where a model cannot, which is tried first, each is read whole.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from codedev._errors import InputError
from codedev._run import Progress, content_key, file_hash
from codedev.eval.lm import Answer, Continued, Read, Sampling
from codedev.tokenize.vocabulary import encode_plain
from codedev.train import tune
from codedev.train.compute import attention
from codedev.train.compute.loss import ROWS, WithLoss, chunk_of, headless
from codedev.train.use import chat as talks
from codedev.train.use import generate as writer

MAX_WINDOW = 8192  # tokens seen at once, where the recipe does not say
_TOGETHER = {"cpu": 2048, "cuda": 16384}  # tokens computed at once
_SHARED, _SPARED = 32, 128  # tokens that texts begin with alike, and that are not computed again, before they are read ahead
_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja")


class Local(NamedTuple):
    """Implements codedev.eval.lm.LM."""

    name: str
    identity: str
    opened: writer.Opened
    chat: talks.Chat | None  # with one, what stands before a text is what a person says
    call: attention.Call
    cached: list[bool]  # what `_caches` found
    ahead: list[_Ahead]  # what was read last

    def continued(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> list[Continued]:
        found = [Continued(math.nan, 0, False)] * len(pairs)
        asked = [_Asked(begin, rest, number) for number, (begin, rest) in enumerate(self._pairs(pairs))]
        done = 0
        for group, shared in _alike(asked, self._together) if self._caches() else ((one, 0) for one in _groups(asked, self._together)):
            nats, greedy = self._told(group, self._read_ahead(group[0].inputs[:shared]) if shared else None)
            at = 0
            for one in group:
                own = slice(at, at := at + len(one.labels))
                found[one.number] = Continued(float(nats[own].sum()), len(one.labels), bool(greedy[own].all()))
            progress("read", done := done + len(group), len(pairs))
        self.ahead.clear()
        return found

    def read(self, texts: Sequence[str], window: int, progress: Progress) -> list[Read]:
        room = self._room(window)
        documents = self._documents(texts)
        asked = [piece for number, ids in enumerate(documents) for piece in _windows(ids, number, room)]
        bits = np.zeros(len(texts))
        done = 0
        for group in _groups(asked, self._together):
            nats, _ = self._told(group)
            lengths = [len(one.labels) for one in group]
            np.add.at(bits, np.repeat([one.number for one in group], lengths), nats / math.log(2))
            progress("read", done := done + len(group), len(asked))
        if self._begin is None:  # the first token is charged as a uniform guess: see perplexity.py
            bits += [math.log2(self.opened.vocabulary.size) if len(ids) else 0.0 for ids in documents]
        counts = [len(ids) - (self._begin is not None) for ids in documents]
        return [Read(float(one), count) for one, count in zip(bits, counts, strict=True)]

    def write(self, prompts: Sequence[str], sampling: Sampling, progress: Progress, *, first: int = 0) -> list[list[Answer]]:
        chosen = writer.checked(writer.Sampling(sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed, sampling.stops))
        ids = [self._prompt(prompt) for prompt in prompts]
        opened = self.chat.opened if self.chat else self.opened
        made = writer.write_all(opened, (one for one in ids for _ in range(sampling.n)), chosen, first * sampling.n)
        found = []
        for number in range(len(prompts)):
            found.append([Answer(one.text, one.tokens, one.why) for one in (next(made) for _ in range(sampling.n))])
            progress("write", number + 1, len(prompts))
        return found

    @property
    def _begin(self) -> int | None:
        begin: int | None = self.opened.model.config.bos_token_id
        return begin

    @property
    def _together(self) -> int:
        return _TOGETHER.get(self.opened.device.type, 2048)

    def _room(self, window: int) -> int:
        most = self.opened.positions or MAX_WINDOW
        if window > most and self.opened.positions is not None:
            raise InputError(f"{self.name}: has positions for {most} tokens. Set window to {most} or less")
        return window or min(most, MAX_WINDOW)

    def _prompt(self, prompt: str) -> list[int]:
        writer.check_text(prompt)
        if self.chat is not None:
            return talks.prompt_ids(self.chat, [{"role": "user", "content": prompt}])
        begin = [] if self._begin is None else [self._begin]
        return writer.checked_ids(self.opened, begin + self._encoded([prompt])[0].tolist())

    def _encoded(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text, nothing added: what looks like a special token stays text."""
        try:
            plain = encode_plain(self.opened.vocabulary, pa.array(texts, pa.large_string()))
        except UnicodeEncodeError:
            raise InputError("a question is not UTF-8. Write it in UTF-8") from None
        return [plain.ids[begin:end].astype(np.int64) for begin, end in zip(plain.offsets[:-1], plain.offsets[1:], strict=True)]

    def _documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Each text's tokens between those that begin and end a document; a text without tokens has none."""
        begin = [] if self._begin is None else [self._begin]
        end = [self.opened.vocabulary.eos_id] if self.opened.vocabulary.eos_id >= 0 else sorted(self.opened.ends)[:1]
        return [np.concatenate([begin, ids, end]).astype(np.int64) if len(ids) else ids for ids in self._encoded(texts)]

    def _pairs(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(tokens before, tokens of the text). Blanks at the end of what stands before belong to the text, since tokens begin with them."""
        if self.chat is not None:
            prompts = {before: np.array(self._prompt(before)) for before in dict.fromkeys(before for before, _ in pairs)}
            for (before, _), rest in zip(pairs, self._encoded([text.strip() for _, text in pairs]), strict=True):
                yield self._cut(prompts[before], rest)
            return
        begin = np.array([] if self._begin is None else [self._begin], np.int64)
        split = [(before.rstrip(), before[len(before.rstrip()) :] + text) for before, text in pairs]
        wholes = self._encoded([before + text for before, text in split])
        unique = list(dict.fromkeys(before for before, _ in split))
        lengths = dict(zip(unique, map(len, self._encoded(unique)), strict=True))
        for (before, _), ids in zip(split, wholes, strict=True):
            at = min(lengths[before], len(ids) - 1)
            yield self._cut(np.concatenate([begin, ids[:at]]), ids[at:])

    def _cut(self, before: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What does not fit loses its beginning."""
        if not len(rest):
            raise InputError(f"{self.name}: a choice has no token")
        room = self._room(0)
        if len(rest) > room:
            raise InputError(f"{self.name}: a choice of {len(rest)} tokens; the model has {room} positions")
        before = before[max(0, len(before) + len(rest) - 1 - room) :]  # the last token of the text is only predicted
        if not len(before):
            if self._begin is None:
                raise InputError(f"{self.name}: has no beginning-of-document token, so that something must stand before a choice")
            before = np.array([self._begin])
        return before, rest

    def _caches(self) -> bool:
        """Whether what many texts begin with can be read once: the model goes on from it as it goes on from the whole. Asked once."""
        if not self.cached:
            self.cached.append(not self.opened.learned and self._goes_on())
        return self.cached[0]

    def _goes_on(self) -> bool:
        known = self.opened.model.get_input_embeddings().weight.shape[0]
        ids = np.arange(24, dtype=np.int64) % known
        tried = [_Asked(ids[:16], ids[16:20], 0), _Asked(ids[:12], ids[12:15], 1)]
        whole = self._told(tried)[0]  # before the other, so that the call knows how its loss is computed
        try:
            found = self._told(tried, self._read_ahead(ids[:8]))[0]
        except (TypeError, ValueError, AttributeError, KeyError, RuntimeError):  # it keeps nothing, or in a way of its own
            return False
        return bool(np.abs(found - whole).max() < (1e-3 if self.call.dtype == torch.float32 else 0.1))

    def _read_ahead(self, ids: np.ndarray) -> _Ahead:
        """Keys and values of what a group begins with."""
        if self.ahead and np.array_equal(self.ahead[0].ids, ids):
            return self.ahead[0]
        from transformers import DynamicCache

        inputs = {
            "input_ids": torch.from_numpy(ids)[None].to(self.opened.device),
            "past_key_values": DynamicCache(config=self.opened.model.config),
        }
        last = torch.zeros(1, dtype=torch.long, device=self.opened.device)
        with torch.no_grad(), tune.silent(), self._autocast():
            self.call.module(inputs, last, last, False, True)
        self.ahead[:] = [_Ahead(ids, inputs["past_key_values"])]
        return self.ahead[0]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.opened.device.type, self.call.dtype, enabled=self.call.dtype != torch.float32)

    def _went_on(self, input_ids: np.ndarray, lengths: np.ndarray, ahead: _Ahead, where: np.ndarray, labels: np.ndarray) -> Any:
        """As `call.ask`, of rows (B, S) that go on from what was read."""
        cache, shared = copy.deepcopy(ahead.cache), len(ahead.ids)
        cache.batch_repeat_interleave(len(input_ids))
        steps = np.arange(shared + input_ids.shape[1])
        inputs = {
            "input_ids": torch.from_numpy(input_ids),
            "position_ids": torch.from_numpy(np.broadcast_to(steps[shared:], input_ids.shape).copy()),
            "attention_mask": torch.from_numpy((steps < shared + lengths).astype(np.int64)),
        }
        device = self.opened.device
        told = {name: tensor.to(device) for name, tensor in inputs.items()} | {"past_key_values": cache}
        with self._autocast():
            return self.call.module(told, torch.from_numpy(where).to(device), torch.from_numpy(labels).to(device), False, True)

    def _told(self, group: Sequence[_Asked], ahead: _Ahead | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(nats, whether it is the likeliest) of the labels of the group, one after another; all begin with what was read ahead."""
        shared = len(ahead.ids) if ahead else 0
        rows: dict[bytes, tuple[int, np.ndarray]] = {}
        for one in group:
            ids = one.inputs[shared:]
            rows.setdefault(ids.tobytes(), (len(rows), ids))
        longest = max(len(ids) for _, ids in rows.values())
        if (most := max(int(ids.max()) for _, ids in rows.values())) >= self.opened.model.get_input_embeddings().weight.shape[0]:
            raise InputError(f"{self.name}: its tokenizer gives the token {most}, which the model does not know. Give it its own tokenizer")
        input_ids = np.zeros((len(rows), longest), np.int64)
        steps = np.arange(longest)
        lengths = np.array([len(ids) for _, ids in rows.values()])[:, None]
        for row, ids in rows.values():
            input_ids[row, : len(ids)] = ids
        positions = np.where(steps < lengths, steps, steps - lengths)  # padding is a segment of its own
        where = [
            rows[one.inputs[shared:].tobytes()][0] * longest + len(one.before) - shared - 1 + np.arange(len(one.labels)) for one in group
        ]
        labels = np.concatenate([one.labels for one in group])
        with torch.no_grad(), tune.silent():
            if ahead is not None:
                nats, greedy = self._went_on(input_ids, lengths, ahead, np.concatenate(where), labels)
            else:
                nats, greedy = self.call.ask(*map(torch.from_numpy, (input_ids, positions, np.concatenate(where), labels)), True)
        return nats.double().cpu().numpy(), greedy.cpu().numpy()


class _Asked(NamedTuple):
    before: np.ndarray
    labels: np.ndarray
    number: int  # of the pair or document

    @property
    def inputs(self) -> np.ndarray:
        return np.concatenate([self.before, self.labels[:-1]])


class _Ahead(NamedTuple):
    """What texts begin with, read once."""

    ids: np.ndarray
    cache: Any


class _Judge(WithLoss):
    """A model asked for nats and whether a token is the likeliest."""

    def forward(
        self,
        inputs: dict[str, Any],
        where: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        each: bool = False,
        judged: bool = False,
    ) -> Any:
        """Logits or nats; `judged`: (nats, likeliest), of labels (n,) at flat positions `where` (n,)."""
        if not judged:
            return super().forward(inputs, where, labels, each)
        assert where is not None
        assert labels is not None
        if self.ends is None:
            logits = self.model(**inputs, use_cache=False).logits.flatten(0, -2).index_select(0, where)
            return _judged(logits, labels)
        with headless(*self.ends[:2]):
            hidden = self.model(**inputs, use_cache=False).logits
        _, head, after = self.ends
        picked = hidden.flatten(0, -2).index_select(0, where)
        rows = max(ROWS, chunk_of(picked.device) // len(head.weight))
        found = []
        for at in range(0, len(labels), rows):
            logits = functional.linear(picked[at : at + rows], head.weight, head.bias).float() * after.scale
            if after.cap is not None:
                logits = torch.tanh(logits / after.cap) * after.cap
            found.append(_judged(logits, labels[at : at + rows]))
        nats, likeliest = zip(*found, strict=True)
        return torch.cat(nats), torch.cat(likeliest)


def _judged(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return functional.cross_entropy(logits.float(), labels, reduction="none"), logits.argmax(-1) == labels


def open_lm(path: str, template: str | None = None) -> Local:
    """The model, adapter or run at `path`. `template`: a chat template's name, or `own`; None: texts go on as they are. InputError."""
    opened = writer.open_model(Path(path))
    chat = None if template is None else talks.chat_of(opened, None if template == "own" else template)
    if template is not None and chat is None:
        raise InputError(f"{path}: has no chat template of its own. Name the format it knows, or leave `template` out")
    dtype = torch.float32 if opened.device.type == "cpu" else torch.bfloat16
    call = attention.Call(_Judge(tune.apart(opened.model)), "sdpa", opened.device, dtype)
    return Local(path, _identity(opened, template), opened, chat, call, [], [])


def _identity(opened: writer.Opened, template: str | None) -> str:
    folders = [opened.directory, writer.base_of(opened.directory)]
    files = sorted(file for folder in folders if folder is not None for pattern in _FILES for file in folder.glob(pattern))
    return content_key([(file.name, file_hash(file)) for file in files], template, opened.vocabulary.hash)


def _windows(ids: np.ndarray, number: int, room: int) -> Iterator[_Asked]:
    """The pieces in which a document is read: the first of `room` tokens, each later one with half a room of what stands before."""
    at = 1
    while at < len(ids):
        begin = 0 if at == 1 else at - room // 2
        end = min(len(ids), begin + room)
        yield _Asked(ids[begin:at], ids[at:end], number)
        at = end


def _groups(asked: Sequence[_Asked], tokens: int, shared: int = 0) -> Iterator[list[_Asked]]:
    """Those of like length together, so many that the padded tokens stay below `tokens`; the same inputs stay side by side."""
    ordered = sorted(asked, key=lambda one: (-len(one.before) - len(one.labels), one.inputs.tobytes()))
    group: list[_Asked] = []
    for one in ordered:
        if group and (len(group) + 1) * len(group[0].inputs) > tokens * (2 if shared else 1):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _alike(asked: Sequence[_Asked], tokens: int) -> Iterator[tuple[list[_Asked], int]]:
    """Groups as of `_groups`, with how many tokens all of a group begin with, where reading these once spares enough."""
    alone: list[_Asked] = []
    ordered = sorted(asked, key=lambda one: one.inputs.astype(">i8").tobytes())
    at = 0
    while at < len(ordered):
        first, end = ordered[at].inputs, at + 1
        shared = len(ordered[at].before) - 1
        while end < len(ordered) and (common := min(shared, _common(first, ordered[end]))) >= max(_SHARED, shared // 2):
            shared, end = common, end + 1
        distinct = len({one.inputs.tobytes() for one in ordered[at:end]})
        if distinct > 1 and shared * (distinct - 1) >= _SPARED:
            for group in _groups(ordered[at:end], tokens, shared):
                yield group, shared
        else:
            alone += ordered[at:end]
        at = end
    for group in _groups(alone, tokens):
        yield group, 0


def _common(first: np.ndarray, other: _Asked) -> int:
    """How many tokens both begin with, less than what stands before the other's labels."""
    size = min(len(first), len(other.before) - 1)
    differ = np.flatnonzero(first[:size] != other.inputs[:size])
    return int(differ[0]) if len(differ) else size
