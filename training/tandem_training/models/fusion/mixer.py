"""Fusion without attention: words and cells mix through layers of a perceptron (MLP-ViL, Nie et al.
2021, arXiv:2112.04453; the mixing is MLP-Mixer's, Tolstikhin et al. 2021, arXiv:2105.01601)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import as_normed, attend, merged_bias
from .fusion import Fusion, StreamConfig


class MixerLayer(nn.Module):
    """Mixes the tokens of a pair, then the channels of each token. `places`: tokens at most. With
    `tiny` one head of attention, 64 wide at most, stands beside the mixing of tokens (gMLP's, Liu
    et al. 2021, arXiv:2105.08050)."""

    def __init__(self, width: int, places: int, dropout: float, tiny: bool):
        super().__init__()
        self.dropout = dropout
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        # Of a hidden token for every four channels; columns beyond a pair's tokens are not read.
        self.gather = nn.Parameter(places**-0.5 * torch.randn(width, places))
        self.spread = nn.Parameter(width**-0.5 * torch.randn(places, width))
        self.bias = nn.Parameter(torch.zeros(width, 1))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = min(width, 64)
        self.qkv = nn.Linear(width, 3 * self.head) if tiny else None
        self.out = nn.Linear(self.head, width) if tiny else None

    def forward(self, x: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
        """x [p, n, w], mask [p, n], and as a bias of attention [p, 1, 1, n] → [p, n, w]."""
        n, y = x.shape[1], self.norm1(x)
        hidden = F.gelu(self.gather[:, :n] @ (y * mask[..., None]) + self.bias)  # [p, w, w]
        mixed = self.spread[:n] @ hidden
        if self.qkv is not None:
            q, k, v = self.qkv(y)[:, None].split(self.head, -1)  # [p, 1, n, head] each
            mixed = mixed + self.out(attend(q, k, v, bias)[:, 0])
        x = x + F.dropout(mixed, self.dropout, self.training)
        y = self.down(F.gelu(self.up(self.norm2(x))))
        return x + F.dropout(y, self.dropout, self.training)


class Mixer(Fusion):
    name = "mixer"
    gives = Fusion.gives | {"fusion.image"}
    writes = False

    @dataclass(frozen=True)
    class Config(StreamConfig):
        words: int = 64  # at most; as many as the text encoder's max_tokens
        tiny: bool = False

    def __init__(self, config: Config, text, image):
        super().__init__()
        self.width = width = config.width
        self.text_in = nn.Linear(text.width, width)
        self.image_in = nn.Linear(image.token_width, width)
        places = image.cells + config.words
        self.layers = nn.ModuleList(
            MixerLayer(width, places, config.dropout, config.tiny) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        words = self.text_in(text_tokens)[texts]  # [p, t, width]
        cells = self.image_in(as_normed(image_tokens))[images]  # [p, n, width]
        n, x = cells.shape[1], torch.cat([cells, words], 1)
        seen, bias = F.pad(mask[texts], (n, 0), value=1), merged_bias(mask[texts], n, False)
        for layer in self.layers:
            x = layer(x, seen, bias)
        return self.norm(x[:, n:]), self.norm(x[:, :n])
