"""Fusion by late interaction: each word reads the image cells it resembles, and the words vote.

FILIP (Yao et al. 2021, arXiv:2111.07783) and ColBERT (Khattab and Zaharia 2020, arXiv:2004.12832)
match every word with its best place and take the mean. The mean hides the one word that does not
fit. Here a soft minimum over the words has a share in the logit, because a caption fits as its
worst words do. What depends on the text or on the image alone is computed once, so a pair costs a
small part of one in layers of cross-attention."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import attention_bias
from ..part import PartConfig
from .fusion import Fusion


class Late(Fusion):
    name = "late"
    gives = {"match.logit", "token.similarity"}
    writes = False

    @dataclass(frozen=True)
    class Config(PartConfig):
        dropout: float = 0.1  # of the text tokens

    def __init__(self, config: Config, text, image):
        super().__init__()
        self.dropout, self.token_width = config.dropout, image.token_width
        self.query = nn.Linear(text.width, image.token_width)
        # Weights of the words in the mean, and in the soft minimum.
        self.gate = nn.Linear(text.width, 1)
        self.worst_gate = nn.Linear(text.width, 1)
        self.cell_bias = nn.Linear(image.token_width, 1)  # added where words read cells
        self.head = nn.Linear(text.width, 1)  # what of the logit follows from the text alone
        # Logs of the inverse temperature over cells, and of the similarity's weight in a vote.
        self.sharpness = nn.Parameter(torch.tensor(3.0))
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.best = nn.Parameter(torch.tensor(0.0))  # tenth of the weight of the nearest cell
        self.strictness = nn.Parameter(torch.tensor(0.0))  # log of the soft minimum's sharpness
        self.worst = nn.Parameter(torch.tensor(0.0))  # its share, before a sigmoid
        for layer in (self.cell_bias, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def token_similarity(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor) -> Tensor:
        """Every text against every image: [q, t, w] × [m, n, v] → [q, m], the votes of the words,
        in units of the cosine."""
        words = {name: x[None] for name, x in self._words(text_tokens, mask).items()}
        return self._votes(words, image_tokens).T / (self.scale.exp() + 10 * self.best)

    def all_pairs(self, text_tokens, mask, image_tokens):
        words = {name: x[None] for name, x in self._words(text_tokens, mask).items()}
        return self._logit(words, image_tokens).T

    def forward(self, text_tokens, mask, image_tokens, pairs):
        texts, images = pairs[:, 0], pairs[:, 1]
        words = {name: x[texts][:, None] for name, x in self._words(text_tokens, mask).items()}
        return self._logit(words, image_tokens[images])[:, 0]

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        raise NotImplementedError("late interaction has no hidden states")

    def load_aligned(self, names: list[str]) -> None:
        """After the weights of a bundle's fusion called `names` were taken: what has no weight of
        its own yet starts as its like."""
        if "gate.weight" in names and "worst_gate.weight" not in names:
            self.worst_gate.load_state_dict(self.gate.state_dict())

    def _words(self, text_tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What depends on the text alone, a row a text."""
        x = F.dropout(text_tokens, self.dropout, self.training)
        bias = attention_bias(mask)[:, 0, 0]  # [q, t]
        gate, worst = (
            (layer(x).squeeze(-1).float() + bias).softmax(-1)
            for layer in (self.gate, self.worst_gate)
        )
        return {
            "query": F.normalize(self.query(x).float(), dim=-1),  # [q, t, v]
            "gate": gate,  # [q, t]
            "worst": worst,  # [q, t]
            "alone": self.head((x * gate.unsqueeze(-1)).sum(1)).squeeze(-1).float(),  # [q]
        }

    def _read(self, query: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Words [b | 1, q, t, v] of q texts, for each of b images [b, n, v] → the soft and the hard
        maximum over cells of the cosine, [b, q, t] both."""
        _, q, t, _ = query.shape
        flat = query.flatten(1, 2)  # [b | 1, q · t, v]
        flat = flat[0] if len(flat) == 1 else flat
        cosine = (flat @ cells.transpose(1, 2)).float()  # [b, q · t, n]
        bias = self.cell_bias(cells * math.sqrt(self.token_width)).transpose(1, 2).float()
        attention = (cosine * self.sharpness.exp() + bias).softmax(-1)
        soft, hard = (attention * cosine).sum(-1), cosine.amax(-1)
        return soft.view(-1, q, t), hard.view(-1, q, t)

    def _logit(self, words: dict[str, Tensor], cells: Tensor) -> Tensor:
        """Words of q texts, for each of b images → [b, q]."""
        return self._votes(words, cells) + words["alone"]

    def _votes(self, words: dict[str, Tensor], cells: Tensor) -> Tensor:
        """The same without what follows from the text alone: the mean over words, and in part the
        soft minimum."""
        soft, hard = self._read(words["query"], cells)
        vote = self.scale.exp() * soft + self.best * (10 * hard)  # [b, q, t]
        mean = (words["gate"] * vote).sum(-1)
        strictness = self.strictness.exp()
        least = (words["worst"] + 1e-9).log() - strictness * vote
        least = -torch.logsumexp(least, -1) / strictness
        return torch.lerp(mean, least, self.worst.sigmoid())
