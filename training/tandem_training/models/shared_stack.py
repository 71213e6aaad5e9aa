"""One stack of transformer layers for images, texts and pairs of both."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import attend, join_heads, split_heads

IMAGE, TEXT, BOTH = "image", "text", "both"


class Experts(nn.ModuleDict):
    """A module for all that is read, or one for each side: "image", "text" and, in layers that have
    it, "both", which reads every token of a pair."""

    def forward(self, x: Tensor, side: str, cells: int) -> Tensor:
        """x [b, t, w] of the side; in a pair, the first `cells` tokens are those of the image."""
        if len(self) == 1:
            return next(iter(self.values()))(x)
        if side in self:
            return self[side](x)
        return torch.cat([self[IMAGE](x[:, :cells]), self[TEXT](x[:, cells:])], 1)


class SharedLayer(nn.Module):
    """Pre-norm transformer layer whose self-attention reads images, texts and pairs.

    `experts`: "none" (UFO, Wang et al. 2021, arXiv:2111.10023), "norm": each side has layer norms
    of its own (MS-CLIP, You et al. 2022, arXiv:2207.12661), "feed": each side has a feed-forward of
    its own, and with `joint` so have pairs (VLMo, Bao et al. 2021, arXiv:2111.02358, section 3.2).
    """

    def __init__(self, width: int, heads: int, dropout: float, experts: str, joint: bool):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        sides = (IMAGE, TEXT, BOTH) if joint else (IMAGE, TEXT)

        def of(kinds: tuple[str, ...], make) -> Experts:
            return Experts({name: make() for name in (sides if experts in kinds else ("all",))})

        self.norm1 = of(("norm",), lambda: nn.LayerNorm(width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = of(("norm", "feed"), lambda: nn.LayerNorm(width))
        self.feed = of(
            ("feed",),
            lambda: nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            ),
        )

    def forward(self, x: Tensor, bias: Tensor | None, side: str, cells: int) -> Tensor:
        """Arguments as of `SharedStack.forward`."""
        q, k, v = split_heads(self.qkv(self.norm1(x, side, cells)), 3, self.heads).unbind(0)
        x = x + F.dropout(self.out(join_heads(attend(q, k, v, bias))), self.dropout, self.training)
        y = self.feed(self.norm2(x, side, cells), side, cells)
        return x + F.dropout(y, self.dropout, self.training)


class SharedStack(nn.Module):
    """`layers` such layers, then a layer norm. The top `joint_layers` have experts for pairs."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float, experts: str,
                 joint_layers: int):  # fmt: skip
        super().__init__()
        self.layers = nn.ModuleList(
            SharedLayer(width, heads, dropout, experts, joint=i >= layers - joint_layers)
            for i in range(layers)
        )
        sides = (IMAGE, TEXT) if experts == "norm" else ("all",)
        self.norm = Experts({name: nn.LayerNorm(width) for name in sides})

    def forward(self, x: Tensor, bias: Tensor | None, side: str, cells: int = 0) -> Tensor:
        """x [b, t, w] of the side "image", "text" or "both"; of both, the first `cells` are the
        image's. bias broadcasts to [b, heads, t, t] → [b, t, w]."""
        for layer in self.layers:
            x = layer(x, bias, side, cells)
        return self.norm(x, side, cells)
