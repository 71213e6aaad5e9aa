"""Contrastive objectives: matching pairs are more similar than all others of the batch."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..distributed import gather, own_rows
from .matching import match_another
from .objective import Objective, Step
from .queue import Queue


def itc_loss(similarity: Tensor, logit_scale: Tensor, text_image_ids: Tensor, image_ids: Tensor,
             soft: Tensor | None = None, mix: float = 0.0,
             smoothing: float = 0.0) -> dict[str, Tensor]:  # fmt: skip
    """Image-text contrastive loss, both directions (CLIP, Radford et al. 2021, arXiv:2103.00020).

    similarity [q, m]: cosine of every text and image; logit_scale: log of the inverse temperature;
    text_image_ids [q] and image_ids [m] say which pairs match (several texts may share an image).
    `soft` [q, m], if given, is a teacher's similarity of text and image; a share
    `mix` of the target follows its softmax (soft targets as in ALBEF, arXiv:2107.07651); a share
    `smoothing` is spread evenly. Returns {"loss": scalar}."""
    logits = similarity * logit_scale.exp()
    positive = text_image_ids[:, None] == image_ids[None, :]
    there = _contrast(logits, positive, soft, mix, smoothing)
    back = _contrast(logits.T, positive.T, None if soft is None else soft.T, mix, smoothing)
    return {"loss": (there + back) / 2}


def momentum_itc_loss(text: Tensor, image: Tensor, momentum_text: Tensor, momentum_image: Tensor,
                      logit_scale: Tensor, ids: Tensor, momentum_ids: Tensor,
                      mix: float) -> dict[str, Tensor]:  # fmt: skip
    """ITC against a momentum encoder and a queue, with soft targets (ALBEF, arXiv:2107.07651; the
    queue is MoCo's, He et al. 2019, arXiv:1911.05722).

    text and image [b, d]: embeddings of the batch; momentum_text and momentum_image [b + queue, d]:
    the momentum encoder's of the same batch, in order, then of earlier batches; ids [b] and
    momentum_ids [b + queue] name the image of each row. A share `mix` of the target is the momentum
    encoder's own softmax. Returns {"loss": scalar}."""
    scale = logit_scale.exp()
    positive = ids[:, None] == momentum_ids[None, :]  # [b, b + queue]
    ways = []
    for own, momentum_own, others in (
        (text, momentum_text, momentum_image),
        (image, momentum_image, momentum_text),
    ):
        soft = (scale * momentum_own[: len(own)] @ others.T).detach()
        ways.append(_contrast(scale * own @ others.T, positive, soft, mix, smoothing=0.0))
    return {"loss": sum(ways) / 2}


def _contrast(
    logits: Tensor, positive: Tensor, soft: Tensor | None, mix: float, smoothing: float
) -> Tensor:
    """Mean cross-entropy of the rows of `logits` that have a positive; the positives of a row share
    its target."""
    target = positive / positive.sum(1, keepdim=True).clamp(min=1)
    if soft is not None and mix > 0:
        target = (1 - mix) * target + mix * soft.softmax(1)
    target = (1 - smoothing) * target + smoothing / target.shape[1]
    return -(target * logits.log_softmax(1)).sum(1)[positive.any(1)].mean()


class SoftContrast(Objective):
    """ITC whose target follows in part a frozen copy of the sentence encoder that the text encoder
    starts from."""

    @dataclass(frozen=True)
    class Options(Objective.Options):
        smoothing: float = 0.0  # share of the target that is spread evenly
        soft_mix: float = 0.3  # share of the target that follows the teacher
        soft_scale: float = 20.0  # inverse temperature of the teacher

    @classmethod
    def wants(cls, options: Options) -> set[str]:
        return cls.needs | ({"text.sentences"} if options.soft_mix > 0 else set())

    def contrast(self, similarity: Tensor, scale: Tensor, text_ids: Tensor, image_ids: Tensor,
                 sentences: Tensor | None, images: Tensor | None) -> Tensor:  # fmt: skip
        """similarity [q, m]; the sentence vectors of its texts [q, d] and images [m, d]."""
        options = self.options
        soft = None if sentences is None else sentences @ images.T * options.soft_scale
        return itc_loss(
            similarity, scale, text_ids, image_ids, soft, options.soft_mix, options.smoothing
        )["loss"]


class Itc(SoftContrast):
    """All captions of the batch with all its images."""

    name = "itc"
    needs = {"image.embedding", "text.embedding"}
    aligns = True
    teaches = {"vision", "text"}

    @dataclass(frozen=True)
    class Options(SoftContrast.Options):
        queue: int = 0  # pairs of the momentum encoder, then the teacher; 0: no such encoder
        soft_rise: int = 0  # batches until the momentum encoder's share has risen to soft_mix
        temperature: float = 0.05  # in the beginning
        equal_texts: bool = False  # match each other's images (UniCL)

    def __init__(self, options: Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        with torch.no_grad():
            model.logit_scale.fill_(-math.log(options.temperature))
        self.queue = Queue(options.queue, model.config.dim) if options.queue else None

    @classmethod
    def wants(cls, options: Options) -> set[str]:
        return cls.needs if options.queue else super().wants(options)

    @classmethod
    def reads(cls, options: Options) -> set[str]:
        return set() if options.queue else {"further.embedding"}

    def loss(self, step: Step) -> dict[str, Tensor]:
        features, whole, scale = step.features, step.batch.whole, step.model.logit_scale
        text, image = features["text.embedding"], features["image.embedding"]  # [b, dim]
        ids = whole["image.ids"]
        if self.options.equal_texts:
            same = ~match_another(ids, whole["text.ids"])
            ids = ids[same.float().argmax(1)]  # that of the first image with such a text
        if self.queue:
            return {"itc": self._against_momentum(step, text, image, ids)}
        sentences, text_ids = whole.get("sentence.text"), ids
        if "further.embedding" in features:
            further = features["further.embedding"]  # [b, captions - 1, dim]
            text = torch.cat([text, further.flatten(0, 1)])
            text_ids = torch.cat([ids, ids.repeat_interleave(further.shape[1])])
            if sentences is not None:
                sentences = torch.cat([sentences, whole["sentence.further"].flatten(0, 1)])
        images = whole.get("sentence.image")
        return {"itc": self.contrast(text @ image.T, scale, text_ids, ids, sentences, images)}

    def _against_momentum(self, step: Step, text: Tensor, image: Tensor, ids: Tensor) -> Tensor:
        guide = step.momentum()
        new = (guide["text.embedding"], guide["image.embedding"], ids)
        momentum = self.queue.behind(*new)
        self.queue.push(*new)
        mix = step.taught(self.options.soft_mix, self.options.soft_rise)
        scale = step.model.logit_scale
        return momentum_itc_loss(text, image, *momentum[:2], scale, ids, momentum[2], mix)["loss"]

    def forget(self) -> None:
        self.queue = None


class TokenItc(SoftContrast):
    """ITC on tokens, which aligns words with cells."""

    name = "token_itc"
    needs = {"token.similarity"}
    teaches = {"vision", "text"}

    @dataclass(frozen=True)
    class Options(SoftContrast.Options):
        pairs: int = 128  # of the batch that it reads: all tokens against all cells cost much

    def __init__(self, options: Options, model, vocabulary):
        super().__init__(options, model, vocabulary)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.05)))

    def loss(self, step: Step) -> dict[str, Tensor]:
        part, whole = step.first(self.options.pairs), step.batch.whole
        text, image = step.features["text.tokens"], step.features["image.tokens"][part]
        own = own_rows(part.stop)  # of the texts, each before all images
        with step.precision(step.device):
            mask = whole["text.mask"][own]
            similarity = step.model.fusion.token_similarity(text[own], mask, image).float()
        similarity = gather(similarity)  # [q, q]
        ids = whole["image.ids"][part]
        teacher = (
            whole[name][part] if name in whole else None
            for name in ("sentence.text", "sentence.image")
        )
        return {"token_itc": self.contrast(similarity, self.logit_scale, ids, ids, *teacher)}
