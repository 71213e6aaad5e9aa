"""Fusion by layers above the text encoder's, whose words also attend to the image (ALBEF, Li et al.
2021, arXiv:2107.07651, section 3.1)."""

from dataclasses import dataclass

from torch import nn

from .. import weights
from ..layers import as_normed, attention_bias, causal_bias
from ..part import PartConfig
from ..text.bert import Bert, Layer, load_layer, minilm_layers
from .fusion import Fusion
from .inserted_attention import CrossAttention


class CrossAttentionFusion(Fusion):
    """The text encoder is the lower half of a BERT, and these layers are its upper half: self-
    attention and feed-forward start from it, the cross-attention between the two at random. The
    image stays as it is. With `gate` the fusion starts as the upper half alone."""

    name = "cross_attention"
    needs = {"text.layers", "text.tokens", "image.tokens"}

    @dataclass(frozen=True)
    class Config(PartConfig):
        layers: int = 3
        dropout: float = 0.1
        gate: bool = False
        partial: bool = False  # image tokens of zeros are not there: words read a part of the image

    def __init__(self, config: Config, text: Bert, image):
        super().__init__()
        self.width, self.below = text.width, len(text.layers)
        first, dropout, self.partial = text.layers[0], config.dropout, config.partial
        self.layers = nn.ModuleList(
            Layer(text.width, first.heads, first.up.out_features, dropout)
            for _ in range(config.layers)
        )
        self.cross = nn.ModuleList(
            CrossAttention(text.width, first.heads, image.token_width, dropout, config.gate)
            for _ in range(config.layers)
        )
        self.head = nn.Linear(text.width, 1)

    @classmethod
    def adds(cls, config: Config, given: set[str]) -> set[str]:
        return super().adds(config, given) | ({"fusion.partial"} if config.partial else set())

    def load_published(self) -> None:
        """The layers start as those of the checkpoint above the text encoder's."""
        state = weights.minilm()
        if self.below + len(self.layers) > minilm_layers(state):
            raise ValueError(
                f"[text] layers = {self.below} and [fusion] layers = {len(self.layers)}; the "
                f"checkpoint has {minilm_layers(state)} for both"
            )
        for i, layer in enumerate(self.layers):
            load_layer(layer, state, self.below + i)

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        x, cells = text_tokens[texts], as_normed(image_tokens)[images]  # [p, t, w], [p, n, v]
        bias = (causal_bias if causal else attention_bias)(mask)[texts]
        seen = attention_bias(image_tokens.abs().amax(-1) > 0)[images] if self.partial else None
        for layer, cross in zip(self.layers, self.cross, strict=True):
            x = layer.feed(cross(layer.mix(x, bias), cells, seen))
        return x, None
