"""Learnt queries that look for things, and how well words fit them."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import CrossLayer, PreNormLayer, attention_bias, merged_bias
from .fusion import Fusion, StreamConfig
from .image_input import ImageInput, Places


class QueryDecoder(nn.Module):
    """`queries` learnt vectors, which attend to each other without a mask and to an encoder's
    states; each then predicts one box (DETR, Carion et al. 2020, arXiv:2005.12872, section 3.2)."""

    def __init__(self, width: int, heads: int, layers: int, queries: int, dropout: float):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.layers = nn.ModuleList(CrossLayer(width, heads, width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.box = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 4),
        )  # fmt: skip

    def forward(self, states: Tensor, bias: Tensor | None = None) -> Tensor:
        """States [p, s, w] with the additive bias of the attention to them → [p, n, w]."""
        x = self.queries.expand(states.shape[0], -1, -1)
        for layer in self.layers:
            x = layer(x, None, states, bias)
        return self.norm(x)

    def boxes(self, states: Tensor) -> Tensor:
        """States of the queries → boxes [..., 4] as centre and size, in (0, 1)."""
        return self.box(states).float().sigmoid()


class WordScores(nn.Module):
    """How well each word fits each object: cosine in a space of its own, times a learnt scale, plus
    a learnt bias. The scale starts at 1 / .07 (MDETR's temperature)."""

    def __init__(self, width: int, dim: int, bias: float = 0.0):
        super().__init__()
        self.objects, self.words = nn.Linear(width, dim), nn.Linear(width, dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, objects: Tensor, words: Tensor) -> Tensor:
        """Objects [p, n, w], words [p, t, w] → [p, n, t]."""
        one = F.normalize(self.objects(objects).float(), dim=-1)
        other = F.normalize(self.words(words).float(), dim=-1)
        return self.logit_scale.exp() * (one @ other.transpose(1, 2)) + self.bias

    def of_pairs(self, objects: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """The score of a text and an image, the mean over words of that of the best object; mask
        int64 [p, t]. [CLS] and [SEP] are no words. → [p]."""
        inner = F.pad(mask[:, 2:], (1, 1)).float()  # [p, t]
        best = self(objects, words).amax(1)
        return (best * inner).sum(1) / inner.sum(1).clamp(min=1)


class Queries(Fusion):
    """Words and cells go through one encoder, and queries find in it what the words name: modulated
    detection (MDETR, Kamath et al. 2021, arXiv:2104.12763, section 2). The logit is the mean over
    words of the score of the best query."""

    name = "queries"
    gives = Fusion.gives | {"fusion.image", "fusion.queries"}
    writes = False

    @dataclass(frozen=True)
    class Config(Places, StreamConfig):
        geometry: str = "sines"
        join: str = "sum"
        decoder_layers: int = 2
        queries: int = 16
        score_width: int = 64  # of the space in which queries meet words

    def __init__(self, config: Config, text, image):
        super().__init__()
        self.width = width = config.width
        self.text_in, self.text_norm = nn.Linear(text.width, width), nn.LayerNorm(width, eps=1e-12)
        self.image_in = ImageInput(config, image, width)
        self.layers = nn.ModuleList(
            PreNormLayer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.decoder = QueryDecoder(
            width, config.heads, config.decoder_layers, config.queries, config.dropout
        )
        self.scores = WordScores(width, config.score_width)
        self.head = nn.Linear(1, 1)  # of the score
        nn.init.ones_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        words = self.text_norm(self.text_in(text_tokens))[texts]  # [p, t, width]
        cells = self.image_in(image_tokens)[images]  # [p, n, width]
        x, n = torch.cat([cells, words], 1), cells.shape[1]
        bias = merged_bias(mask[texts], n, causal=False)
        for layer in self.layers:
            x = layer(x, bias)
        x = self.norm(x)
        return x[:, n:], x[:, :n]

    def found(self, text: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """States of words [p, t, width] and cells [p, n, width], mask of words [p, t] → states of
        the queries [p, queries, width]."""
        seen = attention_bias(F.pad(mask, (image.shape[1], 0), value=1))
        return self.decoder(torch.cat([image, text], 1), seen)

    def forward(self, text_tokens, mask, image_tokens, pairs):
        text, image = self.hidden(text_tokens, mask, image_tokens, pairs)
        own = mask[pairs[:, 0]]
        score = self.scores.of_pairs(self.found(text, image, own), text, own)  # [p]
        return self.head(score[:, None]).squeeze(-1).float()
