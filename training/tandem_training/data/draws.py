"""Which photos, captions and views a step sees: a function of seed and step, so a resumed run sees
what an unbroken one sees. The state to keep in a checkpoint is therefore small: what the draws were
made from."""

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
    """One step's draws: photos [b] (their number), captions [b] (which of the photo's), views [b];
    `rng` goes on to whatever else the step draws."""

    photos: np.ndarray
    captions: list[int]
    rng: np.random.Generator


class Shuffle:
    """Every photo once an epoch, in an order of its own each epoch, with one of its captions drawn
    each time."""

    def __init__(self, samples: Sequence[Sample], config: TrainConfig, data: DataConfig):
        self.samples, self.config, self.pattern = samples, config, data.train
        self.captions = data.captions
        step = config.batch * config.accumulate
        self.steps_per_epoch = len(samples) // step
        if self.steps_per_epoch == 0:
            asked = f"{config.accumulate} × " if config.accumulate > 1 else ""
            raise ValueError(
                f"batch = {asked}{config.batch}, but {data.train} holds only {len(samples)} photos"
            )

    def draw(self, number: int) -> Drawn:
        """The batch of that number; a step takes `accumulate` of them."""
        seed, batch = self.config.seed, self.config.batch
        epoch, at = divmod(number, self.steps_per_epoch * self.config.accumulate)
        order = np.random.default_rng([seed, 0, epoch]).permutation(len(self.samples))
        photos = order[at * batch : (at + 1) * batch]
        rng = np.random.default_rng([seed, 1, number])
        return Drawn(
            photos,
            [_draw(s.captions, s.weights, rng) for s in map(self.samples.__getitem__, photos)],
            rng,
        )

    def further(self, photo: int, caption: int, rng: np.random.Generator) -> list[int]:
        """The captions of a photo that go with the one that was drawn, none twice while there are
        enough."""
        sample, count = self.samples[photo], self.captions - 1
        others = [c for c in range(len(sample.captions)) if c != caption] or [caption]
        weights = (
            np.array([sample.weights[c] for c in others])
            if sample.weights
            else np.ones(len(others))
        )
        order = rng.choice(others, len(others), replace=False, p=weights / weights.sum())
        return np.resize(order, count).tolist()

    def state(self) -> dict:
        """What the draws depend on, beside the step."""
        told = [
            [s.key, s.captions, s.weights] + [[s.second, s.second_weights]] * bool(s.second)
            for s in self.samples
        ]
        content = json.dumps(told).encode()
        fingerprint = hashlib.sha256(content).hexdigest()[:16]
        kept = {name: getattr(self.config, name) for name in ("seed", "batch", "accumulate")}
        return kept | {"captions": self.captions, "samples": fingerprint}

    def check(self, saved: dict) -> None:
        """ValueError when a checkpoint's state says that its run drew from something else."""
        now = self.state()
        for name, then in saved.items():
            if now[name] != then:
                what = f"photos or captions of {self.pattern}" if name == "samples" else name
                raise ValueError(
                    f"the run to resume has another {what}: {then}, now {now[name]}; use another --out"
                )


class SecondCaptions:
    """What a second text encoder reads: the captions of every photo in its languages, `longest`
    tokens at most."""

    def __init__(self, samples: Sequence[Sample], tokenizer: Tokenizer, longest: int):
        self.samples = samples
        self.token_ids = [
            [cut(e.ids, longest) for e in found]
            for found in (tokenizer.encode_batch(sample.second) for sample in samples)
        ]
        self.nothing, self.unknown = tokenizer.encode("").ids, tokenizer.token_to_id("[UNK]")

    def draw(
        self, photos: np.ndarray, rng: np.random.Generator, word_dropout: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A caption of each photo → token ids and mask [b, t], and the rows of those photos that
        have one."""
        rows = []
        for photo in photos:
            found, weights = self.token_ids[photo], self.samples[photo].second_weights
            row = found[_draw(found, weights, rng)] if found else self.nothing
            rows.append(drop_words(row, word_dropout, self.unknown, rng))
        told = torch.tensor(
            [row for row, photo in enumerate(photos) if self.token_ids[photo]], dtype=torch.int64
        )
        return *pad(rows), told


def _draw(captions: Sequence, weights: list[float], rng: np.random.Generator) -> int:
    """Number of one of the captions: a language in proportion to its weight, then each of its
    captions alike."""
    return int(rng.choice(len(captions), p=weights) if weights else rng.integers(len(captions)))
