"""A batch before and after the encoders: dicts of named tensors, a row an image."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..distributed import gather

Tensors = dict[str, Tensor]


@dataclass
class Batch:
    """`inputs`: the rows that this process encodes. `whole`: what objectives read, of the rows of
    all processes. s words of a further caption, u of one for the second text encoder, d numbers of
    a sentence vector:

    inputs  "image.activations", of another view "image.other" [., c, h, w] · "image.ids" [.]
            "text.ids", "text.mask" [., t]
            "further.ids", "further.mask" [., captions - 1, s] · "second.ids", "second.mask" [., u]
    whole   "image.ids" [b] · "text.ids", "text.mask" [b, t]
            "further.ids", "further.mask" [b, captions - 1, s]
            "sentence.text", "sentence.image" [b, d] of the caption and of all captions of the image
            "sentence.further" [b, captions - 1, d] · "second.rows", which have a second caption
            "visual.ids" [b, n], a code of each cell
            "phrase.words" bool [b, p, t], the words of each phrase of the text
            "phrase.boxes" [b, p, 4], negative where unknown"""

    inputs: Tensors
    whole: Tensors

    def to(self, device: torch.device) -> "Batch":
        move = lambda tensors: {k: v.to(device, non_blocking=True) for k, v in tensors.items()}  # noqa: E731
        return Batch(move(self.inputs), move(self.whole))


def gathered(features: Tensors) -> Tensors:
    """The features of every process's rows, with gradient."""
    return {name: gather(rows) for name, rows in features.items()}


def split(tensors: Tensors, size: int) -> list[Tensors]:
    """Parts of `size` rows."""
    columns = zip(*(tensor.split(size) for tensor in tensors.values()), strict=True)
    return [dict(zip(tensors, rows, strict=True)) for rows in columns]


def join(parts: list[Tensors]) -> Tensors:
    """The rows of all parts; undoes `split`."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _has_bfloat16() -> bool:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    is_x86 = torch.cpu._is_avx2_supported()
    return not is_x86 or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@dataclass(frozen=True)
class Precision:
    """What matrix products are computed in while training."""

    bfloat16: bool

    @classmethod
    def of(cls, choice: str, device: torch.device) -> "Precision":
        """`float32`, `bfloat16`, or `auto`: bfloat16 on a GPU and on processors with instructions
        for it. Others emulate it: a transformer layer takes twice as long as in float32 with
        AVX-512, which oneDNN calls sufficient, and ten times as long with AVX2."""
        if choice != "auto":
            return cls(choice == "bfloat16")
        return cls(device.type != "cpu" or _has_bfloat16())

    def __call__(self, device: torch.device) -> AbstractContextManager:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16)

    def __str__(self) -> str:
        return "bfloat16" if self.bfloat16 else "float32"
