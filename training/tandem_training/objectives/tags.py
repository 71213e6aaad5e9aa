"""Objectives of a fusion that reads an image's tags beside the caption, or two captions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import own_rows, weight
from ..models.model import Tandem
from ..models.vision.region_tokens import TAGS, tags_of, with_tags
from .language import Mlm, Words
from .objective import Objective, Step


class Pollute(Objective):
    """Whether caption, tags and regions belong together. `ways` = 2: the tags are another image's
    with probability ½ (OSCAR, Li et al. 2020, arXiv:2004.06165, section 3). 3: all fit (½), the
    caption is another image's (¼), or the tags are (¼) (VinVL, Zhang et al. 2021, arXiv:2101.00529,
    section 3.1; from memory)."""

    name = "pollute"
    needs = {"fusion.tags"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        CHOICES: ClassVar = {"ways": (2, 3)}

        ways: int = 2
        pairs: int = 128  # of the batch that it reads

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.head = nn.Linear(model.fusion.width, options.ways)

    def polluted(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """→ the row of each text [q], the image tokens with their tags [q, n, v], and what of them
        is another image's [q]: 0 nothing, 1 the tags, 2 the caption."""
        tokens = step.features["image.tokens"][: self.options.pairs]
        row = torch.arange(len(tokens), device=step.device)
        drawn = torch.rand(len(row), generator=step.generator).to(step.device)
        kind = (drawn > 0.5).long() + (drawn > 0.75).long() * (self.options.ways - 2)
        tags = tags_of(tokens, TAGS)
        tags = torch.where((kind == 1)[:, None], tags.roll(1, 0), tags)
        text = torch.where(kind == 2, row.roll(1), row)
        return text, with_tags(tokens, tags), kind

    def loss(self, step: Step) -> dict[str, Tensor]:
        text, tokens, kind = self.polluted(step)
        image = torch.arange(len(text), device=step.device)
        words, mask = step.features["text.tokens"], step.batch.whole["text.mask"]
        with step.precision(step.device):
            joint = step.model.fusion.joint(words, mask, tokens, torch.stack([text, image], 1))
            logits = self.head(joint).float()
        return {"pollute": F.cross_entropy(logits, kind)}


class TagMlm(Words):
    """Masked tags, from the caption, the other tags and the regions: OSCAR masks words and tags
    alike (section 3, masked token loss)."""

    name = "tag_mlm"
    needs = {"fusion.tags"}

    @dataclass(frozen=True)
    class Options(Words.Options):
        share: float = 0.15  # of the tags

    def loss(self, step: Step) -> dict[str, Tensor]:
        fusion, part = step.model.fusion, step.first(self.options.pairs)
        tags = tags_of(step.features["image.tokens"][part], fusion.tags)  # [q, g]
        chosen = torch.rand(tags.shape, generator=step.generator).to(tags.device)
        chosen = chosen < self.options.share
        total, own = chosen.sum(), own_rows(part.stop)
        step, tags, chosen = step.of(own), tags[own], chosen[own]
        tokens, mask = step.features["image.tokens"], step.batch.whole["text.mask"]
        masked = tags.masked_fill(chosen, step.model.pooler.concepts.count)
        row = torch.arange(len(tokens), device=step.device)
        pairs = torch.stack([row, row], 1)
        with step.precision(step.device):
            words = step.features["text.tokens"]
            states = fusion.read(words, mask, with_tags(tokens, masked), pairs, False)[1]
            logits = self.logits(step, states[chosen])  # [k, v]
        names = fusion.tag_ids(tokens)[chosen]
        loss = F.cross_entropy(logits, names, reduction="sum") / max(1, len(names))
        return {"tag_mlm": weight(chosen.sum(), total) * loss}


class SecondCaption(Objective):
    """Two captions before an image, of which the second is another image's with probability ½
    (VisualBERT, Li et al. 2019, arXiv:1908.03557, section 3.3: sentence-image prediction)."""

    name = "second_caption"
    needs = {"fusion.segments", "further.embedding"}

    @dataclass(frozen=True)
    class Options(Objective.Options):
        pairs: int = 128  # of the batch that it reads

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.head = nn.Linear(model.fusion.width, 1)

    @classmethod
    def reads(cls, options: Options) -> set[str]:
        return {"further.embedding"}

    def captions(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """→ tokens of both captions [q, t + s, w], their mask, and whether the second fits [q]."""
        model, whole, rows = step.model, step.batch.whole, slice(0, self.options.pairs)
        ids, mask = whole["text.ids"][rows], whole["text.mask"][rows]
        second, second_mask = whole["further.ids"][rows, 0], whole["further.mask"][rows, 0]
        fits = torch.rand(len(ids), generator=step.generator).to(step.device) > 0.5
        at = torch.arange(len(ids), device=step.device)
        at = torch.where(fits, at, at.roll(1))
        second, second_mask = second[at, 1:], second_mask[at, 1:]  # one [CLS] is enough
        tokens = model.text.embed(torch.cat([ids, second], 1)).float()
        first, other = tokens.split([ids.shape[1], second.shape[1]], 1)
        tokens = torch.cat([first, model.fusion.second(other)], 1)
        return tokens, torch.cat([mask, second_mask], 1), fits

    def loss(self, step: Step) -> dict[str, Tensor]:
        with step.precision(step.device):
            tokens, mask, fits = self.captions(step)
            row = torch.arange(len(tokens), device=step.device)
            images = step.features["image.tokens"][: len(row)]
            pairs = torch.stack([row, row], 1)
            logits = self.head(step.model.fusion.joint(tokens, mask, images, pairs))
        loss = F.binary_cross_entropy_with_logits(logits.squeeze(-1).float(), fits.float())
        return {"second_caption": loss}


class MlmAlone(Mlm):
    """Masked language modelling by the fusion without an image, as VL-BERT reads text alone (Su et
    al. 2019, arXiv:1908.08530, section 3.3)."""

    name = "mlm_alone"
    needs = {"fusion.segments", "text.words"}

    def states(self, step: Step, text_tokens: Tensor, causal: bool = False) -> Tensor:
        mask = step.batch.whole["text.mask"][: len(text_tokens)]
        row = torch.arange(len(text_tokens), device=step.device)
        none = step.features["image.tokens"][: len(row), :0]
        return step.model.fusion.hidden(text_tokens, mask, none, torch.stack([row, row], 1))[0]
