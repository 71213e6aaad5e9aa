"""Words predicted from hidden states."""

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

    def forward(self, states: Tensor, words: nn.Embedding) -> Tensor:
        x = self.norm(F.gelu(self.transform(states)))
        return (x @ words.weight.T.to(x.dtype)).float() + self.bias
