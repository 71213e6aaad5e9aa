"""The batches of a run. A batch depends on seed and number alone, so that runs resume exactly."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from .. import distributed
from ..data.cache import FreshViews, TrunkCache
from ..data.draws import Shuffle
from ..data.samples import Sample
from ..data.tokens import cut, drop_words, pad
from ..models.model import Tandem
from ..objectives.features import Batch, Precision, Tensors
from ..recipe import Recipe
from .second_text import SecondTextInput
from .visual_tokens import VisualTokens

FRESH = 2**31  # views to draw from where each is cut anew
UNKNOWN = 100  # [UNK] of the BERT vocabulary


class Batches:
    """Draws images, a view and captions of each, and puts them into named tensors."""

    def __init__(
        self,
        recipe: Recipe,
        samples: list[Sample],
        model: Tandem,
        tokenizer: Tokenizer,
        cache: Path,
        precision: Precision,
    ):
        self.recipe, self.data, self.samples = recipe, recipe.data, samples
        self.shuffle = Shuffle(samples, recipe.train, recipe.data)
        self.rows = distributed.own_rows(recipe.train.batch)
        size = recipe.model.vision.image_size
        with distributed.first_rank_first():
            self.activations = (
                TrunkCache(samples, model.vision, size, self.data.views, cache,
                           bfloat16=precision.bfloat16)
                if self.data.views
                else FreshViews(samples, model.vision, size)
            )  # fmt: skip
        self.captions = [[e.ids for e in tokenizer.encode_batch(s.captions)] for s in samples]
        # Sentence vectors of each image's captions, where a teacher gives some.
        self.sentences: list[Tensor] = []
        self.inputs: list[SecondTextInput] = []
        self.visual = None
        if count := recipe.codes():
            side, views = round(model.cells**0.5), self.data.views
            with distributed.first_rank_first():
                self.visual = VisualTokens(
                    samples, size, views, side, count, cache, precision.bfloat16
                )

    def __getitem__(self, number: int) -> Batch:
        drawn, own = self.shuffle.draw(number), self.rows
        chosen = list(zip(drawn.images, drawn.captions, strict=True))
        ids, mask = self._words(chosen, drawn.rng)  # [b, t]
        views = drawn.rng.integers(0, self.data.views or FRESH, len(chosen))
        inputs = {
            "image.activations": self.activations.batch(views[own], drawn.images[own]),
            "image.ids": torch.from_numpy(drawn.images[own]),
            "text.ids": ids[own],
            "text.mask": mask[own],
        }
        if self.recipe.needs("image.other"):
            others = drawn.rng.integers(0, self.data.views or FRESH, len(chosen))
            inputs["image.other"] = self.activations.batch(others[own], drawn.images[own])
        whole = {"image.ids": torch.from_numpy(drawn.images), "text.ids": ids, "text.mask": mask}
        if self.visual:
            whole["visual.ids"] = self.visual.batch(views, drawn.images)
        further = [(p, more) for p, c in chosen for more in self.shuffle.further(p, c, drawn.rng)]
        shape = (len(chosen), self.data.captions - 1)
        if further:
            ids, mask = (rows.unflatten(0, shape) for rows in self._words(further, drawn.rng))
            inputs |= {"further.ids": ids[own], "further.mask": mask[own]}  # [., captions - 1, s]
            whole |= {"further.ids": ids, "further.mask": mask}
        for source in self.inputs:
            rows, others = source.draw(drawn.images, number)
            inputs |= {name: tensor[own] for name, tensor in rows.items()}
            whole |= others
        if self.sentences:
            whole |= self._teacher(chosen, further, shape)
        return Batch(inputs, whole)

    def _words(
        self, chosen: list[tuple[int, int]], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Token ids and mask of those (image, caption), with some words hidden."""
        longest, hidden = self.data.caption_tokens, self.data.word_dropout
        return pad(
            [drop_words(cut(self.captions[p][c], longest), hidden, UNKNOWN, rng) for p, c in chosen]
        )

    def _teacher(self, chosen: list, further: list, shape: tuple[int, int]) -> Tensors:
        vectors = self.sentences
        teacher = {
            "sentence.text": torch.stack([vectors[p][c] for p, c in chosen]),  # [b, d]
            "sentence.image": torch.stack([vectors[p].mean(0) for p, _ in chosen]),  # [b, d]
        }
        if further:
            rows = torch.stack([vectors[p][c] for p, c in further])
            teacher["sentence.further"] = rows.unflatten(0, shape)  # [b, captions - 1, d]
        return teacher
