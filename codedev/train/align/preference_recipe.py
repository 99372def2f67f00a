"""What a train recipe says of the stages dpo, kto, grpo and rloo, which are carried out by TRL."""

from __future__ import annotations

from codedev._recipe import Model


class DpoRecipe(Model):
    """Direct preference optimisation (Rafailov et al. 2023) and its kin."""


class KtoRecipe(Model):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024)."""


class GrpoRecipe(Model):
    """Group relative policy optimisation (Shao et al. 2024)."""


class RlooRecipe(Model):
    """REINFORCE leave-one-out (Ahmadian et al. 2024)."""
