"""Quality: statistics of the text as columns (columns.py), then thresholds on the columns (rules.py). A changed bound needs no text."""

from codedev.corpus.quality.columns import SCORES, VERSION, needs_language, score_stage, scores, scoring, version
from codedev.corpus.quality.rules import code_filter, content_filter, filters, gopher_filter

__all__ = [
    "SCORES",
    "VERSION",
    "code_filter",
    "content_filter",
    "filters",
    "gopher_filter",
    "needs_language",
    "score_stage",
    "scores",
    "scoring",
    "version",
]
