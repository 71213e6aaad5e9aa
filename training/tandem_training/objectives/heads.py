"""What the language objectives add to a model while it trains: a head that predicts words, and
which ids mean what."""

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordHead(nn.Module):
    """Hidden state [..., width] → logits over the vocabulary [..., v]. The last matrix is the text
    encoder's own word embedding (Press and Wolf 2016, arXiv:1608.05859), given at each call."""

    def __init__(self, width: int, words: nn.Embedding):
        super().__init__()
        self.transform = nn.Linear(width, words.embedding_dim)
        self.norm = nn.LayerNorm(words.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings))

    def forward(self, hidden: Tensor, words: nn.Embedding) -> Tensor:
        x = self.norm(F.gelu(self.transform(hidden)))
        return (x @ words.weight.T.to(x.dtype)).float() + self.bias


class Maskable(nn.Module):
    """Which tokens MLM may hide: token ids and mask [b, t] → bool [b, t], false for padding and
    special tokens."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
        if ids["[MASK]"] is None:
            raise ValueError(
                "objective mlm needs a tokenizer with the token [MASK]; this one has none"
            )
        self.mask_id, self.vocabulary = ids["[MASK]"], tokenizer.get_vocab_size()
        self.register_buffer(
            "special", torch.tensor([i for i in ids.values() if i is not None]), persistent=False
        )

    def forward(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        return (mask > 0) & ~torch.isin(token_ids, self.special)
