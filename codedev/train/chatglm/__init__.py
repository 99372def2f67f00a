"""ChatGLM as a base, without a line of its remote code.

    ChatGLM-6B (v1)   an implementation of its own, registered with transformers: config, layout (positions and masks), model, lead (prompts
                      and prefixes), adapter (how those are kept)
    ChatGLM2/3-6B     convert: rewritten as transformers' native Glm
    tokenizers        pieces: their SentencePiece models with the special tokens that the released code adds by itself

A saved v1 is read where codedev is installed, after `codedev.train.chatglm.register()`; plain transformers does not know it. Importing
this is cheap.
"""

from __future__ import annotations


def register() -> None:
    """Make ChatGLM-6B known to transformers' AutoConfig and AutoModelForCausalLM, under its own model_type `chatglm`."""
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

    from codedev.train.chatglm.config import ChatGLMConfig
    from codedev.train.chatglm.model import ChatGLMForConditionalGeneration

    if ChatGLMConfig.model_type not in CONFIG_MAPPING:
        AutoConfig.register(ChatGLMConfig.model_type, ChatGLMConfig)
        AutoModelForCausalLM.register(ChatGLMConfig, ChatGLMForConditionalGeneration)
