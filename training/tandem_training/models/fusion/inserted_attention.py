"""Fusion: cross-attention inserted into the text encoder (BLIP, Li et al. 2022, arXiv:2201.12086)."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import attend, attention_bias, causal_bias, join_heads, split_heads
from ..text.bert import SelfAttention, TextEncoder


class CrossAttention(nn.Module):
    """The inserted step, post-norm as the layer around it: x [p, t, w], cells [p, n, v] → [p, t,
    w]."""

    def __init__(self, width: int, heads: int, image_width: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(image_width, 2 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, cells: Tensor) -> Tensor:
        q = split_heads(self.q(x), 1, self.heads)[0]
        k, v = split_heads(self.kv(cells), 2, self.heads).unbind(0)
        y = self.out(join_heads(attend(q, k, v)))
        return self.norm(x + F.dropout(y, self.dropout, self.training))


class InsertedFusion(nn.Module):
    """The text encoder read again, with a look at the image between the self-attention and the
    feed-forward of each layer. Its weights are the text encoder's; the cross-attention, and for
    captioning a causal self-attention, are its own, as in BLIP. It starts from what the text
    encoder's first layer reads. The contract stands in `streams`."""

    reads_inputs = captions = True

    def __init__(self, text: TextEncoder, image_width: int, heads: int, dropout: float):
        super().__init__()
        # In a tuple, so that the text encoder's parameters are counted and saved once, as its own.
        self._text, self.width = (text,), text.width
        layers = len(text.layers)
        self.cross = nn.ModuleList(
            CrossAttention(text.width, heads, image_width, dropout) for _ in range(layers)
        )
        self.decoder = nn.ModuleList(
            SelfAttention(text.width, heads, dropout) for _ in range(layers)
        )
        self.head = nn.Linear(text.width, 1)

    def start_decoder(self) -> None:
        """The causal self-attention starts as the text encoder's."""
        for own, layer in zip(self.decoder, self._text[0].layers, strict=True):
            own.load_state_dict(
                {
                    name: value
                    for name, value in layer.state_dict().items()
                    if name in own.state_dict()
                }
            )

    def hidden(
        self,
        text_tokens: Tensor,
        mask: Tensor,
        image_tokens: Tensor,
        pairs: Tensor,
        causal: bool = False,
    ):
        texts, images = pairs[:, 0], pairs[:, 1]
        x, cells = text_tokens[texts], image_tokens[images]
        bias = (causal_bias if causal else attention_bias)(mask)[texts]
        layers = self._text[0].layers
        for layer, mixing, cross in zip(
            layers, self.decoder if causal else layers, self.cross, strict=True
        ):
            x = layer.feed(cross(mixing.mix(x, bias), cells))
        return x

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        return (
            self.head(self.hidden(text_tokens, mask, image_tokens, pairs)[:, 0]).squeeze(-1).float()
        )
