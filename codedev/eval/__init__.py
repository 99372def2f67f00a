"""Evaluation: sees a model through small protocols of ids, text and numbers, and imports no torch."""
