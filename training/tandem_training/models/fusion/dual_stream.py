"""Fusion by co-attention: a stream for each modality."""

import torch
from torch import nn

from ..layers import CrossLayer, attention_bias
from .fusion import Fusion, StreamConfig


class DualStream(Fusion):
    """Each modality keeps its stream and attends to the other's (METER, Dou et al. 2021,
    arXiv:2111.02387; LXMERT, arXiv:1908.07490). The image stream sees the whole text, so the text
    stream cannot write captions."""

    name = "dual_stream"
    gives = Fusion.gives | {"fusion.image"}
    writes = False

    Config = StreamConfig

    def __init__(self, config: StreamConfig, text, image):
        super().__init__()
        self.width = width = config.width
        self.text_in = nn.Linear(text.width, width)
        self.image_in = nn.Linear(image.token_width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(image.cells, width))
        self.text_layers, self.image_layers = (
            nn.ModuleList(
                CrossLayer(width, config.heads, width, config.dropout) for _ in range(config.layers)
            )
            for _ in range(2)
        )
        self.text_norm, self.image_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.head = nn.Linear(2 * width, 1)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        x, bias = self.text_in(text_tokens)[texts], attention_bias(mask)[texts]  # [p, t, width]
        y = (self.image_in(image_tokens) + self.positions)[images]  # [p, n, width]
        for text_layer, image_layer in zip(self.text_layers, self.image_layers, strict=True):
            x, y = text_layer(x, bias, y), image_layer(y, None, x, bias)
        return self.text_norm(x), self.image_norm(y)

    def forward(self, text_tokens, mask, image_tokens, pairs):
        text, image = self.hidden(text_tokens, mask, image_tokens, pairs)
        joint = torch.cat([text[:, 0], image.mean(1)], dim=-1)  # [p, 2 · width]
        return self.head(joint).squeeze(-1).float()  # [p]
