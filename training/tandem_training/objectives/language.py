"""Language objectives: words from the image and the other words."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.word_head import WordHead
from .objective import Objective, Step


def mask_tokens(token_ids: Tensor, maskable: Tensor, mask_id: int, vocabulary: int,
                share: float = 0.15,
                generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Hide a share of the words as BERT does (arXiv:1810.04805): of those chosen, 80 % become
    [MASK], 10 % a random token of the vocabulary, and 10 % stay.

    token_ids int64 [b, t]; maskable bool [b, t] is false for padding and special tokens. Returns
    the changed ids and `chosen` bool [b, t], the places to be predicted."""
    device = token_ids.device
    choose, fate = (torch.rand(token_ids.shape, generator=generator).to(device) for _ in range(2))
    random = torch.randint(vocabulary, token_ids.shape, generator=generator).to(device)
    chosen = maskable & (choose < share)
    hidden = token_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random, hidden), chosen


def mlm_loss(logits: Tensor, token_ids: Tensor, chosen: Tensor) -> dict[str, Tensor]:
    """Masked language modelling: the chosen words, from the other words and the image (ALBEF,
    arXiv:2107.07651).

    logits [k, v] of the k chosen places in reading order; token_ids [b, t] before masking; chosen
    bool [b, t]. Zero where nothing was chosen. Returns {"loss": scalar}."""
    return {
        "loss": F.cross_entropy(logits, token_ids[chosen], reduction="sum") / max(1, len(logits))
    }


def lm_loss(
    logits: Tensor, token_ids: Tensor, mask: Tensor, smoothing: float = 0.0
) -> dict[str, Tensor]:
    """Captioning: each token from the image and the tokens before it (BLIP, arXiv:2201.12086; CoCa,
    Yu et al. 2022, arXiv:2205.01917).

    logits [b, t, v], where place i has seen tokens up to i; token_ids and mask [b, t]. The first
    token only starts the caption, padding is not predicted; a share `smoothing` of the target is
    spread evenly over the vocabulary. Returns {"loss": scalar}, the mean over predicted tokens."""
    real = mask[:, 1:] > 0
    return {
        "loss": F.cross_entropy(
            logits[:, :-1][real], token_ids[:, 1:][real], label_smoothing=smoothing
        )
    }


class Words(Objective):
    """An objective with a head that predicts words."""

    @dataclass(frozen=True)
    class Options(Objective.Options):
        pairs: int = 128  # of the batch that it reads: a whole vocabulary a word costs much

    def __init__(self, options: Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        # A fusion that serves a likelihood has a head of its own.
        own = hasattr(model.fusion, "word_head")
        self.head = None if own else WordHead(model.fusion.width, model.text.words)

    def logits(self, step: Step, states: Tensor) -> Tensor:
        """States [..., w] → logits over the vocabulary [..., v]."""
        head = self.head or step.model.fusion.word_head
        return head(states, step.model.text.words)

    def states(self, step: Step, text_tokens: Tensor, causal: bool = False) -> Tensor:
        """The fusion's states of each text before its own image [b, t, w]."""
        row = torch.arange(len(text_tokens), device=step.device)
        mask, cells = step.batch.whole["text.mask"], step.features["image.tokens"]
        pairs, part = torch.stack([row, row], 1), slice(0, len(row))
        return step.model.fusion.hidden(text_tokens, mask[part], cells[part], pairs, causal)[0]


class Mlm(Words):
    """Masked language modelling: the texts are encoded again, with words hidden."""

    name = "mlm"
    needs = {"fusion.text", "text.words"}

    @dataclass(frozen=True)
    class Options(Words.Options):
        share: float = 0.15  # of the words that are hidden

    def __init__(self, options: Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        if vocabulary.mask is None:
            raise ValueError("objective mlm needs a tokenizer with the token [MASK]; it has none")
        self.vocabulary = vocabulary
        special = torch.tensor(vocabulary.special)
        self.register_buffer("special", special, persistent=False)

    def maskable(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask [b, t] → bool [b, t], false for padding and special tokens."""
        return (mask > 0) & ~torch.isin(token_ids, self.special)

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, whole, words = slice(0, self.options.pairs), step.batch.whole, self.vocabulary
        ids, mask = whole["text.ids"][part], whole["text.mask"][part]  # [q, t]
        hidden_ids, chosen = mask_tokens(
            ids, self.maskable(ids, mask), words.mask, words.size, self.options.share,
            step.generator,
        )  # fmt: skip
        with step.precision(step.device):
            states = self.read(step, hidden_ids, mask)  # [q, t, w]
            logits = self.logits(step, states[chosen])  # [k, v]
        return {self.name: mlm_loss(logits, ids, chosen)["loss"]}

    def read(self, step: Step, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Texts with words hidden [q, t] → their states [q, t, w]."""
        return self.states(step, step.model.read_words(token_ids, mask))


class Lm(Words):
    """Captioning."""

    name = "lm"
    needs = {"fusion.causal", "text.words"}

    @dataclass(frozen=True)
    class Options(Words.Options):
        smoothing: float = 0.0

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, whole = slice(0, self.options.pairs), step.batch.whole
        ids, mask = whole["text.ids"][part], whole["text.mask"][part]  # [q, t]
        with step.precision(step.device):
            states = self.states(step, step.features["text.tokens"][part], causal=True)
            logits = self.logits(step, states)  # [q, t, v]
        return {"lm": lm_loss(logits, ids, mask, self.options.smoothing)["loss"]}
