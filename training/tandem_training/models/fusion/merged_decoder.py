"""Fusion that writes: one stream of image and words."""

import torch
from torch import Tensor, nn

from ..layers import PreNormLayer, merged_bias
from .image_input import ImageInput
from .writer import Writer, WriterConfig


class MergedDecoder(Writer):
    """One stream over image, then words: cells see cells, a word sees all cells and the words
    before it (GIT, Wang et al. 2022, arXiv:2205.14100, section 3.1)."""

    name = "merged_decoder"

    def __init__(self, config: WriterConfig, text, image):
        super().__init__(config, text, width := config.width)
        self.image_in = ImageInput(config, image, width)
        self.text_in, self.norm_in = nn.Linear(text.width, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            PreNormLayer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)

    def through(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor,
                causal: bool, prefix: Tensor | None = None) -> Tensor:  # fmt: skip
        """→ states of the words [p, t, width]."""
        texts, images = pairs[:, 0], pairs[:, 1]
        image, words = self.before(image_tokens), self.words(text_tokens[..., : self.text_width])
        bias = merged_bias(mask[texts], n := image.shape[1], causal, prefix)
        return self.layered(torch.cat([image[images], words[texts]], 1), bias)[:, n:]

    def before(self, image_tokens: Tensor) -> Tensor:
        """Image tokens [m, n, v] → what stands before the words [m, n, width]."""
        return self.image_in(image_tokens)

    def words(self, tokens: Tensor) -> Tensor:
        """Words as the text encoder gives them [q, t, w] → [q, t, width]."""
        return self.norm_in(self.text_in(tokens))

    def layered(self, x: Tensor, bias: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x)

    def write(self, text_tokens, mask, image_tokens, pairs, prefix=None):
        return self.through(text_tokens, mask, image_tokens, pairs, True, prefix)

    def read(self, text_tokens, mask, image_tokens, pairs):
        return self.through(text_tokens, mask, image_tokens, pairs, False)
