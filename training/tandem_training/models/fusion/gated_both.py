"""Fusion in the backbone: gated cross-attention in the top layers of both encoders (FIBER, Dou et
al. 2022, arXiv:2206.07643, section 3.1)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import PreNormLayer, as_normed, attend, attention_bias, join_heads, split_heads
from ..part import PartConfig
from ..text.bert import Bert
from .fusion import Fusion
from .inserted_attention import CrossAttention


class ImageLayer(PreNormLayer):
    """A ViT's layer, in two halves."""

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = split_heads(self.qkv(self.norm1(x)), 3, self.heads).unbind(0)
        y = self.out(join_heads(attend(q, k, v)))
        return x + F.dropout(y, self.dropout, self.training)

    def feed(self, x: Tensor) -> Tensor:
        y = self.down(F.gelu(self.up(self.norm2(x))))
        return x + F.dropout(y, self.dropout, self.training)


class GatedBoth(Fusion):
    """The text encoder's layers run again, and as many layers as meet above the stored image
    tokens. In the top `layers` each side attends to the other between self-attention and
    feed-forward, through a gate that starts at 0: then each side is as it is alone."""

    name = "gated_both"
    needs = {"text.layers", "image.tokens"}
    gives = Fusion.gives | {"fusion.image"}
    bare_words = True
    writes = False

    @dataclass(frozen=True)
    class Config(PartConfig):
        layers: int = 2
        dropout: float = 0.1

    def __init__(self, config: Config, text: Bert, image):
        super().__init__()
        # In a tuple, so that the text encoder's parameters are counted and saved once, as its own.
        self._text, self.width, self.meeting = (text,), text.width, config.layers
        if config.layers > len(text.layers):
            raise ValueError(
                f"[fusion] layers = {config.layers}; [text] has layers = {len(text.layers)}"
            )
        width, heads, dropout = text.width, text.layers[0].heads, config.dropout
        self.image_in = nn.Linear(image.token_width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(image.cells, width))
        self.layers = nn.ModuleList(ImageLayer(width, heads, dropout) for _ in range(config.layers))
        self.to_image, self.to_text = (
            nn.ModuleList(
                CrossAttention(width, heads, width, dropout, gate=True)
                for _ in range(config.layers)
            )
            for _ in range(2)
        )
        self.head = nn.Linear(2 * width, 1)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        layers, bias = self._text[0].layers, attention_bias(mask)
        x, y = text_tokens, self.image_in(as_normed(image_tokens)) + self.positions
        below = len(layers) - self.meeting
        for layer in layers[:below]:
            x = layer(x, bias)
        x, bias, y = x[texts], bias[texts], y[images]  # [p, t, w], [p, n, w]
        for i, layer in enumerate(layers[below:]):
            x, y = layer.mix(x, bias), self.layers[i].mix(y)
            x, y = self.to_image[i](x, y), self.to_text[i](y, x, bias)
            x, y = layer.feed(x), self.layers[i].feed(y)
        return x, y

    def forward(self, text_tokens, mask, image_tokens, pairs):
        text, image = self.hidden(text_tokens, mask, image_tokens, pairs)
        joint = torch.cat([text[:, 0], image.mean(1)], -1)  # [p, 2 · w]
        return self.head(joint).squeeze(-1).float()  # [p]
