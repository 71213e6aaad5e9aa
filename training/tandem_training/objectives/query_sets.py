"""Sets of queries that find what phrases name."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.fusion.queries import QueryDecoder
from ..models.model import Tandem
from .boxes import box_loss, matched
from .objective import Step
from .phrases import Grounded, Targets

NOTHING = 0.1  # weight of a query that stands for no target (DETR)


class SetPrediction(Grounded):
    """Queries predict boxes and classes, the last of which is "nothing". Each target goes to one
    query, by the Hungarian algorithm (DETR, arXiv:2005.12872)."""

    classify: nn.Linear  # state of a query → logits of its classes

    def decoded(self, step: Step) -> tuple[Tensor, Tensor]:
        """States [q, n, w] and boxes [q, n, 4] of the queries, for the first rows."""
        raise NotImplementedError

    def classes(self, targets: Targets) -> Tensor:
        """The distribution over the classes that each target asks for [k, c]."""
        raise NotImplementedError

    def loss(self, step: Step) -> dict[str, Tensor]:
        targets = self.targets(step)
        states, boxes = self.decoded(step)
        log_p = self.classify(states).float().log_softmax(-1)  # [q, n, c]
        wanted, rows = self.classes(targets).to(log_p), targets.rows
        fits = (log_p.exp()[rows] * wanted[:, None]).sum(-1)  # [k, n]
        query = matched(fits, boxes, targets.boxes, rows)
        asked = torch.zeros_like(log_p)
        asked[..., -1] = NOTHING
        asked = asked.index_put((rows, query), wanted)
        loss = -(asked * log_p).sum() / max(1, len(rows))
        loss = loss + box_loss(boxes[rows, query], targets.boxes)
        return {self.name: loss + self.further(step, targets, states, query)}

    def further(self, step: Step, targets: Targets, states: Tensor, query: Tensor) -> Tensor:
        """A term of its own, from the query of each target [k]."""
        return states.new_zeros(())


def alignment_loss(scores: Tensor, words: Tensor, rows: Tensor, query: Tensor) -> Tensor:
    """Contrastive alignment of queries and words, both ways (MDETR, arXiv:2104.12763, section 2.2;
    its code, models/mdetr.py): scores [q, n, t], padding far below 0; words bool [k, t] of each
    target; its row and query [k]. A query with its words against all words of the text, a word
    with its queries against all queries; mean over targets."""
    fits = torch.zeros_like(scores, dtype=torch.bool)
    fits[rows, query] = words
    total = 0
    for axis in (2, 1):
        count = fits.sum(axis)
        own = scores.masked_fill(~fits, 0).sum(axis) / count.clamp(min=1)
        total = total + (scores.logsumexp(axis) - own)[count > 0].sum()
    return total / 2 / max(1, len(rows))


class SoftTokens(SetPrediction):
    """A query's classes are the places of the text: it spreads its probability evenly over the
    words of its phrase (MDETR, section 2.2, soft token prediction)."""

    name = "soft_tokens"
    needs = SetPrediction.needs | {"fusion.queries"}

    @dataclass(frozen=True)
    class Options(SetPrediction.Options):
        places: int = 24  # of a text
        align: float = 1.0  # weight of the contrastive alignment

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.classify = nn.Linear(model.fusion.width, options.places + 1)

    def decoded(self, step: Step) -> tuple[Tensor, Tensor]:
        fusion, (text, image) = step.model.fusion, self.states(step)
        with step.precision(step.device):
            states = fusion.found(text, image, step.batch.whole["text.mask"][: len(text)])
            return states.float(), fusion.decoder.boxes(states)

    def classes(self, targets: Targets) -> Tensor:
        words = targets.words[:, : self.options.places].float()
        words = F.pad(words, (0, self.classify.out_features - words.shape[1]))
        return words / words.sum(1, keepdim=True).clamp(min=1)

    def further(self, step: Step, targets: Targets, states: Tensor, query: Tensor) -> Tensor:
        text, mask = self.states(step)[0], step.batch.whole["text.mask"][: len(states)]
        with step.precision(step.device):
            scores = step.model.fusion.scores(states, text)  # [q, n, t]
        scores = scores.masked_fill(mask[:, None] == 0, -1e4)
        loss = alignment_loss(scores, targets.words, targets.rows, query)
        return self.options.align * loss


class Detect(SetPrediction):
    """Objects of the image with their names, by queries over the states of its tokens: a decoder
    that only this objective has (E2E-VLP, Xu et al. 2021, arXiv:2106.01804)."""

    name = "detect"
    needs = SetPrediction.needs | {"fusion.image"}

    @dataclass(frozen=True)
    class Options(SetPrediction.Options):
        queries: int = 16
        layers: int = 2
        heads: int = 4

    def __init__(self, options: Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        width = model.fusion.width
        self.decoder = QueryDecoder(width, options.heads, options.layers, options.queries, 0.0)
        self.classify = nn.Linear(width, model.pooler.concepts.count + 1)

    def targets(self, step: Step) -> Targets:
        """Those that have a name."""
        every = super().targets(step)
        named = every.names >= 0
        return Targets(*(part[named] for part in vars(every).values()))

    def decoded(self, step: Step) -> tuple[Tensor, Tensor]:
        image = self.states(step)[1]
        with step.precision(step.device):
            states = self.decoder(image)
            return states.float(), self.decoder.boxes(states)

    def classes(self, targets: Targets) -> Tensor:
        return F.one_hot(targets.names, self.classify.out_features)
