"""Fusion encoder: text tokens attend to image tokens; one ITM logit for every (text, image) pair.

Small data does not teach a randomly started cross-attention (ALBEF, Li et al. 2021,
arXiv:2107.07651, has 4M pairs), so the first attention works in a space that a contrastive loss has
aligned before (SCAN, Lee et al. 2018, arXiv:1803.08024; FILIP, Yao et al. 2021, arXiv:2111.07783):
each word reads the image cells it resembles, and the logit starts as that token similarity;
transformer layers with cross-attention then correct it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import CrossLayer, attention_bias, causal_bias


class FusionEncoder(nn.Module):
    """Fusion by aligned tokens and cross-attention. The contract stands in `streams`."""

    reads_inputs, captions = False, True

    def __init__(self, text_width: int, image_width: int, width: int = 256, layers: int = 2, heads: int = 4,
                 dropout: float = 0.1):  # fmt: skip
        super().__init__()
        self.width = width
        self.query = nn.Linear(text_width, image_width)
        self.gate = nn.Linear(text_width, 1)
        self.sharpness = nn.Parameter(
            torch.tensor(3.0)
        )  # log of the inverse temperature over image cells
        self.scale = nn.Parameter(
            torch.tensor(3.0)
        )  # log of the weight of the token similarity in the logit
        self.text_in = nn.Linear(text_width, width)
        self.read_in = nn.Linear(2 * image_width, width)
        self.layers = nn.ModuleList(
            CrossLayer(width, heads, image_width, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def words(self, text_tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Text tokens [q, t, w] → unit queries in the image tokens' space [q, t, v], weights that
        sum to one [q, t]."""
        query = F.normalize(self.query(text_tokens).float(), dim=-1)
        gate = self.gate(text_tokens).squeeze(-1).float() + attention_bias(mask)[:, 0, 0]
        return query, gate.softmax(-1)

    def token_similarity(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor) -> Tensor:
        """Every text against every image: [q, t, w] × [m, n, v] → [q, m], the weighted mean over
        words of the soft maximum over cells of the cosine. The contrastive loss on it aligns words
        with cells."""
        query, gate = self.words(text_tokens, mask)
        q, t, v = query.shape
        cosine = (query.reshape(q * t, v) @ image_tokens.reshape(-1, v).T).view(
            q, t, *image_tokens.shape[:2]
        )
        attention = (cosine * self.sharpness.exp()).softmax(-1)
        return ((attention * cosine).sum(-1) * gate[:, :, None]).sum(1)

    def forward(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        hidden, gate, similarity = self._read(
            text_tokens, mask, image_tokens, pairs, attention_bias(mask)
        )
        pooled = (hidden.float() * gate.unsqueeze(-1)).sum(1)
        return self.scale.exp() * similarity.float() + self.head(pooled).squeeze(-1).float()

    def hidden(
        self,
        text_tokens: Tensor,
        mask: Tensor,
        image_tokens: Tensor,
        pairs: Tensor,
        causal: bool = False,
    ):
        bias = (causal_bias if causal else attention_bias)(mask)
        return self._read(text_tokens, mask, image_tokens, pairs, bias)[0]

    def _read(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor, bias: Tensor
    ):
        """→ hidden [p, t, width], weight of each word [p, t], token similarity [p]. What depends on
        the text alone is computed once a text."""
        texts, images = pairs[:, 0], pairs[:, 1]
        query, gate = self.words(text_tokens, mask)
        x = self.text_in(text_tokens)
        query, gate, x, bias = query[texts], gate[texts], x[texts], bias[texts]
        cells = image_tokens[images]
        cosine = query @ cells.transpose(1, 2)  # [p, t, n]
        attention = (cosine * self.sharpness.exp()).softmax(-1)
        similarity = ((attention * cosine).sum(-1) * gate).sum(-1)  # [p]
        read = attention.to(cells.dtype) @ cells  # [p, t, v]
        x = x + self.read_in(torch.cat([read, read * query], dim=-1))
        for layer in self.layers:
            x = layer(x, bias, cells)
        return self.norm(x), gate, similarity
