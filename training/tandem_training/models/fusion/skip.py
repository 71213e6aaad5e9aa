"""Fusion by skip-connected layers (mPLUG, Li et al. 2022, arXiv:2205.12005, section 3.2)."""

from dataclasses import dataclass

import torch
from torch import nn

from ..layers import as_normed, attention_bias, merged_bias
from ..text.bert import Layer
from .fusion import Fusion, StreamConfig
from .inserted_attention import CrossAttention


class Skip(Fusion):
    """A block has `stride` layers in which words attend to words and to the image, which stays as
    it is, then one layer in which the image skips to them: words and image in one sequence."""

    name = "skip"
    gives = Fusion.gives | {"fusion.image"}
    writes = False

    @dataclass(frozen=True)
    class Config(StreamConfig):
        layers: int = 1  # blocks
        stride: int = 2

    def __init__(self, config: Config, text, image):
        super().__init__()
        self.width = width = config.width
        sizes = (width, config.heads, 4 * width, config.dropout)
        self.text_in = nn.Linear(text.width, width)
        self.image_in = nn.Linear(image.token_width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-12) for _ in range(2))
        self.positions = nn.Parameter(0.02 * torch.randn(image.cells, width))
        self.layers = nn.ModuleList(
            nn.ModuleList(Layer(*sizes) for _ in range(config.stride + 1))
            for _ in range(config.layers)
        )
        self.cross = nn.ModuleList(
            nn.ModuleList(
                CrossAttention(width, config.heads, width, config.dropout)
                for _ in range(config.stride)
            )
            for _ in range(config.layers)
        )
        self.head = nn.Linear(width, 1)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        x = self.norms[0](self.text_in(text_tokens))[texts]  # [p, t, width]
        y = self.norms[1](self.image_in(as_normed(image_tokens)) + self.positions)[images]
        bias, n = attention_bias(mask)[texts], y.shape[1]
        both = merged_bias(mask[texts], n, causal=False)
        for layers, crosses in zip(self.layers, self.cross, strict=True):
            *alone, connected = layers
            for layer, cross in zip(alone, crosses, strict=True):
                x = layer.feed(cross(layer.mix(x, bias), y))
            z = connected(torch.cat([y, x], 1), both)
            y, x = z[:, :n], z[:, n:]
        return x, y
