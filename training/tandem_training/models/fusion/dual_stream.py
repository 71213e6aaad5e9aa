"""Fusion by co-attention: a stream for each modality."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import CrossLayer, attention_bias
from ..part import PartConfig
from .fusion import Fusion


class DualStream(Fusion):
    """Each modality keeps its stream and attends to the other's (METER, Dou et al. 2021,
    arXiv:2111.02387; LXMERT, arXiv:1908.07490). The image stream sees the whole text, so the text
    stream cannot write captions."""

    name = "dual_stream"

    @dataclass(frozen=True)
    class Config(PartConfig):
        width: int = 256
        layers: int = 2
        heads: int = 4
        dropout: float = 0.1

    def __init__(self, config: Config, text, image):
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

    @classmethod
    def gives(cls, config, given) -> set[str]:
        return {"match.logit", "fusion.text", "fusion.image"}

    def hidden(
        self,
        text_tokens: Tensor,
        mask: Tensor,
        image_tokens: Tensor,
        pairs: Tensor,
        causal: bool = False,
    ) -> tuple[Tensor, Tensor]:
        texts, images = pairs[:, 0], pairs[:, 1]
        x, bias = self.text_in(text_tokens)[texts], attention_bias(mask)[texts]  # [p, t, width]
        y = (self.image_in(image_tokens) + self.positions)[images]  # [p, n, width]
        for text_layer, image_layer in zip(self.text_layers, self.image_layers, strict=True):
            x, y = text_layer(x, bias, y), image_layer(y, None, x, bias)
        return self.text_norm(x), self.image_norm(y)

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        text, image = self.hidden(text_tokens, mask, image_tokens, pairs)
        joint = torch.cat([text[:, 0], image.mean(1)], dim=-1)  # [p, 2 · width]
        return self.head(joint).squeeze(-1).float()  # [p]
