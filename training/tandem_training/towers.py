"""A batch before and after the encoders."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .gather import gather
from .model import Tandem


@dataclass
class Batch:
    """One batch over all processes. inputs: what this process encodes of it, its rows of trunk activations
    [., c, h, w], token ids and mask [., t]. Of every row: token ids and mask [b, t] and the number of its photo [b];
    where there is a teacher, its sentence vectors of the caption and of all captions of the photo, spoken and about
    [b, d]."""

    inputs: tuple[Tensor, Tensor, Tensor]
    token_ids: Tensor
    mask: Tensor
    photos: Tensor
    spoken: Tensor | None = None
    about: Tensor | None = None


@dataclass
class Towers:
    """A batch after both encoders: embeddings [b, d], text tokens [b, t, w], mask [b, t], image tokens [b, n, v]."""

    text_embedding: Tensor
    text_tokens: Tensor
    mask: Tensor
    image_embedding: Tensor
    image_tokens: Tensor

    @property
    def similarity(self) -> Tensor:
        """[b, b], a row a text."""
        return self.text_embedding @ self.image_embedding.T

    def trained(self) -> list[Tensor]:
        """The outputs that a gradient can flow through."""
        return [self.text_embedding, self.text_tokens, self.image_embedding, self.image_tokens]

    def gathered(self) -> "Towers":
        """The same of every process's rows."""
        return Towers(*(gather(getattr(self, item.name)) for item in fields(self)))

    @classmethod
    def join(cls, parts: list["Towers"]) -> "Towers":
        return cls(*(torch.cat([getattr(part, item.name) for part in parts]) for item in fields(cls)))


def bfloat16(near: Tensor) -> torch.autocast:
    """Mixed precision on the device that `near` lies on."""
    return torch.autocast(near.device.type, torch.bfloat16)


def encode(model: Tandem, activations: Tensor, token_ids: Tensor, mask: Tensor) -> Towers:
    with bfloat16(mask):
        image_embedding, image_tokens = model.encode_activations(activations)
        text_embedding, text_tokens = model.encode_texts(token_ids, mask)
    return Towers(text_embedding, text_tokens, mask, image_embedding, image_tokens)
