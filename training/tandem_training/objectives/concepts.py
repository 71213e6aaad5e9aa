"""Names of regions and tags of images, learnt from captions alone."""

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.function_words import FUNCTION_WORDS
from ..distributed import gather
from ..models.model import Tandem
from ..models.vision.region_tokens import features_of
from .objective import Objective, Step

POWER, MARGIN = 4, 0.05  # of the asymmetric loss


def asymmetric_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Of many labels [b, k] of which few hold: a label that does not hold counts by p⁴, and not at
    all below p = .05 (Ridnik et al. 2020, arXiv:2009.14119, equations 4 to 7; from memory). The sum
    over labels, the mean over images."""
    p = logits.sigmoid()
    shifted = (p - MARGIN).clamp(min=0)
    holds = -F.logsigmoid(logits)
    fails = -(1 - shifted).clamp(min=1e-6).log() * shifted**POWER
    return torch.where(target, holds, fails).sum(1).mean()


def frequent_words(captions: list[list[list[int]]], pieces: tuple[str, ...], count: int,
                   special: tuple[int, ...]) -> list[int]:  # fmt: skip
    """Ids of the `count` words that most images' captions have. Function words, pieces of words
    and signs name nothing."""
    images: Counter = Counter()
    for image in captions:
        images.update(set().union(*image))
    names = (
        i
        for i, _ in images.most_common()
        if i not in special and pieces[i].isalpha() and pieces[i] not in FUNCTION_WORDS
    )
    return [name for name, _ in zip(names, range(count), strict=False)]


class ConceptLabels(Objective):
    """Multiple-instance learning: a word of an image's captions is in one of its tokens at least.
    Only the head learns; an image's own half of it (see `Concepts`)."""

    name = "concepts"
    needs = {"image.labels"}

    def __init__(self, options: Objective.Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.vocabulary, self.table = vocabulary, None

    def prepare(self, model: Tandem, captions: list[list[list[int]]]) -> None:
        """Choose the words, and note which of them each image's captions have."""
        concepts, words = self.named(model), self.vocabulary
        names = frequent_words(captions, words.pieces, concepts.count, words.special)
        concepts.words[: len(names)] = torch.tensor(names, dtype=torch.int64)
        concepts.words[-1] = words.special[-1] if words.mask is None else words.mask
        place = {name: at for at, name in enumerate(names)}
        self.table = torch.zeros(len(captions), concepts.count, dtype=torch.bool)
        for row, image in enumerate(captions):
            found = [place[i] for i in set().union(*image) if i in place]
            self.table[row, found] = True

    def named(self, model: Tandem) -> nn.Module:
        """What names the words, with their `count` and the ids `words`."""
        return model.pooler.concepts

    def loss(self, step: Step) -> dict[str, Tensor]:
        pooler, ids = step.model.pooler, step.batch.whole["image.ids"]
        tokens = step.features["image.tokens"].detach()
        features = features_of(tokens) if pooler.places else tokens
        logits = pooler.concepts.image_logits(pooler.concepts.learning(features, ids))
        target = self.table[ids.cpu()].to(logits.device)
        return {"concepts": asymmetric_loss(logits, target)}

    def forget(self) -> None:
        self.table = None


class ProposalLabels(ConceptLabels):
    """Which anchors hold what the captions name: every anchor votes for the words, and its share
    among all anchors is a softmax of its objectness (WSDDN, Bilen and Vedaldi 2016,
    arXiv:1511.02853, section 3; from memory). Only the objectness stays."""

    name = "proposals"
    needs = {"image.proposals", "image.labels"}

    def __init__(self, options: Objective.Options, model: Tandem, vocabulary):
        super().__init__(options, model, vocabulary)
        self.classify = nn.Linear(model.vision.cells, model.pooler.concepts.count)

    def loss(self, step: Step) -> dict[str, Tensor]:
        vision, ids = step.model.vision, step.batch.whole["image.ids"]
        features = vision.anchor_features(gather(step.batch.inputs["image.activations"]))
        share = vision.objectness(features).softmax(1)  # [b, a, 1]
        logits = (share * self.classify(features)).sum(1)  # [b, count]
        return {"proposals": asymmetric_loss(logits, self.table[ids.cpu()].to(logits.device))}
