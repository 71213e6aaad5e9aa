"""The whole model: a vision encoder, a text encoder and a fusion, each chosen by name.

The dual encoder is the two encoders meeting only in the dot product of their embeddings; the fusion
reads the tokens of both and gives the ITM logit. Each part's contract stands at its class: vision
in `vision` and `vit`, text in `text` and `causal_text`, fusion in `streams`."""

import difflib
import math
from dataclasses import asdict, dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fusion.aligned import FusionEncoder
from .fusion.inserted_attention import InsertedFusion
from .fusion.streams import DualStream, NoFusion, SingleStream
from .text.bert import TextEncoder
from .text.causal import CausalTextEncoder
from .vision.efficientnet import VARIANTS, EfficientNetLite, ImageHeads
from .vision.vit import VisionTransformer

VISIONS = (*VARIANTS, "vit")
TEXTS = ("bert", "clip")
FUSIONS = ("none", "aligned", "merged-attention", "co-attention", "inserted-attention", "patches")
FIRST_KEYS = 14  # of ModelConfig, the ones that the first checkpoints knew


@dataclass(repr=False)
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
    fusion_layers: int = 2  # inserted-attention has as many as the text encoder
    grid_dropout: float = 0.3
    text_dropout: float = 0.1
    fusion_dropout: float = 0.1
    text: str = "bert"
    fusion: str = "aligned"
    fusion_heads: int = 4
    patch: int = 16  # the keys from here on are those of vision = "vit"
    vision_width: int = 384
    vision_heads: int = 6
    vision_layers: int = 6

    def __post_init__(self):
        for key, known in (("vision", VISIONS), ("text", TEXTS), ("fusion", FUSIONS)):
            value = getattr(self, key)
            if value not in known:
                near = difflib.get_close_matches(value, known, n=1, cutoff=0)[0]
                raise ValueError(
                    f"{key} = {value!r}; did you mean {near!r}? Known: {', '.join(known)}"
                )
        for part in ("text", "fusion", "vision"):
            width, heads = getattr(self, f"{part}_width"), getattr(self, f"{part}_heads")
            if width % heads:
                raise ValueError(f"{part}_width = {width} is no multiple of {part}_heads = {heads}")
        if self.fusion == "patches" and (self.vision != "vit" or self.split > 0):
            raise ValueError(
                f"fusion = 'patches' reads the patches of a ViT: it needs vision = 'vit' and split = 0, "
                f"not vision = {self.vision!r} and split = {self.split}"
            )
        if self.fusion == "inserted-attention" and self.text != "bert":
            raise ValueError(
                f"fusion = 'inserted-attention' goes into text = 'bert', not {self.text!r}"
            )

    def __repr__(self) -> str:
        """A key that came after the first checkpoints shows only where it is not its default, so
        that a run begun before it still finds its own checkpoint."""
        shown = [
            f
            for i, f in enumerate(fields(self))
            if i < FIRST_KEYS or getattr(self, f.name) != f.default
        ]
        return f"ModelConfig({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"


def _vision(config: ModelConfig) -> EfficientNetLite | VisionTransformer:
    if config.vision == "vit":
        return VisionTransformer(config.image_size, config.patch, config.vision_width, config.vision_layers,
                                 config.vision_heads, config.split)  # fmt: skip
    return EfficientNetLite(config.vision, config.split)


def _text(config: ModelConfig) -> TextEncoder | CausalTextEncoder:
    kind = TextEncoder if config.text == "bert" else CausalTextEncoder
    return kind(
        config.dim,
        config.text_width,
        config.text_layers,
        config.text_heads,
        dropout=config.text_dropout,
    )


def _fusion(config: ModelConfig, text: nn.Module, cells: int) -> nn.Module:
    image_width, heads, dropout = (
        config.image_token_width,
        config.fusion_heads,
        config.fusion_dropout,
    )
    size = (config.fusion_width, config.fusion_layers, heads)
    if config.fusion == "none":
        return NoFusion()
    if config.fusion == "aligned":
        return FusionEncoder(text.width, image_width, *size, dropout=dropout)
    if config.fusion == "co-attention":
        return DualStream(text.width, image_width, cells, *size, dropout)
    if config.fusion == "inserted-attention":
        return InsertedFusion(text, image_width, config.text_heads, dropout)
    return SingleStream(
        text.width, image_width, cells, *size, dropout, reads_inputs=config.fusion == "patches"
    )


class Tandem(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.vision = _vision(config)
        self.heads = ImageHeads(
            self.vision.width, config.dim, config.image_token_width, dropout=config.grid_dropout
        )
        self.text = _text(config)
        self.fusion = _fusion(config, self.text, self.cells)
        if config.fusion == "patches":
            self.patches = nn.Linear(3 * config.patch**2, config.image_token_width)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.05)))
        self.token_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.05)))

    @property
    def cells(self) -> int:
        """Image tokens a photo."""
        return math.ceil(self.config.image_size / self.vision.stride) ** 2

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [b, s, s, 3] → embedding [b, dim], image tokens [b, cells, width], both of unit
        length."""
        return self.encode_activations(self.vision.trunk(pixels))

    def encode_activations(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the cached activations of the frozen trunk, [b, c, h, w]."""
        embedding, tokens = self.heads(self.vision.tail(activations))
        if self.config.fusion == "patches":
            tokens = F.normalize(
                self.patches(activations.flatten(2).transpose(1, 2)).float(), dim=-1
            )
        return embedding, tokens

    def encode_texts(self, token_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """token ids [b, t], mask [b, t] → embedding [b, dim] of unit length, the text tokens that
        the fusion reads [b, t, width]."""
        embedding, tokens = self.text(token_ids, mask)
        return embedding, self.text.embed(token_ids).float() if self.fusion.reads_inputs else tokens

    def fusion_parameters(self) -> list[nn.Parameter]:
        """What belongs to no encoder. A checkpoint's optimiser state counts on the order."""
        own = [*self.fusion.parameters(), self.logit_scale, self.token_logit_scale]
        return own + (list(self.patches.parameters()) if self.config.fusion == "patches" else [])

    def checkpoint(self) -> dict:
        return {"config": asdict(self.config), "state": self.state_dict()}

    @classmethod
    def from_checkpoint(cls, checkpoint: dict) -> "Tandem":
        model = cls(ModelConfig(**checkpoint["config"]))
        model.load_state_dict(checkpoint["state"])
        return model.eval()
