"""An encoder and a decoder that reads its task as a word; its first word says whether a pair
matches."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..reserved import REGIONS, START, TASKS
from .encoder_decoder import EncoderDecoder
from .fusion import Fusion


class Instructed(EncoderDecoder):
    """The encoder reads the image, a task and the text. The logit is log p(yes) - log p(no) of the
    decoder's first word (VL-T5, Cho et al. 2021, arXiv:2102.02779, section 3.4; OFA, Wang et al.
    2022, arXiv:2202.03052, section 3.2)."""

    name = "instructed"
    gives = Fusion.gives | {"fusion.answers", "fusion.tasks"}
    writes = False
    extra_width = 0

    @dataclass(frozen=True)
    class Config(EncoderDecoder.Config):
        yes: int = 2995  # "true" in BERT's vocabulary
        no: int = 6270  # "false"
        region_ids: bool = False  # image tokens are numbered by words of the vocabulary (VL-T5)

    def __init__(self, config: Config, text, image):
        super().__init__(config, text, image)
        self.answers, self.region_ids = (config.yes, config.no), config.region_ids
        self.regions = image.cells

    def text_tokens(self, token_ids: Tensor, tokens: Tensor) -> Tensor:
        return tokens

    def word(self, token_id: int, like: Tensor) -> Tensor:
        """One word for each row of `like` [p, n, ...] → [p, 1, w], from the text encoder."""
        text = self._text[0]
        return text.place(text.words.weight[token_id].expand(like.shape[0], 1, -1))

    def cells(self, image_tokens: Tensor) -> Tensor:
        x = self.image_in(image_tokens)
        if self.region_ids:
            x = x + self.text_in(self._text[0].words.weight[REGIONS : REGIONS + self.regions])
        return x

    def task(self, name: str, words: Tensor, mask: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The task is a word before the others."""
        states = torch.cat([self.word(TASKS[name], cells), words], 1)
        return states, F.pad(mask, (cells.shape[1] + 1, 0), value=1)

    def answered(self, text_tokens: Tensor, mask: Tensor, image_tokens: Tensor,
                 pairs: Tensor) -> Tensor:  # fmt: skip
        """Arguments as of `hidden` → the state that the first word is read from [p, width]."""
        texts, images = pairs[:, 0], pairs[:, 1]
        cells, mask = self.cells(image_tokens)[images], mask[texts]
        words, seen = self.task("match", text_tokens[texts], mask, cells)
        return self.answer(cells, words, seen, self.word(START, cells))[:, 0]

    def hidden(self, text_tokens, mask, image_tokens, pairs, causal=False):
        return self.read(text_tokens, mask, image_tokens, pairs), None

    def forward(self, text_tokens, mask, image_tokens, pairs):
        state = self.answered(text_tokens, mask, image_tokens, pairs)
        odds = self.word_head.difference(state, self._text[0].words, *self.answers)
        return self.head(odds[:, None]).squeeze(-1).float()
