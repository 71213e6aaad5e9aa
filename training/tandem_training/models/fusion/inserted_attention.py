"""Fusion by cross-attention inserted into the text encoder (BLIP, Li et al. 2022,
arXiv:2201.12086)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import as_normed, attention_bias, causal_bias, cross_attention
from ..part import PartConfig
from ..text.bert import Bert, SelfAttention
from .fusion import Fusion


class CrossAttention(nn.Module):
    """The inserted step, post-norm as the layer around it. With a gate it is added as it is, times
    tanh of a scalar that starts at 0: so the layer around it starts as it was."""

    def __init__(
        self, width: int, heads: int, image_width: int, dropout: float, gate: bool = False
    ):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(image_width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = None if gate else nn.LayerNorm(width, eps=1e-12)
        self.gate = nn.Parameter(torch.tensor(0.0)) if gate else None

    def forward(self, x: Tensor, cells: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [p, t, w], cells [p, n, v] with an additive bias → [p, t, w]."""
        y = self.out(cross_attention(self.q(x), self.kv(cells), self.heads, bias))
        y = F.dropout(y, self.dropout, self.training)
        return x + self.gate.tanh() * y if self.norm is None else self.norm(x + y)


class InsertedAttention(Fusion):
    """Runs the text encoder's layers again, with cross-attention between the self-attention and the
    feed-forward of each. The layers' weights are the text encoder's; the cross-attention, and for
    captioning a causal self-attention, are its own, as in BLIP."""

    name = "inserted_attention"
    needs = {"text.layers", "image.tokens"}
    bare_words = True

    @dataclass(frozen=True)
    class Config(PartConfig):
        dropout: float = 0.1

    def __init__(self, config: Config, text: Bert, image):
        super().__init__()
        # In a tuple, so that the text encoder's parameters are counted and saved once, as its own.
        self._text, self.width = (text,), text.width
        layers, heads = len(text.layers), text.layers[0].heads
        self.cross = nn.ModuleList(
            CrossAttention(text.width, heads, image.token_width, config.dropout)
            for _ in range(layers)
        )
        self.decoder = nn.ModuleList(
            SelfAttention(text.width, heads, config.dropout) for _ in range(layers)
        )
        # Added to [CLS], which so becomes a token of its own for reading and for writing: BLIP's
        # [Encode] and [Decode].
        self.modes = nn.Parameter(torch.zeros(2, text.width))
        self.head = nn.Linear(text.width, 1)

    def load_published(self) -> None:
        """The causal self-attention starts as the text encoder's."""
        for own, layer in zip(self.decoder, self._text[0].layers, strict=True):
            state = layer.state_dict()
            own.load_state_dict({name: state[name] for name in own.state_dict()})

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        texts, images = pairs[:, 0], pairs[:, 1]
        x, cells = text_tokens[texts], as_normed(image_tokens)[images]  # [p, t, w], [p, n, v]
        x = torch.cat([x[:, :1] + self.modes[int(causal)], x[:, 1:]], 1)
        bias = (causal_bias if causal else attention_bias)(mask)[texts]
        layers = self._text[0].layers
        mixing = self.decoder if causal else layers
        for layer, attention, cross in zip(layers, mixing, self.cross, strict=True):
            x = layer.feed(cross(attention.mix(x, bias), cells))
        return x, None
