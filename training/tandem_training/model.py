"""The whole model: dual encoder (two towers meeting only in the dot product) and fusion encoder."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from .fusion import FusionEncoder
from .text import TextEncoder
from .vision import EfficientNetLite, ImageHeads


@dataclass
class ModelConfig:
    vision: str = "efficientnet-lite2"
    image_size: int = 288
    split: int = 16
    dim: int = 384
    image_token_width: int = 160
    max_tokens: int = 64
    text_width: int = 384
    text_heads: int = 12
    text_layers: int = 6
    fusion_width: int = 256
    fusion_layers: int = 2
    grid_dropout: float = 0.3
    text_dropout: float = 0.1
    fusion_dropout: float = 0.1


class Tandem(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.vision = EfficientNetLite(config.vision, config.split)
        self.heads = ImageHeads(self.vision.width, config.dim, config.image_token_width, dropout=config.grid_dropout)
        self.text = TextEncoder(
            config.dim, config.text_width, config.text_layers, config.text_heads, dropout=config.text_dropout
        )
        self.fusion = FusionEncoder(self.text.width, config.image_token_width, config.fusion_width,
                                    config.fusion_layers, dropout=config.fusion_dropout)  # fmt: skip
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.05)))
        self.token_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.05)))

    @property
    def cells(self) -> int:
        """Image tokens a photo."""
        return math.ceil(self.config.image_size / 32) ** 2

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [b, s, s, 3] → embedding [b, dim], image tokens [b, cells, width], both of unit length."""
        return self.heads(self.vision(pixels))

    def encode_activations(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the cached activations of the frozen trunk, [b, c, h, w]."""
        return self.heads(self.vision.tail(activations))

    def checkpoint(self) -> dict:
        return {"config": asdict(self.config), "state": self.state_dict()}

    @classmethod
    def from_checkpoint(cls, checkpoint: dict) -> "Tandem":
        model = cls(ModelConfig(**checkpoint["config"]))
        model.load_state_dict(checkpoint["state"])
        return model.eval()
