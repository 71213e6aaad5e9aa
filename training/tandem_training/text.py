"""Text encoder: a BERT encoder (Devlin et al. 2018, arXiv:1810.04805) that starts from MiniLM sentence weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention, heads first: q [b, h, t, d], k and v [b, h, n, d], additive bias. Written out, because for
    captions of a dozen tokens PyTorch's fused kernel is several times slower on a CPU than two small products."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias.to(scores.dtype)).softmax(-1).to(v.dtype) @ v


class Layer(nn.Module):
    """Post-norm transformer layer."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        y = self.out(attend(q, k, v, bias).transpose(1, 2).reshape(b, t, w))
        x = self.norm1(x + F.dropout(y, self.dropout, self.training))
        y = self.down(F.gelu(self.up(x)))
        return self.norm2(x + F.dropout(y, self.dropout, self.training))


def attention_bias(mask: Tensor) -> Tensor:
    """Mask int64 [b, t], 1 = token → additive bias float [b, 1, 1, t], 0 or a large negative number."""
    return (1.0 - mask[:, None, None, :].float()) * -1e4


class TextEncoder(nn.Module):
    """token ids [b, t], mask [b, t] → embedding [b, dim] (unit length), text tokens [b, t, width]."""

    def __init__(self, dim: int, width: int = 384, layers: int = 6, heads: int = 12,
                 vocabulary: int = 30522, positions: int = 512, dropout: float = 0.1):  # fmt: skip
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(width, heads, 4 * width, dropout) for _ in range(layers))
        self.project = nn.Linear(width, dim)
        self.width, self.dropout = width, dropout

    def forward(self, token_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        position = torch.arange(token_ids.shape[1], device=token_ids.device)
        x = self.norm(self.words(token_ids) + self.positions(position))
        x = F.dropout(x, self.dropout, self.training)
        bias = attention_bias(mask)
        for layer in self.layers:
            x = layer(x, bias)
        weight = mask.unsqueeze(-1).float()
        mean = (x.float() * weight).sum(1) / weight.sum(1)
        return F.normalize(self.project(mean).float(), dim=-1), x.float()

    @torch.no_grad()
    def load_minilm(self, state: dict[str, Tensor]) -> None:
        """Fill from a Hugging Face BERT checkpoint; the token type (always 0) is added to the words. The projection
        starts as the identity, so that the embedding starts as the sentence vector."""
        self.words.weight.copy_(
            state["embeddings.word_embeddings.weight"] + state["embeddings.token_type_embeddings.weight"][0]
        )
        self.positions.weight.copy_(state["embeddings.position_embeddings.weight"])
        pairs = [(self.norm, "embeddings.LayerNorm")]
        for i, layer in enumerate(self.layers):
            at = f"encoder.layer.{i}"
            for part in ("weight", "bias"):
                stacked = [state[f"{at}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
                getattr(layer.qkv, part).copy_(torch.cat(stacked))
            pairs += [
                (layer.out, f"{at}.attention.output.dense"),
                (layer.norm1, f"{at}.attention.output.LayerNorm"),
                (layer.up, f"{at}.intermediate.dense"),
                (layer.down, f"{at}.output.dense"),
                (layer.norm2, f"{at}.output.LayerNorm"),
            ]
        for module, name in pairs:
            module.weight.copy_(state[f"{name}.weight"])
            module.bias.copy_(state[f"{name}.bias"])
        if self.project.out_features == self.project.in_features:
            nn.init.eye_(self.project.weight)
            nn.init.zeros_(self.project.bias)
