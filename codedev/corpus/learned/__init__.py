"""Learned quality: a fastText classifier of documents and an n-gram model's perplexity, trained from documents that a recipe names and
scored as columns; thresholds stay in the recipe."""

from codedev.corpus.learned.classifier import columns, learned_filter, learned_stage, version
from codedev.corpus.learned.config import Learned, Perplexity, TrainRecipe
from codedev.corpus.learned.perplexity import perplexity_columns, perplexity_filter, perplexity_stage, perplexity_version
from codedev.corpus.learned.train import train

__all__ = [
    "Learned",
    "Perplexity",
    "TrainRecipe",
    "columns",
    "learned_filter",
    "learned_stage",
    "perplexity_columns",
    "perplexity_filter",
    "perplexity_stage",
    "perplexity_version",
    "train",
    "version",
]
