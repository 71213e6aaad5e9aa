"""Words predicted from hidden states."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WordHead(nn.Module):
    """Hidden state [..., width] → logits over the vocabulary [..., v]. The last matrix is the text
    encoder's own word embedding (Press and Wolf 2016, arXiv:1608.05859), given at each call."""

    def __init__(self, width: int, words: nn.Embedding):
        super().__init__()
        self.transform = nn.Linear(width, words.embedding_dim)
        self.norm = nn.LayerNorm(words.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings))

    def forward(self, states: Tensor, words: nn.Embedding, rows: Tensor | None = None) -> Tensor:
        """`rows` [k]: of the words that alone have logits → [..., k]."""
        weight, bias = words.weight, self.bias
        if rows is not None:
            weight, bias = weight[rows], bias[rows]
        x = self.norm(F.gelu(self.transform(states)))
        return (x @ weight.T.to(x.dtype)).float() + bias


class KeptWordHead(WordHead):
    """Predicts only words that training can meet: hidden state [..., width] → logits [..., k].

    Training and serving share the k words, so a bundle needs no others for a likelihood, which
    stays the same. `row_of` is the number of a token id among them; others have that of [UNK].
    Until `keep`, all words are kept."""

    def __init__(self, width: int, words: nn.Embedding):
        super().__init__(width, words)
        every = torch.arange(words.num_embeddings)
        self.register_buffer("kept", torch.ones_like(every, dtype=torch.bool))
        self.register_buffer("row_of", every.int())
        self.register_buffer("rows", every, persistent=False)
        self.register_load_state_dict_post_hook(_find_rows)

    def keep(self, ids: Iterable[int], unknown: int) -> None:
        """Keep these words too; `unknown` is the id of [UNK]."""
        kept = torch.zeros_like(self.kept) if self.kept.all() else self.kept.clone()
        kept[torch.tensor([*ids, unknown], device=kept.device)] = True
        row_of = kept.cumsum(0) - 1
        self.row_of.copy_(torch.where(kept, row_of, row_of[unknown]))
        self.kept.copy_(kept)
        _find_rows(self)

    def forward(self, states: Tensor, words: nn.Embedding) -> Tensor:
        whole = len(self.rows) == len(self.kept)
        return super().forward(states, words, None if whole else self.rows)

    def difference(self, states: Tensor, words: nn.Embedding, one: int, other: int) -> Tensor:
        """Hidden state [..., width] → log-odds of a word against another [...]."""
        rows = torch.tensor([one, other], device=states.device)
        logits = super().forward(states, words, rows)
        return logits[..., 0] - logits[..., 1]


def _find_rows(head: KeptWordHead, _=None) -> None:
    head.rows = head.kept.nonzero()[:, 0]
