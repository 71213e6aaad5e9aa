"""No fusion: a dual encoder alone."""

import torch

from .fusion import Fusion


class NoFusion(Fusion):
    """Every pair gets the logit 0, and similarity decides."""

    name = "none"
    needs = gives = set()
    writes = False

    def __init__(self, config, text, image):
        super().__init__()

    def forward(self, text_tokens, mask, image_tokens, pairs):
        return torch.zeros(len(pairs), device=pairs.device)
