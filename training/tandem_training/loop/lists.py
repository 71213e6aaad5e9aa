"""Lists of images and captions that a search would confuse, drawn from frozen embeddings."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.tokens import pad_tokens
from ..evaluation.retrieval import Encoded
from ..models.vision.vision import dequantise_tokens
from ..objectives.features import Batch
from ..objectives.lists import Lists
from ..recipe import DataConfig, TrainConfig


@dataclass
class Epochs:
    """As many steps an epoch as batches of different images."""

    steps_per_epoch: int

    def state(self) -> dict:
        return {"steps_per_epoch": self.steps_per_epoch}

    def check(self, state: dict) -> None:
        """ValueError where the state is that of another run."""
        if state != self.state():
            raise ValueError(f"the run in the folder drew {state}, this one draws {self.state()}")


class ListBatches:
    """A batch is a function of seed and number. Images with a caption are drawn. To every other of
    them come images near the caption, to the rest captions near the image, from the nearest ones
    in a random gallery by the similarity that a search recalls by. An image that comes brings a
    caption of its own, a caption its image. Every caption is scored with every image."""

    def __init__(
        self, encoded: Encoded, options: Lists.Options, data: DataConfig, train: TrainConfig
    ):
        images = len(encoded.samples)
        if images < options.size + 1:
            raise ValueError(f"lists of {options.size} images need more than {images} images")
        self.encoded, self.options, self.data, self.train = encoded, options, data, train
        self.anchors = max(1, train.batch // options.size)
        self.shuffle = Epochs(max(1, images // train.batch))
        self.captions_of = np.split(
            np.arange(len(encoded.image_of)),
            np.flatnonzero(np.diff(encoded.image_of)) + 1,
        )
        mean = np.stack([encoded.text_embedding[rows].mean(0) for rows in self.captions_of])
        self.about = mean / np.linalg.norm(mean, axis=1, keepdims=True)  # of an image's captions

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng([self.train.seed, 2, number])
        images, captions = self._draw(rng)
        encoded = self.encoded
        texts, mask = pad_tokens(
            [_drop(encoded.text_tokens[c], self.data, rng) for c in captions]
        )  # [b, t, w]
        cells = torch.from_numpy(encoded.image_tokens[images])
        kept = rng.permutation(cells.shape[1])
        kept = kept[: max(1, round(len(kept) * (1 - self.options.cell_dropout)))]
        inputs = {
            "text.tokens": torch.from_numpy(texts),
            "text.embedding": _rows(encoded.text_embedding, captions),
            "image.tokens": dequantise_tokens(cells[:, torch.from_numpy(np.sort(kept))]),
            "image.embedding": _rows(encoded.image_embedding, images),
        }
        whole = {
            "image.ids": torch.from_numpy(images),
            "text.mask": torch.from_numpy(mask),
            "sentence.text": _rows(encoded.text_embedding, captions),
            "sentence.image": _rows(self.about, images),
        }
        return Batch(inputs, whole)

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Different images, and a caption of each: int64 [b] both, `train.batch` at most."""
        gallery = np.sort(rng.permutation(len(self.encoded.samples))[: self.options.gallery])
        drawn: dict[int, int] = {}
        for number, image in enumerate(rng.choice(gallery, self.anchors, replace=False)):
            caption = int(rng.choice(self.captions_of[image]))
            drawn.setdefault(int(image), caption)
            near = self._near_images if number % 2 == 0 else self._near_captions
            for other, its in near(image, caption, gallery, rng):
                drawn.setdefault(other, its)
        return np.array(list(drawn)), np.array(list(drawn.values()))

    def _near_images(
        self, image: int, caption: int, gallery: np.ndarray, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Images that a search by the caption confuses with its own, each with any caption."""
        encoded, options = self.encoded, self.options
        similarity = encoded.image_embedding[gallery] @ encoded.text_embedding[caption]
        near = gallery[np.argsort(-similarity, kind="stable")]
        near = near[near != image][: options.nearest]
        chosen = rng.permutation(near)[: options.size - 1]
        return [(int(other), int(rng.choice(self.captions_of[other]))) for other in chosen]

    def _near_captions(
        self, image: int, caption: int, gallery: np.ndarray, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Captions that a search by the image confuses with its own, each with its image."""
        encoded, options = self.encoded, self.options
        captions = np.concatenate([self.captions_of[other] for other in gallery])
        similarity = encoded.text_embedding[captions] @ encoded.image_embedding[image]
        near = captions[np.argsort(-similarity, kind="stable")]
        near = near[encoded.image_of[near] != image][: options.nearest]
        chosen = rng.permutation(near)[: options.size - 1]
        return [(int(encoded.image_of[other]), int(other)) for other in chosen]


def _rows(table: np.ndarray, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(table[rows])


def _drop(tokens: np.ndarray, data: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """At most `caption_tokens` tokens of a text, without a share `word_dropout` of the words; the
    first token and the last stay."""
    if len(tokens) > data.caption_tokens:
        tokens = np.concatenate([tokens[: data.caption_tokens - 1], tokens[-1:]])
    keep = rng.random(len(tokens)) >= data.word_dropout
    keep[[0, -1]] = True
    return tokens[keep].astype(np.float32)
