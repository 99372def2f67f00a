"""codedev: build corpora, tokenize them and train language models, with every loss accounted for."""

__version__ = "0.1.0"
