"""The contract of a fusion that writes texts: its logit is the likelihood of the text."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..word_head import KeptWordHead
from .fusion import Fusion, StreamConfig
from .image_input import Places

BYTES = 2  # numbers behind a text token, which hold its id


@dataclass(frozen=True)
class WriterConfig(StreamConfig, Places):
    width: int = 384
    layers: int = 3
    heads: int = 6
    geometry: str = "4"
    # The logit is log p(text | image) - prior · log p(text | blank image). Of one text that is a
    # constant; of one image's texts it keeps short and common ones from winning.
    prior: float = 0.0


class Writer(Fusion):
    """The logit is the mean log-likelihood of a text's words, each given the image and the words
    before it. So that the bundle's three graphs suffice, a text token carries its id as two bytes,
    which are exact in float16."""

    gives = Fusion.gives | {"fusion.prefix"}
    bare_words = True
    extra_width = BYTES
    Config = WriterConfig

    def __init__(self, config: WriterConfig, text, width: int):
        super().__init__()
        self.width, self.text_width, self.prior = width, text.width, config.prior
        # In a tuple, so that the text encoder's parameters are counted and saved once, as its own.
        self._text = (text,)
        self.word_head = KeptWordHead(width, text.words)
        self.head = nn.Linear(1, 1)  # of the likelihood
        nn.init.ones_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def text_tokens(self, token_ids: Tensor, tokens: Tensor) -> Tensor:
        parts = torch.stack([token_ids // 256, token_ids % 256], -1)  # [b, t, 2]
        return torch.cat([tokens, parts.to(tokens.dtype)], -1)

    def ids(self, text_tokens: Tensor) -> Tensor:
        """Text tokens [q, t, w + 2] → token ids int64 [q, t]."""
        high, low = text_tokens[..., -2].round().long(), text_tokens[..., -1].round().long()
        return high * 256 + low

    def write(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor,
              prefix: Tensor | None = None) -> Tensor:  # fmt: skip
        """Arguments as of `hidden` → states [p, t, width], of which each predicts the next word.
        The first `prefix` [p] words see each other in both directions; without it none do."""
        raise NotImplementedError

    def read(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor,
             pairs: Tensor) -> Tensor:  # fmt: skip
        """The same with words that see the whole text."""
        raise NotImplementedError

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        arguments = (text_tokens, mask, image_tokens, pairs)
        return self.write(*arguments) if causal else self.read(*arguments), None

    def likelihood(
        self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor, pairs: Tensor
    ) -> Tensor:
        """Mean log-likelihood of the words after the first [p]; a word that training could not meet
        counts as [UNK]."""
        texts = pairs[:, 0]
        states = self.write(text_tokens, mask, image_tokens, pairs)[:, :-1]
        words = self.word_head(states, self._text[0].words).log_softmax(-1)  # [p, t - 1, k]
        next_word = self.word_head.row_of[self.ids(text_tokens)].long()[texts][:, 1:, None]
        real = mask[texts][:, 1:].float()
        return (words.gather(-1, next_word).squeeze(-1) * real).sum(1) / real.sum(1)

    def forward(self, text_tokens, mask, image_tokens, pairs):
        if not self.prior:
            score = self.likelihood(text_tokens, mask, image_tokens, pairs)
            return self.head(score[:, None]).squeeze(-1).float()
        # Every text is read with a blank image too, in the same pass.
        row = torch.arange(mask.shape[0], device=mask.device)
        images = torch.cat([image_tokens, torch.zeros_like(image_tokens[:1])])
        blank = torch.stack([row, torch.zeros_like(row) + image_tokens.shape[0]], 1)
        score = self.likelihood(text_tokens, mask, images, torch.cat([blank, pairs]))
        common, score = score[: mask.shape[0]], score[mask.shape[0] :]
        score = score - self.prior * common[pairs[:, 0]]
        return self.head(score[:, None]).squeeze(-1).float()
