"""Tasks of an encoder and a decoder with one vocabulary, each the likelihood of what it writes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.tokens import pad
from ..distributed import own_rows, weight
from ..models.reserved import CODES, END, MOST_CODES, SENTINELS, START
from .language import Mlm, Words
from .objective import Step


def hide_spans(row: list[int], chosen: list[bool]) -> tuple[list[int], list[int]]:
    """Token ids of a text → with each run of chosen ones replaced by a sentinel, and what is to be
    written: each sentinel and its words, then the end (T5, Raffel et al. 2019, arXiv:1910.10683,
    section 3.1.4)."""
    left, written, spans = [], [], 0
    for place, (token, hide) in enumerate(zip(row, chosen, strict=True)):
        if hide and not (place and chosen[place - 1]):
            left.append(SENTINELS + spans)
            written.append(SENTINELS + spans)
            spans += 1
        (written if hide else left).append(token)
    return left, [*written, END]


def written_loss(step: Step, words: Words, states_of, rows: list[list[int]],
                 own: slice) -> Tensor:  # fmt: skip
    """This process's share of the cross-entropy of the token ids `rows`, its own of which are
    `own`. states_of: what was written before each of those, as the decoder reads it [p, t, w] →
    states [p, t, width]."""
    total, rows = sum(map(len, rows)), rows[own]
    target, real = (tensor.to(step.device) for tensor in pad(rows))
    before = F.pad(target[:, :-1], (1, 0), value=START)
    with step.precision(step.device):
        logits = words.logits(step, states_of(step.model.text.embed(before)))
    loss = F.cross_entropy(logits[real > 0], words.targets(step, target)[real > 0])
    return weight(sum(map(len, rows)), total) * loss


class Infill(Mlm):
    """The hidden spans of a text from what is left and the image (VL-T5, Cho et al. 2021,
    arXiv:2102.02779, section 4.1)."""

    name = "infill"
    needs = {"fusion.tasks", "text.words"}

    def written(self, model, captions):
        spans = range(SENTINELS, SENTINELS + max(len(c) for image in captions for c in image))
        return super().written(model, captions) | {*spans, END}

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, whole = step.first(self.options.pairs), step.batch.whole
        ids, mask, own = whole["text.ids"][part], whole["text.mask"][part], own_rows(part.stop)
        draws = torch.rand(ids.shape, generator=step.generator).to(step.device)
        chosen = self.maskable(ids, mask) & (draws < self.options.share)
        rows = [
            hide_spans(row[:length], hide[:length])
            for row, hide, length in zip(
                ids.tolist(), chosen.tolist(), mask.sum(1).tolist(), strict=True
            )
        ]
        left, there = (tensor.to(step.device) for tensor in pad([row for row, _ in rows[own]]))
        fusion = step.model.fusion
        with step.precision(step.device):
            cells = fusion.cells(step.features["image.tokens"][own])
            words, seen = fusion.task("infill", step.model.text.embed(left), there, cells)

            def states(before: Tensor) -> Tensor:
                return fusion.answer(cells, words, seen, before)

        return {"infill": written_loss(step, self, states, [row for _, row in rows], own)}


class Caption(Words):
    """The text from the image alone (OFA, arXiv:2202.03052, section 3.2)."""

    name = "caption"
    needs = {"fusion.tasks", "text.words"}

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, whole = step.first(self.options.pairs), step.batch.whole
        ids, mask, own = whole["text.ids"][part], whole["text.mask"][part], own_rows(part.stop)
        fusion, none = step.model.fusion, mask[own, :0]
        with step.precision(step.device):
            cells = fusion.cells(step.features["image.tokens"][own])
            words, seen = fusion.task("caption", step.model.text.embed(none), none, cells)

            def states(before: Tensor) -> Tensor:
                return fusion.answer(cells, words, seen, before)

        lengths = mask.sum(1).tolist()
        rows = [row[1:length] for row, length in zip(ids.tolist(), lengths, strict=True)]
        return {"caption": written_loss(step, self, states, rows, own)}


class WordMatch(Words):
    """Whether a pair matches, as a word of the whole vocabulary. Half of the pairs have another
    image's text, drawn at random (VL-T5, section 4.1)."""

    name = "word_match"
    needs = {"fusion.tasks", "text.words"}

    def loss(self, step: Step) -> dict[str, Tensor]:
        features, mask, ids = step.features, step.batch.whole["text.mask"], step.batch.whole
        count = len(mask)
        image = torch.arange(count)
        shift = torch.randint(1, count, (count,), generator=step.generator)
        other = torch.rand(count, generator=step.generator) < 0.5
        text = torch.where(other, (image + shift) % count, image)
        own = ids["image.ids"].cpu()
        rows = own_rows(count)
        pairs = torch.stack([text, image], 1)[rows].to(step.device)
        yes, no = step.model.fusion.answers
        answer = torch.where(own[text] == own[image], yes, no)[rows].to(step.device)
        with step.precision(step.device):
            state = step.model.fusion.answered(
                features["text.tokens"], mask, features["image.tokens"], pairs
            )
            logits = self.logits(step, state)
        return {"word_match": F.cross_entropy(logits, self.targets(step, answer))}

    def written(self, model, captions):
        return set(model.fusion.answers)


class Paint(Words):
    """The codes of an image's later cells from its first ones and the text (DaVinci, Diao et al.
    2022, arXiv:2206.07699, section 3.2, prefix image modelling), or with `middle` those of its
    middle from what is around (OFA, arXiv:2202.03052, section 3.2)."""

    name = "paint"
    needs = {"fusion.answers", "visual.ids", "text.words"}

    @dataclass(frozen=True)
    class Options(Words.Options):
        codes: int = 512
        middle: bool = False

        def __post_init__(self):
            super().__post_init__()
            if self.codes > MOST_CODES:
                raise ValueError(f"codes = {self.codes}; the vocabulary has room for {MOST_CODES}")

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, n = step.first(self.options.pairs), step.batch.whole["visual.ids"].shape[1]
        hidden = self._hidden(part.stop, n, step.generator).to(step.device)
        total, own = hidden.sum(), own_rows(part.stop)
        step, hidden = step.of(own), hidden[own]
        mask, codes = step.batch.whole["text.mask"], step.batch.whole["visual.ids"]
        fusion = step.model.fusion
        words = step.features["text.tokens"][..., : step.model.text.width]
        with step.precision(step.device):
            cells = fusion.cells(step.features["image.tokens"])
            words, seen = fusion.task("paint", words, mask, cells)
            seen = torch.cat([(~hidden).long(), seen[:, n:]], 1)
            target = codes + CODES  # all of them, so that every place is told by its number
            before = step.model.text.embed(F.pad(target[:, :-1], (1, 0), value=START))
            logits = self.logits(step, fusion.answer(cells, words, seen, before))
        loss = F.cross_entropy(logits[hidden], self.targets(step, target)[hidden])
        return {"paint": weight(hidden.sum(), total) * loss}

    def written(self, model, captions):
        return set(range(CODES, CODES + self.options.codes))

    def _hidden(self, count: int, n: int, generator: torch.Generator) -> Tensor:
        """Which cells are to be painted, bool [count, n]."""
        if not self.options.middle:
            first = 1 + (torch.rand(count, generator=generator) * (n - 1)).long()
            return torch.arange(n) >= first[:, None]
        side = round(n**0.5)
        line = torch.arange(side)
        inner = (line >= side // 4) & (line < side - side // 4)
        square = inner[:, None] & inner[None, :]
        return square.flatten().expand(count, n)
