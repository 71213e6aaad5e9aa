"""The batches of a run. A batch depends on seed and number alone, so that runs resume exactly."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from .. import distributed
from ..data.cache import FreshViews, TrunkCache
from ..data.draws import Shuffle
from ..data.phrases import given_phrases, noun_phrases, phrase_tensors
from ..data.samples import Sample
from ..data.tokens import cut, drop_words, pad
from ..models.model import Tandem
from ..objectives.features import Batch, Precision, Tensors
from ..recipe import Recipe
from .second_text import SecondTextInput
from .visual_tokens import VisualTokens

FRESH = 2**31  # views to draw from where each is cut anew
ABSENT = -1  # id of no token
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
        # Ids of words that a mirror exchanges; a vocabulary that lacks one keeps both.
        left, right = (tokenizer.token_to_id(word) for word in ("left", "right"))
        self.sides = (ABSENT, ABSENT) if left is None or right is None else (left, right)
        # Sentence vectors of each image's captions, where a teacher gives some.
        self.sentences: list[Tensor] = []
        self.inputs: list[SecondTextInput] = []
        self.phrases = Phrases(recipe, samples, tokenizer) if recipe.needs("text.phrases") else None
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
        mirrored = self.activations.mirrored(views, drawn.images)  # bool [b]
        ids = self._sides(ids, mirrored)
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
        if self.phrases:
            whole |= self.phrases.batch(drawn.images, ids, mask, mirrored)
        if self.visual:
            whole["visual.ids"] = self.visual.batch(views, drawn.images)
        further = [(p, more) for p, c in chosen for more in self.shuffle.further(p, c, drawn.rng)]
        shape = (len(chosen), self.data.captions - 1)
        if further:
            ids, mask = self._words(further, drawn.rng)
            ids = self._sides(ids, mirrored.repeat(shape[1])).unflatten(0, shape)
            mask = mask.unflatten(0, shape)
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

    def _sides(self, ids: Tensor, mirrored: np.ndarray) -> Tensor:
        """Token ids [b, t] with "left" and "right" exchanged where the image is mirrored."""
        left, right = self.sides
        turned = torch.where(ids == left, right, torch.where(ids == right, left, ids))
        return torch.where(torch.from_numpy(mirrored)[:, None], turned, ids)

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


class Phrases:
    """The phrases of captions, with the boxes that the shards have for them. ValueError where there
    are boxes and views are crops, which have others."""

    def __init__(self, recipe: Recipe, samples: list[Sample], tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.regions = [
            [(tokenizer.encode(text, add_special_tokens=False).ids, box) for text, box in s.regions]
            for s in samples
        ]
        if any(self.regions) and recipe.data.views not in (1, 2):
            raise ValueError(
                f"[data] views = {recipe.data.views}, but {recipe.data.train} has boxes, which "
                "hold for the image and its mirror image alone: views = 2"
            )

    def batch(self, images: np.ndarray, ids: Tensor, mask: Tensor, mirrored: np.ndarray) -> Tensors:
        """Of the texts [b, t] of those images, mirrored or not [b]. A caption that no given phrase
        is in has its noun phrases, whose boxes are unknown."""
        rows = []
        for image, row, length in zip(images, ids.tolist(), mask.sum(1).tolist(), strict=True):
            pieces = [self.tokenizer.id_to_token(i) or "" for i in row[:length]]
            given = given_phrases(row[:length], self.regions[image])
            rows.append(given or noun_phrases(pieces))
        return phrase_tensors(rows, mirrored, ids.shape[1])
