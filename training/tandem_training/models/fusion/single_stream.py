"""Fusion by merged attention: words and image cells in one sequence, through the same layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import PreNormLayer, as_normed, merged_bias
from .fusion import Fusion, StreamConfig


class SingleStream(Fusion):
    """Merged attention over the tokens of both encoders (UNITER, Chen et al. 2019,
    arXiv:1909.11740)."""

    name = "single_stream"
    gives = Fusion.gives | {"fusion.image"}
    Config = StreamConfig

    def __init__(self, config: StreamConfig, text, image):
        super().__init__()
        self.width = width = config.width
        self.text_in = nn.Linear(text.width, width)
        self.image_in = nn.Linear(image.token_width, width)
        # Positions of the cells; words bring their own.
        self.positions = nn.Parameter(0.02 * torch.randn(image.cells, width))
        self.norm_in = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            PreNormLayer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        words = self.text_in(text_tokens)[texts]  # [p, t, width]
        cells = (self.image_in(as_normed(image_tokens)) + self.positions)[images]  # [p, n, width]
        x = self.norm_in(torch.cat([cells, words], dim=1))  # [p, n + t, width]
        n = cells.shape[1]
        bias = merged_bias(mask[texts], n, causal)
        for layer in self.layers:
            x = layer(x, bias)
        # Each side by itself: the image states are often not read.
        return self.norm(x[:, n:]), self.norm(x[:, :n])


class PatchStream(SingleStream):
    """The same over bare words and bare patches, without encoders (ViLT, Kim et al. 2021,
    arXiv:2102.03334)."""

    name = "patch_stream"
    needs = {"text.tokens", "image.patches"}
    bare_words = True

    def __init__(self, config: StreamConfig, text, image):
        super().__init__(config, text, image)
        self.patches = nn.Linear(3 * image.stride**2, image.token_width)

    def image_tokens(self, activations: Tensor, tokens: Tensor) -> Tensor:
        patches = activations.flatten(2).transpose(1, 2)  # [b, n, 3 · stride²]
        return F.normalize(self.patches(patches).float(), dim=-1)  # [b, n, v]
