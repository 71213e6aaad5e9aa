"""Fusion by aligned tokens, then cross-attention.

Small data does not teach a randomly started cross-attention (ALBEF, Li et al. 2021,
arXiv:2107.07651, has 4M pairs), so the first attention works in a space that a contrastive loss has
aligned before (SCAN, Lee et al. 2018, arXiv:1803.08024; FILIP, Yao et al. 2021, arXiv:2111.07783):
each word reads the image cells it resembles, and the logit starts as that token similarity;
transformer layers with cross-attention then correct it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import CrossLayer, as_normed, attention_bias, causal_bias
from .fusion import Fusion, StreamConfig


class Aligned(Fusion):
    """Soft attention over aligned tokens, then layers with cross-attention."""

    name = "aligned"
    gives = Fusion.gives | {"token.similarity"}
    Config = StreamConfig

    def __init__(self, config: StreamConfig, text, image):
        super().__init__()
        self.width = width = config.width
        self.query = nn.Linear(text.width, image.token_width)
        self.gate = nn.Linear(text.width, 1)
        # Logs of the inverse temperature over cells, and of the similarity's weight in the logit.
        self.sharpness = nn.Parameter(torch.tensor(3.0))
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.text_in = nn.Linear(text.width, width)
        self.read_in = nn.Linear(2 * image.token_width, width)
        self.layers = nn.ModuleList(
            CrossLayer(width, config.heads, image.token_width, config.dropout)
            for _ in range(config.layers)
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

    def forward(self, text_tokens, mask, image_tokens, pairs):
        bias = attention_bias(mask)
        states, gate, similarity = self._read(text_tokens, mask, image_tokens, pairs, bias)
        pooled = (states.float() * gate.unsqueeze(-1)).sum(1)  # [p, width]
        return self.scale.exp() * similarity.float() + self.head(pooled).squeeze(-1).float()

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        bias = (causal_bias if causal else attention_bias)(mask)
        return self._read(text_tokens, mask, image_tokens, pairs, bias)[0], None

    def _read(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """→ states [p, t, width], weight of each word [p, t], token similarity [p]. What depends on
        the text alone is computed once a text."""
        texts, images = pairs[:, 0], pairs[:, 1]
        query, gate = self.words(text_tokens, mask)
        x = self.text_in(text_tokens)
        query, gate, x, bias = query[texts], gate[texts], x[texts], bias[texts]
        cells = image_tokens[images]  # [p, n, v]
        cosine = query @ cells.transpose(1, 2)  # [p, t, n]
        attention = (cosine * self.sharpness.exp()).softmax(-1)  # [p, t, n]
        similarity = ((attention * cosine).sum(-1) * gate).sum(-1)  # [p]
        wide = as_normed(cells)
        read = attention.to(cells.dtype) @ wide  # [p, t, v]
        x = x + self.read_in(torch.cat([read, read * as_normed(query)], dim=-1))  # [p, t, width]
        for layer in self.layers:
            x = layer(x, bias, wide)
        return self.norm(x), gate, similarity
