"""Tiny models of several families, with a tokenizer of their own, for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as kinds

FAMILIES = ("llama", "qwen3", "glm")
END, BEGIN = "<|end|>", "<|begin|>"
_SIZE = 600
_TEXTS = Path(__file__).parent.parent / "samples"


def tiny(folder: Path, family: str = "llama", *, seed: int = 0, begin: bool = True, positions: int = 512, **shape: Any) -> Path:
    """A model of random weights, so large that its guesses differ from token to token. `begin`: documents have a token that begins them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(folder / "tokenizer.json"))
    shape = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        **shape,
    }
    own = {
        "vocab_size": _SIZE,
        "head_dim": shape["hidden_size"] // shape["num_attention_heads"],
        "max_position_embeddings": positions,
        "initializer_range": 0.3,
    }
    tokens = {"eos_token_id": 0, "pad_token_id": 0, "bos_token_id": 1 if begin else None}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **shape, **own, **tokens)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def lm_eval_model(folder: Path) -> Any:
    """lm-eval's own model class on `folder`, its tokenizer the same file with the token that begins a text."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token=BEGIN, eos_token=END, pad_token=END)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)])
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return HFLM(loaded, tokenizer=tokenizer, batch_size=8, device="cpu")


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_SIZE, special_tokens=[END, BEGIN], initial_alphabet=alphabet, show_progress=False)
    texts = sorted(file for pattern in ("*.md", "*.py", "*.txt", "*.html") for file in _TEXTS.rglob(pattern))
    tokenizer.train_from_iterator((file.read_text(errors="replace") for file in texts), trainer)
    return tokenizer
