"""The contract of an objective: a small class with its options and its head."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..distributed import shared_out
from ..models.model import Tandem
from ..models.part import Table
from .features import Batch, Precision, Tensors, gathered, join, split


@dataclass(frozen=True)
class Vocabulary:
    """Ids of the text encoder's tokenizer."""

    size: int
    mask: int | None  # of [MASK]
    special: tuple[int, ...]  # [MASK], [CLS] and so on
    pieces: tuple[str, ...] = ()  # by id

    @property
    def unknown(self) -> int:
        """Id of [UNK]; of the first token where there is none."""
        return self.pieces.index("[UNK]") if "[UNK]" in self.pieces else 0


@dataclass
class Step:
    """What an objective reads. `features` has the rows of all processes; the loss is the mean over
    processes of what each returns."""

    number: int  # of the batch, from 0
    model: Tandem
    average: Tandem  # its moving average, ALBEF's momentum encoder
    batch: Batch
    features: Tensors
    generator: torch.Generator  # of negatives and masks
    precision: Precision
    shared: dict = field(default_factory=dict)  # results that several objectives read
    chunk: int = 0  # rows that the moving average encodes at a time; 0: all

    @property
    def device(self) -> torch.device:
        return self.batch.whole["text.mask"].device

    @property
    def similarity_learnt(self) -> bool:
        """Or it says nothing of how hard a negative is."""
        learns = any(objective.aligns for objective in self.model.objectives.values())
        return learns or not self.model.text.project.weight.requires_grad

    def first(self, pairs: int) -> slice:
        """The first rows of the batch, `pairs` at most, as many as the processes can share out."""
        return slice(0, shared_out(min(pairs, len(self.batch.whole["text.mask"]))))

    def of(self, rows: slice) -> Step:
        """The same for some rows alone."""
        cut = lambda tensors: {name: x[rows] for name, x in tensors.items()}  # noqa: E731
        batch = Batch(self.batch.inputs, cut(self.batch.whole))
        return replace(self, batch=batch, features=cut(self.features), shared={})

    def similarity(self) -> Tensor:
        """Cosine of every text and image [b, b], a row a text."""
        return self.features["text.embedding"] @ self.features["image.embedding"].T

    def momentum(self) -> Tensors:
        """The features that the moving average gives to the same batch, without gradient."""
        if "momentum" not in self.shared:
            names = ("image.activations", "image.ids", "text.ids", "text.mask")
            inputs = {name: x for name, x in self.batch.inputs.items() if name in names}
            if "image.other" in self.batch.inputs:
                inputs["image.activations"] = self.batch.inputs["image.other"]
            parts = split(inputs, self.chunk) if self.chunk else [inputs]
            average = self.average.eval()
            with torch.no_grad(), self.precision(self.device):
                features = join([average(part) for part in parts])
            self.shared["momentum"] = gathered(features)
        return self.shared["momentum"]

    def taught(self, share: float, rise: int) -> float:
        """A teacher's share of the target in this batch, which rises from 0 over `rise` batches."""
        return share * min(1.0, self.number / rise) if rise else share


class Objective(nn.Module):
    """Its parameters are part of the model, of the moving average and of the checkpoint."""

    name: ClassVar[str]
    needs: ClassVar[set[str]] = set()  # features without which it cannot be computed
    aligns: ClassVar[bool] = False  # whether it makes matching embeddings similar
    frees_scale: ClassVar[bool] = False  # whether `logit_scale` of the model has no limit
    teaches: ClassVar[set[str]] = set()  # parts; where all of them are frozen, it is refused

    @dataclass(frozen=True)
    class Options(Table):
        weight: float = 1.0

    def __init__(self, options: Options, model: Tandem, vocabulary: Vocabulary | None):
        super().__init__()
        self.options = options

    @classmethod
    def wants(cls, options: Options) -> set[str]:
        """What it needs with these options."""
        return cls.needs

    @classmethod
    def reads(cls, options: Options) -> set[str]:
        """Features of further inputs that it makes use of."""
        return set()

    def prepare(self, model: Tandem, captions: list[list[list[int]]]) -> None:
        """Take from the data what it needs, before the first step: the token ids of the captions of
        each image."""

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Named scalars, whose sum is the objective's loss."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop what only training reads: called on the moving average."""
