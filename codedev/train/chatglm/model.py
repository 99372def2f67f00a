"""ChatGLM-6B (v1) as a transformers model: the checkpoint's own names of weights, no remote code.

LayerNorm with bias, tanh GELU, two rotary embeddings (each turns one half of a head: by position, by block position), and a residual from
the normed input: alpha * LN(x) + f(LN(x)). Who sees whom is `layout`'s matter.

Called in three ways:
    input_ids, attention_mask (B, S)               one document a row, padding on either side
    input_ids, position_ids (B, S)                 packed rows: a document begins wherever a position is 0
    what prepare_inputs_for_generation makes       `seen` (B, n, 1 + S) and position_ids (B, 2, n), behind a cache

Keys in the order: prefix (P-Tuning v2), then what is put before the tokens of a row: prompt, [gMASK]; then the tokens. What lies before the
tokens stands in the cache like them and has no logits. Sources: the released code of ChatGLM-6B; Du et al. 2022; Su et al. 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from codedev.train.chatglm import layout
from codedev.train.chatglm.config import ChatGLMConfig
from codedev.train.chatglm.lead import PrefixEncoder, PromptEncoder

Turn = tuple[torch.Tensor, torch.Tensor]  # cosine and sine (B, 1, S, head_dim / 2) of a position


def turns(positions: torch.Tensor, width: int, dtype: torch.dtype, half: bool) -> Turn:
    """Of positions (B, S), for `width` numbers of a head. `half`: angles in float16 arithmetic."""
    steps = torch.arange(0, width, 2, device=positions.device)
    frequencies = 1.0 / (10000 ** (steps.float() / width))
    with torch.autocast(positions.device.type, enabled=False):
        if half:
            angles = positions[..., None].half() * frequencies.half()
        else:
            angles = positions[..., None].float() * frequencies
        angles = torch.cat([angles, angles], -1)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)


def turned(x_BHTd: torch.Tensor, turn: Turn) -> torch.Tensor:
    a, b = x_BHTd.chunk(2, -1)
    return x_BHTd * turn[0] + torch.cat([-b, a], -1) * turn[1]


class SelfAttention(nn.Module):
    def __init__(self, config: ChatGLMConfig, index: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.index = config.num_attention_heads, index
        self.query_key_value = nn.Linear(width, 3 * width)  # per head: query, key, value
        self.dense = nn.Linear(width, width)

    def forward(
        self, x_BTD: torch.Tensor, turn: tuple[Turn, Turn], seen: torch.Tensor, prefix: Turn | None, past: Cache | None, eager: bool
    ) -> torch.Tensor:
        """`seen` (B, 1, T, K) bool; `prefix`: keys and values (1, H, P, d) before all others, where there is no cache yet."""
        B, T, D = x_BTD.shape
        q, k, v = self.query_key_value(x_BTD).view(B, T, self.heads, 3 * D // self.heads).transpose(1, 2).chunk(3, -1)
        q, k = (torch.cat([turned(half, by) for half, by in zip(x.chunk(2, -1), turn, strict=True)], -1).to(v.dtype) for x in (q, k))
        if prefix is not None:
            k, v = (torch.cat([own.expand(B, -1, -1, -1).to(x.dtype), x], 2) for own, x in zip(prefix, (k, v), strict=True))
        if past is not None:
            k, v = past.update(k, v, self.index)
        if eager:
            scores = (q @ k.transpose(-1, -2)).float() / (q.shape[-1] ** 0.5)
            out = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(v.dtype) @ v
        else:
            out = scaled_dot_product_attention(q, k, v, attn_mask=seen)
        dense: torch.Tensor = self.dense(out.transpose(1, 2).reshape(B, T, D))
        return dense


class GLU(nn.Module):
    """The feed-forward layer, by the name the released code gives it."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.dense_4h_to_h(gelu(self.dense_h_to_4h(x_BTD), approximate="tanh"))
        return out


class GLMBlock(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]
    def __init__(self, config: ChatGLMConfig, index: int) -> None:
        super().__init__()
        self.alpha = (2 * config.alpha_layers) ** 0.5
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.attention = SelfAttention(config, index)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = GLU(config)

    def forward(
        self,
        x_BTD: torch.Tensor,
        turn: tuple[Turn, Turn],
        seen: torch.Tensor,
        prefix: Turn | None = None,
        past: Cache | None = None,
        eager: bool = False,
    ) -> torch.Tensor:
        normed = self.input_layernorm(x_BTD)
        x_BTD = normed * self.alpha + self.attention(normed, turn, seen, prefix, past, eager)
        normed = self.post_attention_layernorm(x_BTD)
        out: torch.Tensor = normed * self.alpha + self.mlp(normed)
        return out


class ChatGLMPreTrainedModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    config_class = ChatGLMConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GLMBlock"]  # noqa: RUF012 - of transformers
    _supports_sdpa = True
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$"]  # noqa: RUF012 - stored by the released code, computed here

    @property
    def _own(self) -> ChatGLMConfig:
        config: Any = self.config
        found: ChatGLMConfig = config
        return found


class ChatGLMModel(ChatGLMPreTrainedModel):  # type: ignore[no-untyped-call]
    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(GLMBlock(config, index) for index in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.prefix_encoder = PrefixEncoder(config) if config.pre_seq_len else None
        self.prompt_encoder = PromptEncoder(config) if config.prompt_len else None
        self.gradient_checkpointing = False
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def leading(self) -> tuple[int, int]:
        """(keys that are no tokens at all, tokens put before those of a row)."""
        return (self.config.pre_seq_len or 0), self.config.prompt_len + 1

    def get_input_embeddings(self) -> nn.Module:
        return self.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.word_embeddings = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        seen: torch.Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """The hidden states of the tokens (B, S, D). See the module for what is given."""
        if input_ids is None:
            raise ValueError("ChatGLM-6B reads who sees whom from the tokens: give input_ids, not inputs_embeds")
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        fresh = past_key_values is None or past_key_values.get_seq_length() == 0
        if seen is None or position_ids is None:
            if not fresh:
                raise ValueError("ChatGLM-6B goes on from a cache by prepare_inputs_for_generation alone")
            packed = position_ids is not None and position_ids.dim() == 2
            starts = position_ids == 0 if packed and position_ids is not None else torch.zeros_like(input_ids, dtype=torch.bool)
            found = layout.layout(input_ids, self._own, starts, None if attention_mask is None else attention_mask.bool())
            position_ids, seen = found.positions, torch.cat([found.lead[:, :, None], layout.visible(found)], 2)
        x = self.word_embeddings(input_ids)
        before = self.leading[1]
        if fresh:
            x, position_ids = self._with_lead(x, position_ids)
        seen = self._whole_mask(seen, fresh)
        width = self.config.hidden_size // self.config.num_attention_heads // 2
        half = self.config.rope_half
        turn = (turns(position_ids[:, 0], width, x.dtype, half), turns(position_ids[:, 1], width, x.dtype, half))
        prefix = self.prefix_encoder() if fresh and self.prefix_encoder is not None else [None] * len(self.layers)
        eager = self.config._attn_implementation == "eager"
        for layer, own in zip(self.layers, prefix, strict=True):
            x = layer(x, turn, seen, own, past_key_values, eager)
        return BaseModelOutputWithPast(
            last_hidden_state=self.final_layernorm(x[:, before:] if fresh else x), past_key_values=past_key_values if use_cache else None
        )

    def _with_lead(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompt and [gMASK] put before the tokens: the prompt at the positions … -2, -1, [gMASK] at 0."""
        before = self.leading[1]
        lead = self.word_embeddings(torch.full((1, 1), int(self.config.gmask_token_id or 0), device=x.device))
        if self.prompt_encoder is not None:
            lead = torch.cat([self.prompt_encoder().to(lead.dtype)[None], lead], 1)
        places = torch.arange(1 - before, 1, device=x.device)
        places = torch.stack([places, torch.zeros_like(places)])[None]
        return torch.cat([lead.expand(len(x), -1, -1).to(x.dtype), x], 1), torch.cat([places.expand(len(x), -1, -1), positions], 2)

    def _whole_mask(self, seen: torch.Tensor, fresh: bool) -> torch.Tensor:
        """`seen` (B, n, 1 + S), whose first key is [gMASK], with all keys that lie before, and with the queries of the lead."""
        prefixed, before = self.leading
        B, _, keys = seen.shape
        seen = torch.cat([seen.new_ones(B, seen.shape[1], prefixed + before - 1), seen], 2)
        if fresh:
            own = torch.ones(before, before, dtype=torch.bool, device=seen.device).tril()
            rows = torch.cat([own.new_ones(before, prefixed), own, own.new_zeros(before, keys - 1)], 1)
            seen = torch.cat([rows.expand(B, -1, -1), seen], 1)
        return seen[:, None]


class ChatGLMForConditionalGeneration(ChatGLMPreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """By the name that the checkpoints' config.json gives. A causal language model; see the module."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.transformer = ChatGLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_output_embeddings(self) -> nn.Module:
        head: nn.Module = self.lm_head
        return head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.lm_head = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        seen: torch.Tensor | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        out = self.transformer(input_ids, attention_mask, position_ids, past_key_values, use_cache, seen)
        logits = self.lm_head(out.last_hidden_state[:, -logits_to_keep:] if logits_to_keep else out.last_hidden_state)
        loss = None if labels is None else self.loss_function(logits, labels, self.config.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=out.past_key_values)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: torch.Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """`input_ids` (B, S) whole: what was read before tells where the new tokens stand."""
        held = 0 if past_key_values is None else past_key_values.get_seq_length()
        known = max(0, held - sum(self.transformer.leading))
        real = None if attention_mask is None else attention_mask.bool()
        found = layout.layout(input_ids, self._own, torch.zeros_like(input_ids, dtype=torch.bool), real)
        if known and bool(found.context[:, known:].any()):
            raise ValueError("ChatGLM-6B reads its context in both directions: it cannot be continued behind a cache. Begin again")
        return {
            "input_ids": input_ids[:, known:],
            "position_ids": found.positions[:, :, known:],
            "seen": torch.cat([found.lead[:, known:, None], layout.visible(found, known)], 2),
            "past_key_values": past_key_values,
            "use_cache": kwargs.get("use_cache", True),
            "logits_to_keep": 1,
        }
