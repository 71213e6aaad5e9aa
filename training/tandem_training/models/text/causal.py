"""Text encoder: CLIP's causal transformer (Radford et al. 2021, arXiv:2103.00020)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import PreNormLayer, causal_bias


class CausalTextEncoder(nn.Module):
    """token ids [b, t], mask [b, t] → embedding [b, dim] (unit length), text tokens [b, t, width].

    A token sees only those before it, so the embedding is read from the last one ([SEP]), and a
    fusion that goes on causally can write captions (CoCa)."""

    def __init__(self, dim: int, width: int, layers: int, heads: int, vocabulary: int = 30522,
                 positions: int = 512, dropout: float = 0.1):  # fmt: skip
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.01)
        self.layers = nn.ModuleList(PreNormLayer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim, bias=False)
        self.width = width

    def embed(self, token_ids: Tensor) -> Tensor:
        """What the first layer reads, [b, t, width]."""
        return self.words(token_ids) + self.positions(
            torch.arange(token_ids.shape[1], device=token_ids.device)
        )

    def forward(self, token_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x, bias = self.embed(token_ids), causal_bias(mask)
        for layer in self.layers:
            x = layer(x, bias)
        x = self.norm(x)
        last = mask.sum(1) - 1
        end = x[torch.arange(x.shape[0], device=x.device), last]
        return F.normalize(self.project(end).float(), dim=-1), x.float()
