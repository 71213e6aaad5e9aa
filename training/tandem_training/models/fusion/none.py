"""No fusion: a dual encoder alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..part import PartConfig
from .fusion import Fusion


class NoFusion(Fusion):
    """Every pair gets the logit 0, and similarity decides."""

    name = "none"

    @dataclass(frozen=True)
    class Config(PartConfig):
        pass

    def __init__(self, config: Config, text, image):
        super().__init__()

    @classmethod
    def gives(cls, config, given) -> set[str]:
        return set()

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        return torch.zeros(len(pairs), device=pairs.device)
