"""Who sees whom in ChatGLM-6B, and where each token stands.

A document is `context [gMASK] <sop> continuation <eop>`. The context is read in both directions, the continuation from left to right.
A token of the context has its place as position and 0 as block position; a token of the continuation has the place of [gMASK] (or of
[MASK], where there is no [gMASK]) as position and 1, 2, … as block position, <sop> 1. Source: GLM, Du et al. 2022; the released code.

Plain text, as pre-training shards hold it, is `<sop> text <eop>`: the released model's `[gMASK] <sop> text <eop>` with an empty context.
The [gMASK] that is not written there is put before every row (`model`, the last of its lead), and seen by those documents alone that
have none of their own. It sees itself only, so it is the same before every document, and the logits are those of the written form:
position 0 for all, block positions 1, 2, …, from left to right. A piece of a document that goes on from another row has no <sop> either;
its first token stands where <sop> would.

What lies in a context is seen before it is predicted: no token of it may count in a loss. The chat template `chatglm` has the last answer
learned alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from codedev._errors import InputError
from codedev.train.chatglm.config import ChatGLMConfig
from codedev.train.data import Shards

_LOOKED_AT = 64  # rows, for what is trained in a context


class Layout(NamedTuple):
    positions: torch.Tensor  # (B, 2, S) int64: position, block position
    documents: torch.Tensor  # (B, S) int64: number of the token's document in its row, from 0; -1 for padding
    context: torch.Tensor  # (B, S) bool: the token is of its document's context, which every token of the document sees
    lead: torch.Tensor  # (B, S) bool: the token's document has no [gMASK] of its own and sees the one before the row


def layout(input_ids: torch.Tensor, config: ChatGLMConfig, starts: torch.Tensor, real: torch.Tensor | None = None) -> Layout:
    """Of `input_ids` (B, S), whose documents begin where `starts` (B, S) is true; `real` (B, S): the token is no padding.

    The first token of a row that is real begins a document whatever `starts` says. Nothing is read back from the device.
    """
    rows, length = input_ids.shape
    steps = torch.arange(length, device=input_ids.device).expand(rows, length)
    real = torch.ones_like(input_ids, dtype=torch.bool) if real is None else real
    first = real & (real.cumsum(1) == 1)
    starts = (starts & real) | first
    begin = torch.where(starts, steps, 0).cummax(1).values  # of the token's document
    inside = steps - begin
    # Places of the first <sop>, [gMASK] and [MASK] of every document, `length` where there is none. A document is known by its beginning.
    none = torch.full_like(input_ids, length)

    def place(found: torch.Tensor) -> torch.Tensor:
        at = none.scatter_reduce(1, begin, torch.where(found & real, inside, length), "amin")
        return at.gather(1, begin)

    sop = place(torch.eq(input_ids, config.bos_token_id or 0))
    written = sop < length
    end = torch.where(written, sop, 0)  # of the context
    before = inside < end
    gmask = place(torch.eq(input_ids, config.gmask_token_id or 0) & before)
    mask = place(torch.eq(input_ids, config.mask_token_id or 0) & before)
    anchor = torch.where(gmask < length, gmask, mask)
    lead = anchor == length
    anchor = torch.where(lead, 0, anchor)
    context = before & real
    position = torch.where(context, inside, anchor)
    block = torch.where(context, 0, inside - end + 1)
    documents = torch.where(real, starts.cumsum(1) - 1, -1)
    return Layout(torch.stack([position, block], 1), documents, context, lead & real)


def visible(found: Layout, since: int = 0) -> torch.Tensor:
    """(B, S - since, S) bool: query, key, of the queries from `since` on. Padding sees itself, so that no row of a softmax is empty, and is
    seen by nobody else."""
    steps = torch.arange(found.documents.shape[1], device=found.documents.device)
    same = found.documents[:, since:, None] == found.documents[:, None, :]
    earlier = steps[since:, None] >= steps
    seen = same & (earlier | found.context[:, None, :]) & (found.documents >= 0)[:, None, :]
    return seen | (steps[since:, None] == steps)


def check_targets(config: ChatGLMConfig, shards: Shards) -> None:
    """InputError where shards train tokens of a context, which the model sees before it predicts them. Looks at 64 rows."""
    numbers = np.unique(np.linspace(0, shards.rows - 1, min(_LOOKED_AT, shards.rows)).astype(np.int64))
    rows = shards.read(numbers)
    ids, positions, real = (torch.from_numpy(part) for part in (rows.input_ids, rows.positions, rows.real))
    seen = layout(ids, config, positions == 0, real).context.numpy() & rows.targets
    if seen.any():
        row, at = np.argwhere(seen)[0].tolist()
        raise InputError(
            f"{shards.dirs[0]}: row {numbers[row]} trains its token {at}, which stands before <sop>, where ChatGLM-6B reads in both "
            "directions: it would see what it is to predict. Make the shards with chat.train_on assistant"
        )
