"""What P-Tuning v2 and prompt tuning train for ChatGLM-6B, by the checkpoint's names.

Both stand before every document of a packed row at once: neither sees the tokens behind it, so it is the same for all of them, is computed
once a row, and adds no token a document. Sources: Liu et al. 2021 (P-Tuning v2), Lester et al. 2021, the released fine-tuning code of
ChatGLM-6B (whose dropout of the prefix is left out).
"""

from __future__ import annotations

import torch
from torch import nn

from codedev.train.chatglm.config import ChatGLMConfig


class PrefixEncoder(nn.Module):
    """transformer.prefix_encoder: `embedding.weight` (P, 2 * layers * D), or (P, D) through `trans` with prefix_projection."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.shape = (config.pre_seq_len or 0, 2 * config.num_layers, config.num_attention_heads, -1)
        width = 2 * config.num_layers * config.hidden_size
        self.trans: nn.Sequential | None = None
        if config.prefix_projection:
            self.embedding = nn.Embedding(self.shape[0], config.hidden_size)
            self.trans = nn.Sequential(nn.Linear(config.hidden_size, config.hidden_size), nn.Tanh(), nn.Linear(config.hidden_size, width))
        else:
            self.embedding = nn.Embedding(self.shape[0], width)

    def forward(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values (1, H, P, head_dim) of every layer."""
        found = self.embedding.weight if self.trans is None else self.trans(self.embedding.weight)
        each = found.view(self.shape).permute(1, 2, 0, 3)[:, None]
        return list(zip(each[0::2], each[1::2], strict=True))


class PromptEncoder(nn.Module):
    """transformer.prompt_encoder: `embedding.weight` (prompt_len, D)."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.prompt_len, config.hidden_size)

    def forward(self) -> torch.Tensor:
        return self.embedding.weight
