"""The configuration of ChatGLM-6B (v1), as its config.json writes it.

ChatGLM2 and ChatGLM3 share its model_type and nothing else; `family` tells them apart.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig


class ChatGLMConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Special ids of both revisions: the first has 150,528 entries, of which 20,000 stand for pictures and come before all others
    ([MASK] 150000, [gMASK] 150001, <sop> 150004, <eop> 150005); the second has 130,528 without them (130000, …). The first does not
    write the ids of [MASK] and [gMASK]: they are four and three before <sop>.
    """

    model_type = "chatglm"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 - of transformers
    attribute_map = {  # noqa: RUF012 - of transformers
        "num_hidden_layers": "num_layers",
        "intermediate_size": "inner_hidden_size",
        "max_position_embeddings": "max_sequence_length",
    }

    vocab_size: int = 130528
    hidden_size: int = 4096
    num_layers: int = 28
    num_attention_heads: int = 32
    inner_hidden_size: int = 16384
    layernorm_epsilon: float = 1e-5
    max_sequence_length: int = 2048
    position_encoding_2d: bool = True
    quantization_bit: int = 0
    initializer_range: float = 0.02
    use_cache: bool = True
    # Both matrices are stored, and are trained apart.
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 130004
    eos_token_id: int | list[int] | None = 130005
    pad_token_id: int | None = 3
    mask_token_id: int | None = None
    gmask_token_id: int | None = None
    # The released code takes this from a constant whatever num_layers is: the residual is sqrt(2 * alpha_layers) times the normed input.
    alpha_layers: int = 28
    # Rotary angles in float16 arithmetic, as the released code computes them for its float16 weights. For comparison with it alone.
    rope_half: bool = False
    # P-Tuning v2: so many trained keys and values before every document, straight or out of a small network.
    pre_seq_len: int | None = None
    prefix_projection: bool = False
    # Prompt tuning: so many trained vectors before every document. No key of the released code.
    prompt_len: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        self.tie_word_embeddings = False
        if self.bos_token_id is not None:
            self.mask_token_id = self.bos_token_id - 4 if self.mask_token_id is None else self.mask_token_id
            self.gmask_token_id = self.bos_token_id - 3 if self.gmask_token_id is None else self.gmask_token_id
        if self.num_attention_heads < 1 or self.hidden_size % (4 * self.num_attention_heads):
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of 4 * num_attention_heads {self.num_attention_heads}")
        if self.quantization_bit:
            raise ValueError(f"its weights are of {self.quantization_bit} bits by code of its own. Take the checkpoint in float16")
        if not self.position_encoding_2d:
            raise ValueError("it has one position a token (position_encoding_2d: false), as no released ChatGLM-6B does")
        marks = {"<sop> (bos_token_id)": self.bos_token_id, "[gMASK] (gmask_token_id)": self.gmask_token_id}
        for name, number in marks.items():
            if number is None or not 0 <= number < self.vocab_size:
                raise ValueError(f"{name} is {number}, which is none of its {self.vocab_size} tokens: it decides who sees whom")
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
