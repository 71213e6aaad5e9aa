"""Fusion encoder: text tokens attend to image tokens; one ITM logit for every (text, image) pair.

Small data does not teach a randomly started cross-attention (ALBEF, Li et al. 2021, arXiv:2107.07651, has 4M pairs), so
the first attention works in a space that a contrastive loss has aligned before (SCAN, Lee et al. 2018,
arXiv:1803.08024; FILIP, Yao et al. 2021, arXiv:2111.07783): each word reads the image cells it resembles, and the
logit starts as that token similarity; transformer layers with cross-attention then correct it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .text import attend, attention_bias


class CrossLayer(nn.Module):
    """Pre-norm transformer layer: self-attention over the text, cross-attention to the image, feed-forward."""

    def __init__(self, width: int, heads: int, image_width: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.self_qkv = nn.Linear(width, 3 * width)
        self.self_out = nn.Linear(width, width)
        self.cross_q = nn.Linear(width, width)
        self.cross_kv = nn.Linear(image_width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def _split(self, x: Tensor, parts: int) -> Tensor:
        b, t, w = x.shape
        return x.view(b, t, parts, self.heads, w // parts // self.heads).permute(2, 0, 3, 1, 4)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def forward(self, x: Tensor, bias: Tensor, cells: Tensor) -> Tensor:
        """x [p, t, w]; bias [p, 1, 1, t]; image tokens of each pair [p, n, v] → [p, t, w]."""
        q, k, v = self._split(self.self_qkv(self.norms[0](x)), 3)
        x = x + self._drop(self.self_out(self._join(attend(q, k, v, bias))))
        (q,) = self._split(self.cross_q(self.norms[1](x)), 1)
        k, v = self._split(self.cross_kv(cells), 2)
        x = x + self._drop(self.cross_out(self._join(attend(q, k, v))))
        return x + self._drop(self.down(F.gelu(self.up(self.norms[2](x)))))


class FusionEncoder(nn.Module):
    def __init__(self, text_width: int, image_width: int, width: int = 256, layers: int = 2, heads: int = 4,
                 dropout: float = 0.1):  # fmt: skip
        super().__init__()
        self.query = nn.Linear(text_width, image_width)
        self.gate = nn.Linear(text_width, 1)
        self.sharpness = nn.Parameter(torch.tensor(3.0))  # log of the inverse temperature over image cells
        self.scale = nn.Parameter(torch.tensor(3.0))  # log of the weight of the token similarity in the logit
        self.text_in = nn.Linear(text_width, width)
        self.read_in = nn.Linear(2 * image_width, width)
        self.layers = nn.ModuleList(CrossLayer(width, heads, image_width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def words(self, text_tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Text tokens [q, t, w] → unit queries in the image tokens' space [q, t, v], weights that sum to one [q, t]."""
        query = F.normalize(self.query(text_tokens).float(), dim=-1)
        gate = self.gate(text_tokens).squeeze(-1).float() + attention_bias(mask)[:, 0, 0]
        return query, gate.softmax(-1)

    def token_similarity(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor) -> Tensor:
        """Every text against every image: [q, t, w] × [m, n, v] → [q, m], the weighted mean over words of the soft
        maximum over cells of the cosine. The contrastive loss on it aligns words with cells."""
        query, gate = self.words(text_tokens, mask)
        q, t, v = query.shape
        cosine = (query.reshape(q * t, v) @ image_tokens.reshape(-1, v).T).view(q, t, *image_tokens.shape[:2])
        attention = (cosine * self.sharpness.exp()).softmax(-1)
        return ((attention * cosine).sum(-1) * gate[:, :, None]).sum(1)

    def forward(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor) -> Tensor:
        """text tokens [q, t, w], mask [q, t], unit image tokens [m, n, v], pairs int64 [p, 2] (row of a text, row of an
        image) → ITM logits [p]. What depends on the text alone is computed once a text."""
        texts, images = pairs[:, 0], pairs[:, 1]
        query, gate = self.words(text_tokens, mask)
        x, bias = self.text_in(text_tokens), attention_bias(mask)
        query, gate, x, bias = query[texts], gate[texts], x[texts], bias[texts]
        cells = image_tokens[images]
        cosine = query @ cells.transpose(1, 2)  # [p, t, n]
        attention = (cosine * self.sharpness.exp()).softmax(-1)
        similarity = ((attention * cosine).sum(-1) * gate).sum(-1)  # [p]
        read = attention.to(cells.dtype) @ cells  # [p, t, v]
        x = x + self.read_in(torch.cat([read, read * query], dim=-1))
        for layer in self.layers:
            x = layer(x, bias, cells)
        pooled = (self.norm(x).float() * gate.unsqueeze(-1)).sum(1)
        return self.scale.exp() * similarity.float() + self.head(pooled).squeeze(-1).float()
