"""Language objectives: words from the image and the other words."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..distributed import own_rows, weight
from ..models.word_head import WordHead
from .objective import Objective, Step


def mask_tokens(token_ids: Tensor, maskable: Tensor, mask_id: int, vocabulary: int,
                share: float = 0.15, generator: torch.Generator | None = None,
                starts: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Hide a share of the words as BERT does (arXiv:1810.04805): of those chosen, 80 % become
    [MASK], 10 % a random token of the vocabulary, and 10 % stay.

    token_ids int64 [b, t]; maskable bool [b, t] is false for padding and special tokens. With
    `starts` bool [b, t], true where a word begins, all pieces of a word are chosen or none. Returns
    the changed ids and `chosen` bool [b, t], the places to be predicted."""
    device = token_ids.device
    choose, fate = (torch.rand(token_ids.shape, generator=generator).to(device) for _ in range(2))
    if starts is not None:
        choose = choose.gather(1, (starts.cumsum(1) - 1).clamp(min=0))
    random = torch.randint(vocabulary, token_ids.shape, generator=generator).to(device)
    chosen = maskable & (choose < share)
    hidden = token_ids.masked_fill(chosen & (fate < 0.8), mask_id)
    return torch.where(chosen & (fate >= 0.8) & (fate < 0.9), random, hidden), chosen


def mlm_loss(logits: Tensor, token_ids: Tensor, chosen: Tensor, soft: Tensor | None = None,
             mix: float = 0.0) -> dict[str, Tensor]:  # fmt: skip
    """Masked language modelling: the chosen words, from the other words and the image (ALBEF,
    arXiv:2107.07651).

    logits [k, v] of the k chosen places in reading order; token_ids [b, t] before masking; chosen
    bool [b, t]. A share `mix` of the target follows `soft` [k, v], probabilities of a momentum
    encoder (section 3.3, momentum distillation). Zero where nothing was chosen. Returns {"loss":
    scalar}."""
    loss = F.cross_entropy(logits, token_ids[chosen], reduction="sum")
    if soft is not None:
        loss = (1 - mix) * loss - mix * (soft * logits.log_softmax(-1)).sum()
    return {"loss": loss / max(1, len(logits))}


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
        self.vocabulary = vocabulary

    def prepare(self, model, captions: list[list[list[int]]]) -> None:
        """A head that serves keeps the words that training can meet."""
        if self.head is None:
            words = set(self.vocabulary.special) | self.written(model, captions)
            model.fusion.word_head.keep(words, self.vocabulary.unknown)

    def written(self, model, captions: list[list[list[int]]]) -> set[int]:
        """Token ids that it predicts."""
        return {token for image in captions for caption in image for token in caption}

    def logits(self, step: Step, states: Tensor) -> Tensor:
        """States [..., w] → logits over the vocabulary [..., v], or over the words kept."""
        head = self.head or step.model.fusion.word_head
        return head(states, step.model.text.words)

    def targets(self, step: Step, token_ids: Tensor) -> Tensor:
        """The numbers of these words among the logits."""
        return token_ids if self.head else step.model.fusion.word_head.row_of[token_ids].long()

    def states(self, step: Step, text_tokens: Tensor, causal: bool = False) -> Tensor:
        """The fusion's states of each text before its own image [b, t, w]."""
        row = torch.arange(len(text_tokens), device=step.device)
        mask, cells = step.batch.whole["text.mask"], step.features["image.tokens"]
        pairs, part = torch.stack([row, row], 1), slice(0, len(row))
        return step.model.fusion.hidden(text_tokens, mask[part], cells[part], pairs, causal)[0]


class Mlm(Words):
    """Masked language modelling: the texts are encoded again, with words hidden. `causal`: a hidden
    word sees the image and the words before it (Seq-MLM; ViTCAP, Fang et al. 2021,
    arXiv:2112.05230)."""

    name = "mlm"
    needs = {"fusion.text", "text.words"}

    @dataclass(frozen=True)
    class Options(Words.Options):
        share: float = 0.15  # of the words that are hidden
        whole_words: bool = False  # all pieces of a word are hidden, or none
        causal: bool = False
        soft_mix: float = 0.0  # share of the target that follows the moving average
        soft_rise: int = 0  # batches until it has risen to that

    def __init__(self, options: Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        if vocabulary.mask is None:
            raise ValueError("objective mlm needs a tokenizer with the token [MASK]; it has none")
        special = torch.tensor(vocabulary.special)
        self.register_buffer("special", special, persistent=False)
        inner = torch.tensor([piece.startswith("##") for piece in vocabulary.pieces])
        self.register_buffer("inner", inner, persistent=False)  # pieces within a word

    @classmethod
    def wants(cls, options: Options) -> set[str]:
        return cls.needs | ({"fusion.causal"} if options.causal else set())

    def maskable(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask [b, t] → bool [b, t], false for padding and special tokens."""
        return (mask > 0) & ~torch.isin(token_ids, self.special)

    def loss(self, step: Step) -> dict[str, Tensor]:
        options, words = self.options, self.vocabulary
        part, whole = step.first(options.pairs), step.batch.whole
        ids, mask = whole["text.ids"][part], whole["text.mask"][part]  # [q, t]
        starts = ~self.inner[ids] if options.whole_words else None
        hidden_ids, chosen = mask_tokens(
            ids, self.maskable(ids, mask), words.mask, words.size, options.share, step.generator,
            starts,
        )  # fmt: skip
        total, own = chosen.sum(), own_rows(len(ids))  # every process draws the same
        ids, chosen, hidden = ids[own], chosen[own], (hidden_ids[own], mask[own], chosen[own])
        with step.precision(step.device):
            logits = self.predict(step.of(own), *hidden)  # [k, v]
        soft, mix = None, step.taught(options.soft_mix, options.soft_rise)
        if mix > 0:
            soft = self.by_average(step, own, *hidden)
        loss = mlm_loss(logits, self.targets(step, ids), chosen, soft, mix)["loss"]
        return {self.name: weight(chosen.sum(), total) * loss}

    def predict(self, step: Step, token_ids: Tensor, mask: Tensor, chosen: Tensor) -> Tensor:
        """Texts with words hidden [q, t] → logits of the k chosen places [k, v]."""
        return self.logits(step, self.read(step, token_ids, mask)[chosen])

    @torch.no_grad()
    def by_average(self, step: Step, rows: slice, token_ids: Tensor, mask: Tensor,
                   chosen: Tensor) -> Tensor:  # fmt: skip
        """The same from the moving average, of these rows of the batch: probabilities [k, v]."""
        teacher = replace(step, model=step.average, features=step.momentum()).of(rows)
        own = step.average.objectives[self.name]
        with step.precision(step.device):
            return own.predict(teacher, token_ids, mask, chosen).softmax(-1)

    def read(self, step: Step, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Texts with words hidden [q, t] → their states [q, t, w]."""
        return self.states(step, step.model.read_words(token_ids, mask), self.options.causal)


class Lm(Words):
    """Captioning. `together`: pairs of the batch that stand one after another in a text (Flamingo,
    Alayrac et al. 2022, arXiv:2204.14198, section 2.3)."""

    name = "lm"
    needs = {"fusion.causal", "text.words"}

    @dataclass(frozen=True)
    class Options(Words.Options):
        smoothing: float = 0.0
        together: int = 1

        def __post_init__(self):
            super().__post_init__()
            if self.together < 1:
                raise ValueError(f"together = {self.together}; expected 1 pair or more")

    @classmethod
    def wants(cls, options: Options) -> set[str]:
        return cls.needs | ({"fusion.together"} if options.together > 1 else set())

    def states(self, step: Step, text_tokens: Tensor, causal: bool = False) -> Tensor:
        if self.options.together == 1:
            return super().states(step, text_tokens, causal)
        row = torch.arange(len(text_tokens), device=step.device)
        mask, cells = step.batch.whole["text.mask"], step.features["image.tokens"]
        pairs, together = torch.stack([row, row], 1), self.options.together
        return step.model.fusion.write_together(text_tokens, mask, cells, pairs, together)

    def loss(self, step: Step) -> dict[str, Tensor]:
        part = step.first(self.options.pairs)
        total = step.batch.whole["text.mask"][part, 1:].sum()
        step = step.of(own_rows(part.stop))
        ids, mask = step.batch.whole["text.ids"], step.batch.whole["text.mask"]  # [q, t]
        with step.precision(step.device):
            states = self.states(step, step.features["text.tokens"], causal=True)
            logits = self.logits(step, states)  # [q, t, v]
        loss = lm_loss(logits, self.targets(step, ids), mask, self.options.smoothing)["loss"]
        return {"lm": weight(mask[:, 1:].sum(), total) * loss}
