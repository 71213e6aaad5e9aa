"""The lower of two poolers in a row."""

import torch
from torch import Tensor, nn

from ..layers import cross_attention


class QueryPooler(nn.Module):
    """Grid [b, n, v] → [b, count, width], by learnt queries. What is pooled from them, and not from
    the grid, is the embedding (CoCa, Yu et al. 2022, arXiv:2205.01917, section 3.2: attentional
    poolers in cascade)."""

    def __init__(self, grid_width: int, count: int, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.queries = nn.Parameter(0.02 * torch.randn(count, width))
        self.norm_in, self.norm = nn.LayerNorm(grid_width), nn.LayerNorm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(grid_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, grid: Tensor) -> Tensor:
        queries = self.q(self.queries).expand(grid.shape[0], -1, -1)
        read = cross_attention(queries, self.kv(self.norm_in(grid)), self.heads)
        return self.norm(self.out(read))
