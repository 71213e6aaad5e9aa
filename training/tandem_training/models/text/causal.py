"""Text encoder: CLIP's causal transformer (Radford et al. 2021, arXiv:2103.00020)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import PreNormLayer, causal_bias, init_scaled
from .text import TextConfig, TextEncoder, pooled


class CausalText(TextEncoder):
    """A token sees only those before it: the embedding is read from the last one ([SEP]); a
    fusion that goes on causally can write captions (CoCa, Yu et al. 2022, arXiv:2205.01917)."""

    name = "causal"
    gives = {"text.embedding", "text.tokens", "text.causal"}

    @dataclass(frozen=True)
    class Config(TextConfig):
        pool: str = "last"

    def __init__(self, config: Config, dim: int, vocabulary: int = 30522, positions: int = 512):
        super().__init__()
        self.width, self.kind = config.width, config.pool
        width = config.width
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.01)
        self.layers = nn.ModuleList(
            PreNormLayer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        init_scaled(self.layers)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.project.weight, std=width**-0.5)

    def place(self, words: Tensor) -> Tensor:
        return words + self.positions(torch.arange(words.shape[1], device=words.device))

    def states(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = causal_bias(mask)
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x).float()

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        one = pooled(tokens, mask, self.kind)
        return F.normalize(self.project(one).float(), dim=-1)
