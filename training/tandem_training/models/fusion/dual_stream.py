"""Fusion by co-attention: a stream for each modality."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers import CrossLayer, PreNormLayer, as_normed, attention_bias
from .fusion import Fusion, StreamConfig
from .image_input import ImageInput, Places

MATCHES = {"mean": 2, "first": 1, "product": 1}  # widths that the logit is read from


class DualStream(Fusion):
    """Each modality keeps its stream and attends to the other's. The order of a layer's steps is
    "self,cross,feed" (METER, Dou et al. 2021, arXiv:2111.02387), "cross,self,feed" (LXMERT, Tan and
    Bansal 2019, arXiv:1908.07490) or "cross,feed,self,feed" (ViLBERT, Lu et al. 2019,
    arXiv:1908.02265: co-TRM, then TRM). The image stream sees the whole text, so the text stream
    cannot write captions."""

    name = "dual_stream"
    gives = Fusion.gives | {"fusion.image"}
    writes = False

    @dataclass(frozen=True)
    class Config(Places, StreamConfig):
        CHOICES: ClassVar = Places.CHOICES | {
            "order": ("self,cross,feed", "cross,self,feed", "cross,feed,self,feed"),
            "match": tuple(MATCHES),
            "reads": ("layer", "encoder"),
        }

        order: str = "self,cross,feed"
        shared_cross: bool = False  # one cross-attention for both directions (LXMERT)
        ratio: int = 2  # width of the feed-forward, in widths
        text_before: int = 0  # layers of self-attention before the first that meets the image
        image_before: int = 0
        # What a layer's cross-attention reads of the other modality. layer: the state before the
        # layer; encoder: what the other encoder gave (MaskVLM, Kwon et al. 2022, arXiv:2208.02131).
        reads: str = "layer"
        # What the logit is read from. mean: [CLS] and the mean of the image; first: [CLS]; product:
        # [CLS] · first image token, each after a layer of its own (ViLBERT).
        match: str = "mean"
        pooled: bool = False  # a layer and tanh on what the logit is read from

    def __init__(self, config: Config, text, image):
        super().__init__()
        self.width, self.match, self.reads = (width := config.width), config.match, config.reads
        self.text_in = nn.Linear(text.width, width)
        if image.places or config.geometry != "none":
            self.image_in = ImageInput(config, image, width)
            self.positions = None
        else:
            self.image_in = nn.Linear(image.token_width, width)
            self.positions = nn.Parameter(0.02 * torch.randn(image.cells, width))
        alone, dropout = (config.text_before, config.image_before), config.dropout
        self.text_alone, self.image_alone = (
            nn.ModuleList(PreNormLayer(width, config.heads, dropout) for _ in range(count))
            for count in alone
        )
        self.text_layers, self.image_layers = (
            nn.ModuleList(
                CrossLayer(width, config.heads, width, dropout, config.order, config.ratio)
                for _ in range(config.layers)
            )
            for _ in range(2)
        )
        if config.shared_cross:
            for own, other in zip(self.image_layers, self.text_layers, strict=True):
                own.share_cross(other)
        self.text_norm, self.image_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        sides = ("text", "image")[: 1 if config.match == "first" else 2]
        self.pools = nn.ModuleDict({s: nn.Linear(width, width) for s in sides * config.pooled})
        self.head = nn.Linear(MATCHES[config.match] * width, 1)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        x, bias = self.text_in(text_tokens), attention_bias(mask)  # [q, t, width]
        for layer in self.text_alone:
            x = layer(x, bias)
        if self.positions is None:
            y = self.image_in(image_tokens)  # [m, n, width]
        else:
            y = self.image_in(as_normed(image_tokens)) + self.positions
        for layer in self.image_alone:
            y = layer(y)
        x, bias, y = x[texts], bias[texts], y[images]  # [p, t, width], [p, n, width]
        encoded = x, y
        for text_layer, image_layer in zip(self.text_layers, self.image_layers, strict=True):
            words, cells = encoded if self.reads == "encoder" else (x, y)
            x, y = text_layer(x, bias, cells), image_layer(y, None, words, bias)
        return self.text_norm(x), self.image_norm(y)

    def forward(self, text_tokens, mask, image_tokens, pairs):
        text, image = self.hidden(text_tokens, mask, image_tokens, pairs)
        first = self._pooled("text", text[:, 0])
        if self.match == "first":
            joint = first
        elif self.match == "product":
            joint = first * self._pooled("image", image[:, 0])
        else:
            joint = torch.cat([first, self._pooled("image", image.mean(1))], dim=-1)
        return self.head(joint).squeeze(-1).float()  # [p]

    def _pooled(self, side: str, state: Tensor) -> Tensor:
        return self.pools[side](state).tanh() if side in self.pools else state
