"""A batch before and after the encoders."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..distributed import gather
from ..models.model import Tandem

LENGTHS = 4  # groups of further captions, by length


@dataclass
class Batch:
    """One batch over all processes. inputs: what this process encodes of it, its rows of trunk
    activations [., c, h, w], token ids and mask [., t], where a photo has n captions those of the
    others [., n - 1, s], and where there is a second text encoder its token ids and mask [., u]. Of
    every row: token ids and mask [b, t] and the number of its photo [b]; where there is a teacher,
    its sentence vectors of the caption and of all captions of the photo, spoken and about [b, d],
    and of the other captions, further_spoken [b, n - 1, d]. told: the rows that have a caption for
    the second text encoder."""

    inputs: tuple[Tensor, ...]
    token_ids: Tensor
    mask: Tensor
    photos: Tensor
    spoken: Tensor | None = None
    about: Tensor | None = None
    further_spoken: Tensor | None = None
    told: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same on that device."""
        move = lambda tensor: None if tensor is None else tensor.to(device, non_blocking=True)  # noqa: E731
        inputs, *rest = (getattr(self, item.name) for item in fields(self))
        return Batch(tuple(move(tensor) for tensor in inputs), *(move(tensor) for tensor in rest))


@dataclass
class Towers:
    """A batch after the encoders: embeddings [b, d], text tokens [b, t, w], mask [b, t], image
    tokens [b, n, v]; further_embedding [b, n - 1, d] of the other captions of each photo."""

    text_embedding: Tensor
    text_tokens: Tensor
    mask: Tensor
    image_embedding: Tensor
    image_tokens: Tensor
    further_embedding: Tensor | None = None
    second_embedding: Tensor | None = None

    @property
    def similarity(self) -> Tensor:
        """[b, b], a row a text."""
        return self.text_embedding @ self.image_embedding.T

    def trained(self) -> list[Tensor]:
        """The outputs that a gradient can flow through."""
        outputs = (self.text_embedding, self.text_tokens, self.image_embedding, self.image_tokens)
        perhaps = (self.further_embedding, self.second_embedding)
        return [tensor for tensor in (*outputs, *perhaps) if tensor is not None]

    def gathered(self) -> "Towers":
        """The same of every process's rows."""
        return Towers(*(None if rows is None else gather(rows) for rows in self._rows()))

    def _rows(self) -> list[Tensor | None]:
        return [getattr(self, item.name) for item in fields(self)]

    @classmethod
    def join(cls, parts: list["Towers"]) -> "Towers":
        columns = zip(*(part._rows() for part in parts), strict=True)
        return cls(*(None if rows[0] is None else torch.cat(rows) for rows in columns))


def bfloat16(near: Tensor) -> torch.autocast:
    """Mixed precision on the device that `near` lies on."""
    return torch.autocast(near.device.type, torch.bfloat16)


def encode(model: Tandem, activations: Tensor, token_ids: Tensor, mask: Tensor) -> Towers:
    with bfloat16(mask):
        image_embedding, image_tokens = model.encode_activations(activations)
        text_embedding, text_tokens = model.encode_texts(token_ids, mask)
    return Towers(text_embedding, text_tokens, mask, image_embedding, image_tokens)


def encode_further(model: Tandem, token_ids: Tensor, mask: Tensor) -> Tensor:
    """Token ids and mask [b, n, t] → embeddings [b, n, d]. Captions of like length are padded
    together, which saves a third of the products."""
    flat_ids, flat_mask = token_ids.flatten(0, 1), mask.flatten(0, 1)
    order = flat_mask.sum(1).argsort()
    found = []
    with bfloat16(mask):
        for rows in order.chunk(LENGTHS):
            longest = int(flat_mask[rows].sum(1).max())
            found.append(model.encode_texts(flat_ids[rows, :longest], flat_mask[rows, :longest])[0])
    return torch.cat(found)[order.argsort()].unflatten(0, token_ids.shape[:2])
