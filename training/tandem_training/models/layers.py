"""Transformer layers that encoders and fusions are built from."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention, heads first: q [b, h, t, d], k and v [b, h, n, d], additive bias. Written
    out, because for captions of a dozen tokens PyTorch's fused kernel is several times slower on a
    CPU than two small products."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias.to(scores.dtype)).softmax(-1).to(v.dtype) @ v


def split_heads(x: Tensor, parts: int, heads: int) -> Tensor:
    """[b, t, parts · w] → [parts, b, heads, t, w / heads]."""
    b, t, w = x.shape
    return x.view(b, t, parts, heads, w // parts // heads).permute(2, 0, 3, 1, 4)


def join_heads(x: Tensor) -> Tensor:
    """[b, heads, t, d] → [b, t, heads · d]."""
    return x.transpose(1, 2).flatten(2)


def cross_attention(q: Tensor, kv: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Queries [p, t, w] of one sequence, keys and values [p, n, 2 · w] of another → [p, t, w]."""
    k, v = split_heads(kv, 2, heads).unbind(0)  # [p, heads, n, w / heads] each
    return join_heads(attend(split_heads(q, 1, heads)[0], k, v, bias))


def as_normed(tokens: Tensor) -> Tensor:
    """Unit vectors [..., v] at the length √v that LayerNorm gives. Keys and values of unit vectors
    would be as small as their biases, and cross-attention would start nearly blind to the image."""
    return tokens * tokens.shape[-1] ** 0.5


def attention_bias(mask: Tensor) -> Tensor:
    """Mask int64 [b, t], 1 = token → additive bias float [b, 1, 1, t], 0 or a large negative
    number."""
    return (1.0 - mask[:, None, None, :].float()) * -1e4


def causal_bias(mask: Tensor) -> Tensor:
    """The same for a decoder, [b, 1, t, t]: a token sees itself and those before it."""
    place = torch.arange(mask.shape[1], device=mask.device)
    ahead = (place[None, :] > place[:, None]).float() * -1e4
    return attention_bias(mask) + ahead


def merged_bias(mask: Tensor, cells: int, causal: bool, prefix: Tensor | None = None) -> Tensor:
    """Mask of words [p, t] → additive bias of a sequence of cells, then words, that broadcasts to
    [p, 1, n + t, n + t]. With `causal`, cells see cells; a word sees all cells and the words before
    it (Unified VLP, Zhou et al. 2019, arXiv:1909.11059); the first `prefix` [p] words count as
    cells."""
    bias = attention_bias(F.pad(mask, (cells, 0), value=1))  # [p, 1, 1, n + t]
    if not causal:
        return bias
    place = torch.arange(cells + mask.shape[1], device=mask.device)[None]
    first = cells if prefix is None else cells + prefix[:, None]  # [p, 1]
    turn = (place - first + 1).clamp(min=0)  # [p, n + t]
    return bias - 1e4 * (turn[:, None, None, :] > turn[:, None, :, None]).float()


class PreNormLayer(nn.Module):
    """Pre-norm transformer layer (GPT-2's order): self-attention, feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [b, t, w]; additive bias that broadcasts to [b, heads, t, t] → [b, t, w]."""
        q, k, v = split_heads(self.qkv(self.norm1(x)), 3, self.heads).unbind(0)
        x = x + F.dropout(self.out(join_heads(attend(q, k, v, bias))), self.dropout, self.training)
        return x + F.dropout(self.down(F.gelu(self.up(self.norm2(x)))), self.dropout, self.training)


@torch.no_grad()
def init_scaled(layers: nn.ModuleList) -> None:
    """Start pre-norm layers as CLIP's (Radford et al. 2021, arXiv:2103.00020, section 2.5; code of
    openai/CLIP): what is added to the residual by 1 / √(2 · layers) smaller."""
    for layer in layers:
        width = layer.qkv.in_features
        small = (2 * len(layers)) ** -0.5
        for linear, deviation in (
            (layer.qkv, 1.0), (layer.out, small), (layer.up, 2**-0.5), (layer.down, small),
        ):  # fmt: skip
            nn.init.normal_(linear.weight, std=width**-0.5 * deviation)
            nn.init.zeros_(linear.bias)


class CrossLayer(nn.Module):
    """Pre-norm transformer layer whose steps stand in an order of their own: self-attention,
    cross-attention to another sequence, feed-forward. `ratio`: width of the feed-forward."""

    def __init__(self, width: int, heads: int, other_width: int, dropout: float,
                 order: str = "self,cross,feed", ratio: int = 2):  # fmt: skip
        super().__init__()
        self.heads, self.dropout, self.order = heads, dropout, order.split(",")
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.order)
        self.self_qkv = nn.Linear(width, 3 * width)
        self.self_out = nn.Linear(width, width)
        self.cross_q = nn.Linear(width, width)
        self.cross_kv = nn.Linear(other_width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.up = nn.Linear(width, ratio * width)
        self.down = nn.Linear(ratio * width, width)
        if self.order.count("feed") == 2:
            self.second_up = nn.Linear(width, ratio * width)
            self.second_down = nn.Linear(ratio * width, width)

    def share_cross(self, other: "CrossLayer") -> None:
        """Use the cross-attention of another layer as its own."""
        self.cross_q, self.cross_kv = other.cross_q, other.cross_kv
        self.cross_out = other.cross_out

    def forward(
        self, x: Tensor, bias: Tensor | None, other: Tensor, other_bias: Tensor | None = None
    ) -> Tensor:
        """x [p, t, w] with the bias of its self-attention; other [p, n, v] with the bias of the
        cross-attention → [p, t, w]."""
        fed = False
        for step, norm in zip(self.order, self.norms, strict=True):
            y = norm(x)
            if step == "self":
                q, k, v = split_heads(self.self_qkv(y), 3, self.heads).unbind(0)
                y = self.self_out(join_heads(attend(q, k, v, bias)))
            elif step == "cross":
                q, kv = self.cross_q(y), self.cross_kv(other)
                y = self.cross_out(cross_attention(q, kv, self.heads, other_bias))
            else:
                up, down = (self.second_up, self.second_down) if fed else (self.up, self.down)
                y, fed = down(F.gelu(up(y))), True
            x = x + F.dropout(y, self.dropout, self.training)
        return x
