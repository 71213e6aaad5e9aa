"""Which photos, captions and views a step sees: a function of seed and step, so a resumed run sees what an unbroken one
sees. The state to keep in a checkpoint is therefore small: what the draws were made from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .data import Sample
from .recipe import TrainConfig


@dataclass
class Drawn:
    """One step's draws: photos [b] (their number), captions [b] (which of the photo's), views [b]; `rng` goes on to
    whatever else the step draws."""

    photos: np.ndarray
    captions: list[int]
    rng: np.random.Generator


class Shuffle:
    """Every photo once an epoch, in an order of its own each epoch, with one of its captions drawn each time."""

    def __init__(self, samples: Sequence[Sample], config: TrainConfig, pattern: str):
        self.samples, self.config, self.pattern = samples, config, pattern
        step = config.batch * config.accumulate
        self.steps_per_epoch = len(samples) // step
        if self.steps_per_epoch == 0:
            asked = f"{config.accumulate} × " if config.accumulate > 1 else ""
            raise ValueError(f"batch = {asked}{config.batch}, but {pattern} holds only {len(samples)} photos")

    def draw(self, number: int) -> Drawn:
        """The batch of that number; a step takes `accumulate` of them."""
        seed, batch = self.config.seed, self.config.batch
        epoch, at = divmod(number, self.steps_per_epoch * self.config.accumulate)
        order = np.random.default_rng([seed, 0, epoch]).permutation(len(self.samples))
        photos = order[at * batch : (at + 1) * batch]
        rng = np.random.default_rng([seed, 1, number])
        return Drawn(photos, [_caption(self.samples[p], rng) for p in photos], rng)

    def state(self) -> dict:
        """What the draws depend on, beside the step."""
        content = json.dumps([[s.key, s.captions, s.weights] for s in self.samples]).encode()
        fingerprint = hashlib.sha256(content).hexdigest()[:16]
        config = self.config
        return {"seed": config.seed, "batch": config.batch, "accumulate": config.accumulate, "samples": fingerprint}

    def check(self, saved: dict) -> None:
        """ValueError when a checkpoint's state says that its run drew from something else."""
        now = self.state()
        for name, then in saved.items():
            if now[name] != then:
                what = f"photos or captions of {self.pattern}" if name == "samples" else name
                raise ValueError(f"the run to resume has another {what}: {then}, now {now[name]}; use another --out")


def _caption(sample: Sample, rng: np.random.Generator) -> int:
    """Number of one of its captions: a language in proportion to its weight, then each of its captions alike."""
    count = len(sample.captions)
    return int(rng.choice(count, p=sample.weights) if sample.weights else rng.integers(count))
