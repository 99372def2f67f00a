"""What a train recipe says of stage ppo."""

from __future__ import annotations

from codedev._recipe import Model


class PpoRecipe(Model):
    """Proximal policy optimisation (Schulman et al. 2017)."""
