"""Fusion by the stack of both encoders, which reads words and cells as one sequence."""

import torch
from torch import nn

from ..layers import merged_bias
from ..part import PartConfig
from ..shared_stack import BOTH
from .fusion import Fusion


class SharedFusion(Fusion):
    """The logit is read from the state of [CLS] (VLMo, Bao et al. 2021, arXiv:2111.02358). An item
    stores its patches, so a pair costs the whole stack."""

    name = "shared"
    needs = {"image.stack", "text.stack"}
    gives = Fusion.gives | {"fusion.image"}
    bare_words = True
    Config = PartConfig

    def __init__(self, config: PartConfig, text, image):
        super().__init__()
        # In a tuple, so that their parameters are counted and saved once, as the encoders'.
        self._vision, self.width = (text.vision,), text.width
        self.head = nn.Linear(text.width, 1)

    def image_tokens(self, activations, tokens):
        return self._vision[0].tokens(activations)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        (vision,), n = self._vision, image_tokens.shape[1]
        cells = vision.read_in(image_tokens)[images]  # [p, n, w]
        x = torch.cat([cells, text_tokens[texts]], dim=1)  # [p, n + t, w]
        x = vision.stack(x, merged_bias(mask[texts], n, causal), BOTH, n)
        return x[:, n:], x[:, :n]
