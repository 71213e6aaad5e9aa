"""The images and captions of a step: a function of seed and step.

So a resumed run draws what an unbroken one draws, and a checkpoint keeps only what the draws depend
on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from ..recipe import DataConfig, TrainConfig
from .samples import Sample
from .tokens import cut, drop_words, pad


@dataclass
class Drawn:
    """The draws of a batch of b pairs."""

    images: np.ndarray  # int64 [b], rows of the samples
    captions: list[int]  # [b], rows of the sample's captions
    rng: np.random.Generator  # for the other draws of the batch


class Shuffle:
    """Every image once an epoch, in a new order each epoch, each time with one drawn caption.

    `data.captions` are drawn of each. ValueError if a step needs more images than there are."""

    def __init__(self, samples: Sequence[Sample], config: TrainConfig, data: DataConfig):
        self.samples, self.config, self.pattern = samples, config, data.train
        self.captions = data.captions
        step = config.batch * config.accumulate
        self.steps_per_epoch = len(samples) // step
        if self.steps_per_epoch == 0:
            times = f"{config.accumulate} × " if config.accumulate > 1 else ""
            raise ValueError(
                f"batch = {times}{config.batch}, but {data.train} holds only {len(samples)} images"
            )

    def draw(self, number: int) -> Drawn:
        """The draws of batch `number`; a step takes `accumulate` batches."""
        seed, batch = self.config.seed, self.config.batch
        epoch, at = divmod(number, self.steps_per_epoch * self.config.accumulate)
        order = np.random.default_rng([seed, 0, epoch]).permutation(len(self.samples))
        images = order[at * batch : (at + 1) * batch]
        rng = np.random.default_rng([seed, 1, number])
        drawn = (self.samples[image] for image in images)
        return Drawn(images, [_draw(s.captions, s.weights, rng) for s in drawn], rng)

    def further(self, image: int, caption: int, rng: np.random.Generator) -> list[int]:
        """Numbers of `captions` − 1 more captions of an image, beside the drawn one.

        None comes twice while there are enough."""
        sample, count = self.samples[image], self.captions - 1
        others = [c for c in range(len(sample.captions)) if c != caption] or [caption]
        weights = np.array([sample.weights[c] if sample.weights else 1.0 for c in others])
        order = rng.choice(others, len(others), replace=False, p=weights / weights.sum())
        return np.resize(order, count).tolist()

    def state(self) -> dict:
        """What the draws depend on, apart from the step."""
        content = [
            [s.key, s.captions, s.weights] + [[s.second, s.second_weights]] * bool(s.second)
            for s in self.samples
        ]
        fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        state = {name: getattr(self.config, name) for name in ("seed", "batch", "accumulate")}
        return state | {"captions": self.captions, "samples": fingerprint}

    def check(self, saved: dict) -> None:
        """ValueError if `saved`, the state in a checkpoint, differs from this run's."""
        now = self.state()
        for name, then in saved.items():
            if now[name] != then:
                what = f"images or captions of {self.pattern}" if name == "samples" else name
                raise ValueError(
                    f"the run to resume has another {what}: {then}, now {now[name]}; "
                    "use another --out"
                )


class SecondCaptions:
    """The captions that a second text encoder reads, cut to `longest` tokens."""

    def __init__(self, samples: Sequence[Sample], tokenizer: Tokenizer, longest: int):
        self.samples = samples
        self.token_ids = [
            [cut(encoding.ids, longest) for encoding in tokenizer.encode_batch(sample.second)]
            for sample in samples
        ]
        self.empty, self.unknown = tokenizer.encode("").ids, tokenizer.token_to_id("[UNK]")

    def draw(
        self, images: np.ndarray, rng: np.random.Generator, word_dropout: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A caption of each image → token ids and mask [b, t], and the rows of the images that
        have one: int64 [at most b]."""
        rows = []
        for image in images:
            captions, weights = self.token_ids[image], self.samples[image].second_weights
            row = captions[_draw(captions, weights, rng)] if captions else self.empty
            rows.append(drop_words(row, word_dropout, self.unknown, rng))
        captioned = [row for row, image in enumerate(images) if self.token_ids[image]]
        return *pad(rows), torch.tensor(captioned, dtype=torch.int64)


def _draw(captions: Sequence, weights: list[float], rng: np.random.Generator) -> int:
    """Number of one of the captions: a language in proportion to its weight, then each of its
    captions alike."""
    return int(rng.choice(len(captions), p=weights) if weights else rng.integers(len(captions)))
