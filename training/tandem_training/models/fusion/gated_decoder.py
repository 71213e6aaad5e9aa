"""Fusion by gated layers between those of a language model that stays as it is."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import attention_bias, causal_bias, cross_attention
from .image_input import ImageInput
from .writer import Writer, WriterConfig


class Attending(nn.Module):
    """Pre-norm cross-attention and feed-forward, each times its own factor."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, other: Tensor, attention: Tensor | float = 1.0,
                feed: Tensor | float = 1.0) -> Tensor:  # fmt: skip
        """x [b, t, w] attends to other [b, n, w] → [b, t, w]."""
        y = self.out(cross_attention(self.q(self.norms[0](x)), self.kv(other), self.heads))
        x = x + attention * F.dropout(y, self.dropout, self.training)
        y = self.down(F.gelu(self.up(self.norms[1](x))))
        return x + feed * F.dropout(y, self.dropout, self.training)


class Resampler(nn.Module):
    """Learnt queries that read the cells and themselves: [b, n, w] → [b, count, w] (Flamingo,
    appendix A.1.1)."""

    def __init__(self, count: int, width: int, heads: int, dropout: float, layers: int = 2):
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(count, width))
        self.layers = nn.ModuleList(Attending(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, cells: Tensor) -> Tensor:
        x = self.queries.expand(cells.shape[0], -1, -1)
        for layer in self.layers:
            x = layer(x, torch.cat([cells, x], 1))
        return self.norm(x)


class GatedDecoder(Writer):
    """Before each layer of the text encoder, a language model, the words attend to the resampled
    image, times tanh of a gate that starts at 0 (Flamingo, Alayrac et al. 2022, arXiv:2204.14198,
    section 2.2). A recipe freezes `text.*` and `fusion.word_head.*`."""

    name = "gated_decoder"
    needs = {"text.causal", "image.tokens"}
    gives = Writer.gives - {"fusion.prefix"} | {"fusion.together"}

    @dataclass(frozen=True)
    class Config(WriterConfig):
        queries: int = 32

    def __init__(self, config: Config, text, image):
        super().__init__(config, text, width := text.width)
        heads, count = text.layers[0].heads, len(text.layers)
        self.image_in = ImageInput(config, image, width)
        self.resampler = Resampler(config.queries, width, heads, config.dropout)
        self.between = nn.ModuleList(Attending(width, heads, config.dropout) for _ in range(count))
        self.gates = nn.Parameter(torch.zeros(count, 2))  # of attention and feed-forward

    def _through(self, text_tokens, image_tokens, pairs, bias, together: int = 1) -> Tensor:
        """With the bias [p / together, 1, ., together · t] of the language model's attention."""
        texts, images, (text,) = pairs[:, 0], pairs[:, 1], self._text
        x = text_tokens[..., : self.text_width][texts]  # [p, t, w]
        image = self.resampler(self.image_in(image_tokens))[images]  # [p, queries, w]
        for layer, between, gates in zip(text.layers, self.between, self.gates.tanh(), strict=True):
            x = between(x, image, gates[0], gates[1])
            if together == 1:
                x = layer(x, bias)
            else:
                p, t, w = x.shape
                x = layer(x.reshape(-1, together * t, w), bias).reshape(p, t, w)
        return text.norm(x)

    def write(self, text_tokens, mask, image_tokens, pairs, prefix=None):
        return self.write_together(text_tokens, mask, image_tokens, pairs, 1)

    def write_together(self, text_tokens, mask, image_tokens, pairs, together: int) -> Tensor:
        """As `write`, but every `together` pairs are one text, their images between: a word reads
        the image before it alone, and the earlier texts through the language model (section 2.3).
        The places of words begin anew with each text. ValueError where pairs are left over."""
        if len(pairs) % together:
            raise ValueError(f"{len(pairs)} pairs are no texts of {together}, one after another")
        joined = mask[pairs[:, 0]].reshape(-1, together * mask.shape[1])
        return self._through(text_tokens, image_tokens, pairs, causal_bias(joined), together)

    def read(self, text_tokens, mask, image_tokens, pairs):
        return self._through(text_tokens, image_tokens, pairs, attention_bias(mask)[pairs[:, 0]])
