"""Fusion by attention in both directions at once, and scores of every word with every region."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import PreNormLayer, attend, attention_bias, join_heads, split_heads
from .fusion import Fusion, StreamConfig
from .image_input import ImageInput, Places
from .queries import WordScores

RARE = 0.01  # share of matching words and regions that the bias starts from


class BiAttention(nn.Module):
    """Each side reads the other by one matrix of scores, normalised along the one or the other
    (X-MHA; GLIP, Li et al. 2021, arXiv:2112.03857, section 3.2)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.text, self.image = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        self.text_out, self.image_out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, y: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Words [p, t, w] with their additive bias [p, 1, 1, t], regions [p, n, w] → both, with
        what they have read added."""
        key, words = split_heads(self.text(self.norms[0](x)), 2, self.heads).unbind(0)
        query, regions = split_heads(self.image(self.norms[1](y)), 2, self.heads).unbind(0)
        of_words = self.image_out(join_heads(attend(query, key, words, bias)))
        of_regions = self.text_out(join_heads(attend(key, query, regions)))
        x = x + F.dropout(of_regions, self.dropout, self.training)
        return x, y + F.dropout(of_words, self.dropout, self.training)


class DeepFusion(Fusion):
    """Before every layer of either side both have read each other. Detection as grounding: what a
    region is, its scores with the words say, in place of classes. The logit is the mean over words
    of the score of the best region."""

    name = "bi_attention"
    gives = Fusion.gives | {"fusion.image", "fusion.scores"}
    writes = False

    @dataclass(frozen=True)
    class Config(Places, StreamConfig):
        geometry: str = "4"
        score_width: int = 64  # of the space in which regions meet words

    def __init__(self, config: Config, text, image):
        super().__init__()
        self.width = width = config.width
        sizes = (width, config.heads, config.dropout)
        self.text_in, self.image_in = nn.Linear(text.width, width), ImageInput(config, image, width)
        layers = range(config.layers)
        self.meet = nn.ModuleList(BiAttention(*sizes) for _ in layers)
        self.text_layers, self.image_layers = (
            nn.ModuleList(PreNormLayer(*sizes) for _ in layers) for _ in range(2)
        )
        self.text_norm, self.image_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.scores = WordScores(width, config.score_width, -math.log(1 / RARE - 1))
        self.head = nn.Linear(1, 1)  # of the score
        nn.init.ones_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        x, y = self.text_in(text_tokens)[texts], self.image_in(image_tokens)[images]
        bias = attention_bias(mask)[texts]
        for meet, words, regions in zip(
            self.meet, self.text_layers, self.image_layers, strict=True
        ):
            x, y = meet(x, y, bias)
            x, y = words(x, bias), regions(y)
        return self.text_norm(x), self.image_norm(y)

    def forward(self, text_tokens, mask, image_tokens, pairs):
        text, image = self.hidden(text_tokens, mask, image_tokens, pairs)
        score = self.scores.of_pairs(image, text, mask[pairs[:, 0]])  # [p]
        return self.head(score[:, None]).squeeze(-1).float()
